import { connect, type Socket } from 'node:net';
import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import { parseJson } from './arbiter-message.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import {
  encodeOption,
  encodeRequest,
  NBD_COMMAND,
  NBD_COMMAND_FLAG,
  NBD_ERROR,
  NBD_EXPORT_FLAG,
  NBD_HANDSHAKE_FLAG,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPTION,
  NBD_OPTION_LENGTH_MAX,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  NBD_PAYLOAD_LENGTH_MAX,
  NBD_REPLY,
  NBD_SIMPLE_REPLY_LENGTH,
  NBD_SIMPLE_REPLY_MAGIC,
} from './nbd-wire.ts';
import { ConnectionClosedError, SocketReader } from './socket-reader.ts';

export interface NbdAddress {
  readonly host: string;
  readonly port: number;
  /** Name of the disk on the server. */
  readonly disk: string;
}

/** The server understood, and said no: trying again gives the same answer. */
export class NbdRefusedError extends Error {
  override readonly name = 'NbdRefusedError';
}

interface Pending {
  readonly operation: DiskOperation;
  resolve(answer: DiskAnswer): void;
  reject(error: Error): void;
}

const HANDSHAKE_TIMEOUT_MS = 5_000;
const EMPTY = new Uint8Array(0);

/** The client's side of one NBD connection: haggling, then any number of operations at once. */
export class NbdClientConnection {
  size = 0;
  readOnly = false;
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #pending = new Map<bigint, Pending>();
  #nextHandle = 1n;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#reader = new SocketReader(socket);
  }

  /** Connects and greets; the connection is then ready for options. */
  static async connect(address: NbdAddress): Promise<NbdClientConnection> {
    const { host, port } = address;
    return NbdClientConnection.greet(connect({ host, port, noDelay: true }), `${host}:${port}`);
  }

  /** The server's greeting on a socket that is connecting or connected. */
  static async greet(socket: Socket, name: string): Promise<NbdClientConnection> {
    const connection = new NbdClientConnection(socket);
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS);
    try {
      const greeting = await connection.#reader.read(18);
      if (greeting.readBigUInt64BE(0) !== NBD_MAGIC || greeting.readBigUInt64BE(8) !== NBD_OPTION_MAGIC)
        throw new NbdRefusedError(`${name} does not speak NBD`);
      const flags = Buffer.alloc(4);
      flags.writeUInt32BE(NBD_HANDSHAKE_FLAG.fixedNewstyle | NBD_HANDSHAKE_FLAG.noZeroes);
      socket.write(flags);
      return connection;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens a generation; false: refused. Answered only after all older operations have drained, however long. */
  async openGeneration(disk: string, vm: VmId, epoch: Epoch, instance: InstanceId): Promise<boolean> {
    const request = JSON.stringify({ disk, vm, epoch, instance });
    const answer = await this.#lockstepOption(NBD_OPTION.lockstepOpen, request, disk);
    return parseJson(answer)?.verdict === 'ok';
  }

  /** One request to the arbiter; the answer's bytes are the caller's to check. */
  arbitrate(disk: string, leaseMs: number, request: unknown): Promise<Uint8Array> {
    return this.#lockstepOption(NBD_OPTION.lockstepArbiter, JSON.stringify({ disk, leaseMs, request }), disk);
  }

  /** Attaches to the disk; from now on operations are executed. */
  async attach(disk: string): Promise<void> {
    await this.#describe(disk, NBD_OPTION.go);
    this.#receive().catch((error: Error) => this.#fail(error));
  }

  /** Asks what the disk is, and leaves it to whoever has it. */
  describe(disk: string): Promise<void> {
    return this.#describe(disk, NBD_OPTION.info);
  }

  async #describe(disk: string, option: number): Promise<void> {
    const name = Buffer.from(disk);
    const data = Buffer.alloc(6 + name.length);
    data.writeUInt32BE(name.length, 0);
    name.copy(data, 4);
    this.#socket.write(encodeOption(option, data));
    for (;;) {
      const { type, content } = await this.#optionReply();
      if (type === NBD_REPLY.ack) break;
      if (type === NBD_REPLY.info && content.length >= 12 && content.readUInt16BE(0) === NBD_INFO.export) {
        this.size = Number(content.readBigUInt64BE(2));
        this.readOnly = (content.readUInt16BE(10) & NBD_EXPORT_FLAG.readOnly) !== 0;
      } else if (type !== NBD_REPLY.info) {
        this.close();
        throw new NbdRefusedError(
          `disk ${disk} is refused by the server: ${content.toString('utf8') || 'no reason'}`,
        );
      }
    }
    if (!Number.isSafeInteger(this.size)) throw new NbdRefusedError(`disk ${disk} is too large`);
  }

  /** Rejects when the connection ends first: whether the operation took effect is then unknown. */
  execute(operation: DiskOperation): Promise<DiskAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) return reject(new ConnectionClosedError('the connection was closed'));
      const handle = this.#nextHandle++;
      this.#pending.set(handle, { operation, resolve, reject });
      const length =
        operation.kind === 'read' ? operation.length : operation.kind === 'write' ? operation.data.length : 0;
      const durable = operation.kind === 'write' && operation.durable;
      this.#socket.cork();
      this.#socket.write(
        encodeRequest({
          flags: durable ? NBD_COMMAND_FLAG.fua : 0,
          command: NBD_COMMAND[operation.kind],
          handle,
          offset: operation.kind === 'flush' ? 0n : BigInt(operation.offset),
          length,
        }),
      );
      if (operation.kind === 'write') this.#socket.write(operation.data);
      this.#socket.uncork();
    });
  }

  /** Resolves when the connection has ended, for whatever reason. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once('close', () => resolve());
    });
  }

  close(): void {
    this.#socket.destroy();
    this.#fail(new ConnectionClosedError('the connection was closed'));
  }

  async #receive(): Promise<never> {
    for (;;) {
      const head = await this.#reader.read(NBD_SIMPLE_REPLY_LENGTH);
      const handle = head.readBigUInt64BE(8);
      const pending = this.#pending.get(handle);
      if (head.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC || pending === undefined)
        throw new ConnectionClosedError('the server answered rubbish');
      const error = head.readUInt32BE(4);
      const { operation } = pending;
      const data =
        error === 0 && operation.kind === 'read' ? await this.#reader.read(operation.length) : EMPTY;
      this.#pending.delete(handle);
      pending.resolve(
        error === 0 ? { status: 'ok', data } : { status: error === NBD_ERROR.shutdown ? 'fenced' : 'error' },
      );
    }
  }

  #fail(error: Error): void {
    this.#socket.destroy();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const each of pending) each.reject(error);
  }

  async #lockstepOption(option: number, json: string, disk: string): Promise<Buffer> {
    this.#socket.write(encodeOption(option, Buffer.from(json)));
    const { type, content } = await this.#optionReply();
    if (type === NBD_REPLY.lockstep) return content;
    const reason =
      type === NBD_REPLY.errorUnsupported
        ? 'the server knows no generations: use lockstep disk serve'
        : type === NBD_REPLY.errorUnknown
          ? 'the server has no such disk for this VM'
          : `the server refused (${type.toString(16)})`;
    throw new NbdRefusedError(`disk ${disk}: ${reason}`);
  }

  async #optionReply(): Promise<{ type: number; content: Buffer }> {
    const head = await this.#reader.read(20);
    const length = head.readUInt32BE(16);
    if (head.readBigUInt64BE(0) !== NBD_OPTION_REPLY_MAGIC || length > NBD_OPTION_LENGTH_MAX) {
      this.close();
      throw new ConnectionClosedError('the server answered rubbish');
    }
    return { type: head.readUInt32BE(12), content: await this.#reader.read(length) };
  }
}

/** The longest operation that one request may carry. */
export const NBD_OPERATION_LENGTH_MAX = NBD_PAYLOAD_LENGTH_MAX;
