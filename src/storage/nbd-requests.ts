import type { Socket } from 'node:net';
import type { DiskLease } from './disk-lease.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { LeasedChanges } from './leased-changes.ts';
import { NbdBrokenError, type NbdDisk } from './nbd-disk.ts';
import {
  encodeRequest,
  NBD_COMMAND,
  NBD_COMMAND_FLAG,
  NBD_ERROR,
  NBD_SIMPLE_REPLY_LENGTH,
  NBD_SIMPLE_REPLY_MAGIC,
} from './nbd-wire.ts';
import { ConnectionClosedError, type SocketReader } from './socket-reader.ts';

interface Request {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly data?: Uint8Array;
}

interface Pending {
  /** Bytes that a good answer is followed by. */
  readonly expected: number;
  readonly leased: LeasedChanges | undefined;
  resolve(answer: DiskAnswer): void;
  reject(error: Error): void;
}

const EMPTY = new Uint8Array(0);
const FLUSH: Request = { command: NBD_COMMAND.flush, flags: 0, offset: 0, length: 0 };
const DONE: DiskAnswer = { status: 'ok', data: EMPTY };

/**
 * Operations of an attached connection as the requests that this server understands [NBD "Transmission"]: cut to the
 * length that it takes, cleared by writing where it cannot clear, made durable where it cannot say when they are.
 */
export class NbdRequests {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  /** This server answers "shutdown" for a fenced session. */
  readonly #generations: boolean;
  readonly #pending = new Map<bigint, Pending>();
  /** Nothing changes the disk without it. */
  readonly #leased: LeasedChanges | undefined;
  #nextHandle = 1n;

  constructor(socket: Socket, reader: SocketReader, generations: boolean, lease: DiskLease | undefined) {
    this.#socket = socket;
    this.#reader = reader;
    this.#generations = generations;
    this.#leased = lease && new LeasedChanges(socket, lease);
  }

  /** Rejects when the connection ends first. */
  async execute(operation: DiskOperation, disk: NbdDisk): Promise<DiskAnswer> {
    if (operation.kind === 'flush') return disk.flush ? this.#send(FLUSH) : DONE;
    const { kind, offset } = operation;
    const length = kind === 'write' ? operation.data.length : operation.length;
    if (offset % disk.blockBytes !== 0 || length % disk.blockBytes !== 0) return { status: 'error' };
    if (kind === 'read')
      return this.#inPieces(length, disk.payloadMax, (at, bytes) => this.#read(offset + at, bytes));
    if (disk.readOnly) return { status: 'read-only' };
    // A flush need not cover what another connection has completed (protocol 6).
    const durable = operation.durable || !disk.multiConn;
    const flags = durable && disk.fua ? NBD_COMMAND_FLAG.fua : 0;
    const answer = await this.#change(operation, disk, flags);
    const flushed = answer.status === 'ok' && durable && !disk.fua && disk.flush;
    return flushed ? this.#send(FLUSH) : answer;
  }

  /** Hands out answers until the connection ends. */
  async receive(): Promise<never> {
    for (;;) {
      const head = await this.#reader.read(NBD_SIMPLE_REPLY_LENGTH);
      if (head.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC)
        throw new NbdBrokenError('its answer cannot be read');
      const handle = head.readBigUInt64BE(8);
      const pending = this.#pending.get(handle);
      if (pending === undefined) throw new NbdBrokenError('it answers what was not asked');
      const error = head.readUInt32BE(4);
      // It ends, and what it has not done it will not do: as if the connection had broken.
      if (error === NBD_ERROR.shutdown && !this.#generations)
        throw new ConnectionClosedError('the server is ending');
      const data = error === 0 && pending.expected > 0 ? await this.#reader.read(pending.expected) : EMPTY;
      this.#pending.delete(handle);
      pending.leased?.answered();
      pending.resolve(error === 0 ? { status: 'ok', data } : { status: refusal(error) });
    }
  }

  fail(error: Error): void {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#leased?.end();
    for (const each of pending) each.reject(error);
  }

  #read(offset: number, length: number): Promise<DiskAnswer> {
    return this.#send({ command: NBD_COMMAND.read, flags: 0, offset, length });
  }

  #write(offset: number, data: Uint8Array, flags: number): Promise<DiskAnswer> {
    return this.#send({ command: NBD_COMMAND.write, flags, offset, length: data.length, data });
  }

  #change(
    operation: Exclude<DiskOperation, { kind: 'read' | 'flush' }>,
    disk: NbdDisk,
    flags: number,
  ): Promise<DiskAnswer> {
    const { offset } = operation;
    if (operation.kind === 'write') {
      const { data } = operation;
      return this.#inPieces(data.length, disk.payloadMax, (at, bytes) =>
        this.#write(offset + at, data.subarray(at, at + bytes), flags),
      );
    }
    const { length } = operation;
    if (disk.writeZeroes) {
      const noHole = operation.kind === 'write-zeroes' ? NBD_COMMAND_FLAG.noHole : 0;
      return this.#send({ command: NBD_COMMAND.writeZeroes, flags: flags | noHole, offset, length });
    }
    const zeroes = new Uint8Array(Math.min(length, disk.payloadMax));
    return this.#inPieces(length, disk.payloadMax, (at, bytes) =>
      this.#write(offset + at, zeroes.subarray(0, bytes), flags),
    );
  }

  /** The answers of all pieces as one: the first that is not good, or the data of all in order. */
  async #inPieces(
    length: number,
    most: number,
    one: (at: number, bytes: number) => Promise<DiskAnswer>,
  ): Promise<DiskAnswer> {
    if (length <= most) return one(0, length);
    const pieces: Uint8Array[] = [];
    // One after the other: what clears by writing may be long.
    for (let at = 0; at < length; at += most) {
      const answer = await one(at, Math.min(most, length - at));
      if (answer.status !== 'ok') return answer;
      pieces.push(answer.data);
    }
    return { status: 'ok', data: Buffer.concat(pieces) };
  }

  async #send({ command, flags, offset, length, data }: Request): Promise<DiskAnswer> {
    const changes = command === NBD_COMMAND.write || command === NBD_COMMAND.writeZeroes;
    const leased = changes ? this.#leased : undefined;
    // Between the last look at the clock and the system call lies no other turn.
    while (leased?.mayLeave === false && !this.#socket.destroyed) await leased.changed();
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) return reject(new ConnectionClosedError('the connection was closed'));
      const handle = this.#nextHandle++;
      const expected = command === NBD_COMMAND.read ? length : 0;
      this.#pending.set(handle, { expected, leased, resolve, reject });
      this.#socket.cork();
      const left = leased?.leaves();
      const head = encodeRequest({ flags, command, handle, offset: BigInt(offset), length });
      this.#socket.write(head, data === undefined ? left : undefined);
      if (data !== undefined) this.#socket.write(data, left);
      this.#socket.uncork();
    });
  }
}

function refusal(error: number): 'fenced' | 'no-space' | 'read-only' | 'error' {
  switch (error) {
    case NBD_ERROR.shutdown:
      return 'fenced';
    case NBD_ERROR.noSpace:
      return 'no-space';
    case NBD_ERROR.notPermitted:
      return 'read-only';
    default:
      return 'error';
  }
}
