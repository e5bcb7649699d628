import type { Socket } from 'node:net';
import { encodeMessage } from '../ft/message-codec.ts';
import { compressedBatch } from './compressed-batch.ts';

const SNAPSHOT_PART_BYTES = 256 * 1024;

interface SnapshotSource {
  readonly bytes: Uint8Array;
  at: number;
}

/**
 * What waits to be written to one socket, in order. Messages are bounded by the protocol core, which stops the
 * vCPU before they grow; a snapshot is cut into parts only as fast as the socket takes them.
 */
export class OutgoingQueue {
  readonly #socket: Socket;
  readonly #compresses: boolean;
  #queue: (Uint8Array | SnapshotSource)[] = [];
  #waiting = false;

  constructor(socket: Socket, compresses: boolean) {
    this.#socket = socket;
    this.#compresses = compresses;
    socket.on('drain', () => {
      this.#waiting = false;
      this.flush();
    });
  }

  add(frame: Uint8Array): void {
    this.#queue.push(frame);
  }

  addSnapshot(bytes: Uint8Array): void {
    this.#queue.push({ bytes, at: 0 });
  }

  flush(): void {
    while (this.#queue.length > 0 && !this.#waiting) {
      const head = this.#queue[0]!;
      if (head instanceof Uint8Array) this.#writeFrames();
      else this.#writePart(head);
    }
  }

  /** All frames up to the next snapshot in one write. */
  #writeFrames(): void {
    const end = this.#queue.findIndex((item) => !(item instanceof Uint8Array));
    const frames = this.#queue.splice(0, end < 0 ? this.#queue.length : end) as Uint8Array[];
    const batch = frames.length === 1 ? frames[0]! : Buffer.concat(frames);
    this.#socket.write(this.#compresses ? compressedBatch(batch) : batch);
  }

  #writePart(source: SnapshotSource): void {
    if (source.at >= source.bytes.length) {
      this.#queue.shift();
      return;
    }
    const bytes = source.bytes.subarray(source.at, source.at + SNAPSHOT_PART_BYTES);
    source.at += bytes.length;
    this.#waiting = !this.#socket.write(encodeMessage({ kind: 'snapshot-part', bytes }));
  }
}
