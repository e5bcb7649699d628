import { createWriteStream } from 'node:fs';
import { connect } from 'node:net';
import type { Writable } from 'node:stream';
import type { Packet } from '../base/packet/offload.ts';
import { wholeFrame } from '../base/packet/segmentation.ts';
import { CAPTURE_MODE, captureFlags } from './capture-file.ts';

/** A capture with nanoseconds, of Ethernet [draft-ietf-opsawg-pcap]: what tcpdump -r and Wireshark read. */
const MAGIC_NANOSECONDS = 0xa1b23c4d;
const VERSION = { major: 2, minor: 4 } as const;
const SNAP_BYTES_MAX = 262_144;
const LINK_ETHERNET = 1;
const HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
/** What is not written by then waits no longer: a guest is not held up by whoever looks on. */
const UNWRITTEN_BYTES_MAX = 16 * 1024 * 1024;
const BILLION = 1_000_000_000n;

/** Where the host's clock stood when its monotonic one did: times of one capture never go back. */
const EPOCH_NS = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

/**
 * Writes packets, as they pass a port, to a capture. A packet whose segments are still to be cut stands in it as one, its
 * checksums finished, as in a capture on any host whose network card does that. It ends with the first error, of which
 * one line tells, and never holds anything up.
 */
export class PcapWriter {
  readonly #to: Writable;
  readonly #say: (line: string) => void;
  readonly #name: string;
  #over = false;
  #lost = 0;

  constructor(to: Writable, name: string, say: (line: string) => void) {
    this.#to = to;
    this.#name = name;
    this.#say = say;
    to.on('error', (error: NodeJS.ErrnoException) => this.#end(reasonOf(error)));
    to.on('close', () => this.#end(undefined));
    to.write(fileHeader());
  }

  /** Into a new file [capture-file.ts], which holds what the guest sent and got. */
  static toFile(path: string, say: (line: string) => void): PcapWriter {
    const found = captureFlags(path);
    const flags = found.ok ? found.value : 'wx';
    return new PcapWriter(createWriteStream(path, { flags, mode: CAPTURE_MODE }), path, say);
  }

  /** To whoever listens on this unix socket. */
  static toSocket(path: string, say: (line: string) => void): PcapWriter {
    return new PcapWriter(connect(path), 'its reader', say);
  }

  get over(): boolean {
    return this.#over;
  }

  packet(packet: Packet): void {
    if (this.#over) return;
    if (this.#to.writableLength > UNWRITTEN_BYTES_MAX) {
      this.#lost += 1;
      return;
    }
    this.#to.write(record(wholeFrame(packet), EPOCH_NS + process.hrtime.bigint()));
  }

  /** Resolves when everything is written, or cannot be. */
  close(): Promise<void> {
    if (this.#over) return Promise.resolve();
    return new Promise((resolve) => {
      this.#to.once('close', resolve);
      this.#to.end();
    });
  }

  #end(reason: string | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (reason !== undefined) this.#say(`the capture to ${this.#name} has ended: ${reason}`);
    else if (this.#lost > 0)
      this.#say(`the capture to ${this.#name} lacks ${this.#lost} packets: it is too slow`);
  }
}

function fileHeader(): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC_NANOSECONDS, 0);
  header.writeUInt16LE(VERSION.major, 4);
  header.writeUInt16LE(VERSION.minor, 6);
  header.writeUInt32LE(SNAP_BYTES_MAX, 16);
  header.writeUInt32LE(LINK_ETHERNET, 20);
  return header;
}

function record(frame: Uint8Array, at: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES + frame.length);
  bytes.writeUInt32LE(Number(at / BILLION), 0);
  bytes.writeUInt32LE(Number(at % BILLION), 4);
  bytes.writeUInt32LE(frame.length, 8);
  bytes.writeUInt32LE(frame.length, 12);
  bytes.set(frame, RECORD_HEADER_BYTES);
  return bytes;
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'ENOSPC') return 'no space is left there';
  if (code === 'EPIPE' || code === 'ECONNRESET') return 'its reader is gone';
  return message;
}
