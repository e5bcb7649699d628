import { createServer, type Server, type Socket } from 'node:net';
import {
  decodeRequest,
  encodeOptionReply,
  encodeSimpleReply,
  NBD_COMMAND,
  NBD_EXPORT_FLAG,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPTION_MAGIC,
  NBD_REPLY,
  NBD_REQUEST_LENGTH,
  type NbdRequest,
} from '../src/storage/nbd-wire.ts';
import { SocketReader } from '../src/storage/socket-reader.ts';

/** What it does wrong with one request: bytes to send instead of the answer, or `hang-up` without one. */
export type Fault = (request: NbdRequest, answer: Buffer) => Buffer | 'hang-up' | 'silence' | undefined;

/** An NBD server with a disk in memory that does what a test tells it to do wrong. */
export class FaultyNbdServer {
  readonly bytes: Buffer;
  readonly requests: NbdRequest[] = [];
  connections = 0;
  /** What it says the size is. */
  size: number;
  flags =
    NBD_EXPORT_FLAG.hasFlags |
    NBD_EXPORT_FLAG.sendFlush |
    NBD_EXPORT_FLAG.sendFua |
    NBD_EXPORT_FLAG.canMultiConn;
  fault: Fault = () => undefined;
  /** Instead of its greeting, or of its answer to an option. */
  greeting: Buffer | undefined;
  optionAnswer: ((option: number) => Buffer | undefined) | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(size: number) {
    this.bytes = Buffer.alloc(size);
    this.size = size;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      this.connections += 1;
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
      this.#serve(socket).catch(() => socket.destroy());
    });
  }

  static async start(size: number): Promise<FaultyNbdServer> {
    const made = new FaultyNbdServer(size);
    await new Promise<void>((resolve) => made.#server.listen(0, '127.0.0.1', resolve));
    return made;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Ends all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.end();
  }

  close(): Promise<unknown> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(socket: Socket): Promise<void> {
    const reader = new SocketReader(socket);
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(NBD_MAGIC, 0);
    greeting.writeBigUInt64BE(NBD_OPTION_MAGIC, 8);
    greeting.writeUInt16BE(3, 16);
    socket.write(this.greeting ?? greeting);
    await reader.read(4);
    const head = await reader.read(16);
    await reader.read(head.readUInt32BE(12));
    const option = head.readUInt32BE(8);
    const wrong = this.optionAnswer?.(option);
    if (wrong !== undefined) {
      socket.write(wrong);
      await reader.read(1);
    }
    const info = Buffer.alloc(12);
    info.writeUInt16BE(NBD_INFO.export, 0);
    info.writeBigUInt64BE(BigInt(this.size), 2);
    info.writeUInt16BE(this.flags, 10);
    socket.write(encodeOptionReply(option, NBD_REPLY.info, info));
    socket.write(encodeOptionReply(option, NBD_REPLY.ack, Buffer.alloc(0)));
    for (;;) {
      const request = decodeRequest(await reader.read(NBD_REQUEST_LENGTH));
      if (request === undefined || request.command === NBD_COMMAND.disconnect) break;
      const data =
        request.command === NBD_COMMAND.write ? await reader.read(request.length) : Buffer.alloc(0);
      this.requests.push(request);
      const answer = this.#execute(request, data);
      const fault = this.fault(request, answer);
      if (fault === 'hang-up') break;
      if (fault !== 'silence') socket.write(fault ?? answer);
    }
    socket.end();
  }

  #execute({ command, handle, offset, length }: NbdRequest, data: Buffer): Buffer {
    const at = Number(offset);
    if (command === NBD_COMMAND.write) data.copy(this.bytes, at);
    const read = command === NBD_COMMAND.read ? this.bytes.subarray(at, at + length) : Buffer.alloc(0);
    return Buffer.concat([encodeSimpleReply(handle, 0), read]);
  }
}
