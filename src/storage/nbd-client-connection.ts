import { connect, type Socket } from 'node:net';
import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import { parseJson } from './arbiter-message.ts';
import type { DiskLease } from './disk-lease.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { formatNbdAddress, type NbdAddress } from './nbd-address.ts';
import { NbdBrokenError, type NbdDisk, NbdRefusedError } from './nbd-disk.ts';
import { NbdRequests } from './nbd-requests.ts';
import {
  encodeOption,
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
} from './nbd-wire.ts';
import { ConnectionClosedError, SocketReader } from './socket-reader.ts';

const HANDSHAKE_TIMEOUT_MS = 5_000;
/** A server that says more of one disk than this never comes to the end. */
const INFOS_MAX = 64;
const KEEP_ALIVE_MS = 10_000;

/** The client's side of one NBD connection: haggling, then any number of operations at once. */
export class NbdClientConnection {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  #requests: NbdRequests | undefined;
  #disk: NbdDisk | undefined;
  #generation = false;
  #broken: NbdBrokenError | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#reader = new SocketReader(socket);
  }

  /** Connects and greets; the connection is then ready for options. */
  static async connect(address: NbdAddress): Promise<NbdClientConnection> {
    const socket =
      'socket' in address
        ? connect({ path: address.socket })
        : connect({ host: address.host, port: address.port, noDelay: true });
    // A server whose host has died says nothing; one that stands still still answers this.
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    return NbdClientConnection.greet(socket, formatNbdAddress(address));
  }

  /** The server's greeting on a socket that is connecting or connected. */
  static async greet(socket: Socket, name: string): Promise<NbdClientConnection> {
    const connection = new NbdClientConnection(socket);
    let problem: Error | undefined;
    socket.once('error', (error) => (problem = error));
    try {
      await connection.#inTime(async () => {
        const greeting = await connection.#reader.read(18);
        const speaksNbd =
          greeting.readBigUInt64BE(0) === NBD_MAGIC && greeting.readBigUInt64BE(8) === NBD_OPTION_MAGIC;
        if (!speaksNbd || (greeting.readUInt16BE(16) & NBD_HANDSHAKE_FLAG.fixedNewstyle) === 0)
          throw new NbdRefusedError(`${name} does not speak NBD`);
        const flags = Buffer.alloc(4);
        flags.writeUInt32BE(NBD_HANDSHAKE_FLAG.fixedNewstyle | NBD_HANDSHAKE_FLAG.noZeroes);
        socket.write(flags);
      });
      return connection;
    } catch (error) {
      socket.destroy();
      throw problem ?? error;
    }
  }

  /** Opens a generation; false: refused. Answered only after all older operations have drained, however long. */
  async openGeneration(disk: string, vm: VmId, epoch: Epoch, instance: InstanceId): Promise<boolean> {
    const request = JSON.stringify({ disk, vm, epoch, instance });
    const answer = await this.#lockstepOption(NBD_OPTION.lockstepOpen, request, disk);
    this.#generation = parseJson(answer)?.verdict === 'ok';
    return this.#generation;
  }

  /** Opens a session that only reads, beside any generation; false: refused. `ofAnyVm`: whosever the disk is. */
  async openForReading(disk: string, vm: VmId, ofAnyVm = false): Promise<boolean> {
    const answer = await this.#lockstepOption(
      NBD_OPTION.lockstepOpen,
      JSON.stringify({ disk, vm, reading: true, ofAnyVm }),
      disk,
    );
    return parseJson(answer)?.verdict === 'ok';
  }

  /** One request to the arbiter; the answer's bytes are the caller's to check. */
  arbitrate(disk: string, leaseMs: number, request: unknown): Promise<Uint8Array> {
    return this.#lockstepOption(NBD_OPTION.lockstepArbiter, JSON.stringify({ disk, leaseMs, request }), disk);
  }

  /** Attaches to the disk; from now on operations are executed, and with a lease nothing is changed without it. */
  async attach(disk: string, lease?: DiskLease): Promise<NbdDisk> {
    const described = await this.#inTime(() => this.#describe(disk, NBD_OPTION.go));
    this.#disk = described;
    this.#requests = new NbdRequests(this.#socket, this.#reader, this.#generation, lease);
    this.#requests.receive().catch((error: Error) => this.#fail(error));
    return described;
  }

  /** Asks what the disk is, and leaves it to whoever has it. */
  describe(disk: string): Promise<NbdDisk> {
    return this.#inTime(() => this.#describe(disk, NBD_OPTION.info));
  }

  /** Rejects when the connection ends first: whether the operation took effect is then unknown. */
  async execute(operation: DiskOperation): Promise<DiskAnswer> {
    const requests = this.#requests;
    const disk = this.#disk;
    if (requests === undefined || disk === undefined || this.#socket.destroyed)
      throw new ConnectionClosedError('the connection was closed');
    return requests.execute(operation, disk);
  }

  /** Resolves when the connection has ended, for whatever reason. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once('close', () => resolve());
    });
  }

  /** What the server did wrong, if that ended the connection. */
  get broken(): NbdBrokenError | undefined {
    return this.#broken;
  }

  close(): void {
    this.#fail(new ConnectionClosedError('the connection was closed'));
  }

  async #describe(disk: string, option: number): Promise<NbdDisk> {
    const name = Buffer.from(disk);
    // The length of the name, the name, one question: what lengths it takes.
    const data = Buffer.alloc(8 + name.length);
    data.writeUInt32BE(name.length, 0);
    name.copy(data, 4);
    data.writeUInt16BE(1, 4 + name.length);
    data.writeUInt16BE(NBD_INFO.blockSize, 6 + name.length);
    this.#socket.write(encodeOption(option, data));
    let size = Number.NaN;
    let flags = 0;
    let [blockBytes, payloadMax] = [1, NBD_PAYLOAD_LENGTH_MAX];
    for (let infos = 0; infos < INFOS_MAX; infos++) {
      const { type, content } = await this.#optionReply(option);
      if (type === NBD_REPLY.ack) {
        if (!Number.isSafeInteger(size)) throw this.#break(`it has told no possible size of disk ${disk}`);
        const has = (flag: number) => (flags & flag) !== 0;
        return {
          size,
          readOnly: has(NBD_EXPORT_FLAG.readOnly),
          flush: has(NBD_EXPORT_FLAG.sendFlush),
          fua: has(NBD_EXPORT_FLAG.sendFua),
          writeZeroes: has(NBD_EXPORT_FLAG.sendWriteZeroes),
          multiConn: has(NBD_EXPORT_FLAG.canMultiConn),
          blockBytes,
          payloadMax,
        };
      }
      if (type !== NBD_REPLY.info) {
        this.close();
        const reason = content.toString('utf8').replace(/[^\x20-\x7e]/g, '?') || 'no reason';
        throw new NbdRefusedError(`disk ${disk} is refused by the server: ${reason.slice(0, 200)}`);
      }
      if (content.length < 2) throw this.#break('an information is too short');
      const kind = content.readUInt16BE(0);
      if (kind === NBD_INFO.export && content.length === 12) {
        size = Number(content.readBigUInt64BE(2));
        flags = content.readUInt16BE(10);
      } else if (kind === NBD_INFO.blockSize && content.length === 14) {
        blockBytes = content.readUInt32BE(2);
        payloadMax = Math.min(NBD_PAYLOAD_LENGTH_MAX, content.readUInt32BE(10));
        if (blockBytes === 0 || payloadMax < 4096 || payloadMax % blockBytes !== 0)
          throw this.#break('it takes no possible lengths');
      }
    }
    throw this.#break('it tells of the disk without end');
  }

  #break(what: string): NbdBrokenError {
    const error = new NbdBrokenError(what);
    this.#fail(error);
    return error;
  }

  #fail(error: Error): void {
    if (error instanceof NbdBrokenError) this.#broken ??= error;
    this.#socket.destroy();
    this.#requests?.fail(error);
  }

  async #lockstepOption(option: number, json: string, disk: string): Promise<Buffer> {
    this.#socket.write(encodeOption(option, Buffer.from(json)));
    const { type, content } = await this.#optionReply(option);
    if (type === NBD_REPLY.lockstep) return content;
    const reason =
      type === NBD_REPLY.errorUnsupported
        ? 'the server knows no generations: use lockstep disk serve'
        : type === NBD_REPLY.errorUnknown
          ? 'the server has no such disk for this VM'
          : `the server refused (${type.toString(16)})`;
    throw new NbdRefusedError(`disk ${disk}: ${reason}`);
  }

  async #optionReply(option: number): Promise<{ type: number; content: Buffer }> {
    const head = await this.#reader.read(20);
    const length = head.readUInt32BE(16);
    if (
      head.readBigUInt64BE(0) !== NBD_OPTION_REPLY_MAGIC ||
      head.readUInt32BE(8) !== option ||
      length > NBD_OPTION_LENGTH_MAX
    )
      throw this.#break('its answer to an option cannot be read');
    return { type: head.readUInt32BE(12), content: await this.#reader.read(length) };
  }

  /** A server that falls silent in mid-greeting is left. */
  async #inTime<Value>(talk: () => Promise<Value>): Promise<Value> {
    const timer = setTimeout(() => this.#socket.destroy(), HANDSHAKE_TIMEOUT_MS);
    try {
      return await talk();
    } finally {
      clearTimeout(timer);
    }
  }
}
