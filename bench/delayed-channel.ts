import { createSocket, type RemoteInfo } from 'node:dgram';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { parseHostPort } from '../src/transport/address.ts';

/** Stands between two hosts and makes the way longer: everything arrives, in order, so much later, each way. */
export class DelayedChannel {
  readonly address: string;
  readonly #server: Server;
  readonly #datagrams: ReturnType<typeof createSocket>;
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(address: string, server: Server, datagrams: ReturnType<typeof createSocket>) {
    this.address = address;
    this.#server = server;
    this.#datagrams = datagrams;
  }

  /** Log and acks on TCP, heartbeats on UDP, at one port as at the backup's. */
  static async open(backup: string, delayMs: number): Promise<DelayedChannel> {
    const target = parseHostPort(backup);
    if (!target.ok) throw new Error(target.error);
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const datagrams = createSocket('udp4');
    await new Promise<void>((resolve) => datagrams.bind(port, '127.0.0.1', resolve));
    const channel = new DelayedChannel(`127.0.0.1:${port}`, server, datagrams);
    server.on('connection', (primary) =>
      channel.#join(primary, connect({ ...target.value, noDelay: true }), delayMs),
    );
    let primary: RemoteInfo | undefined;
    datagrams.on('error', () => undefined);
    datagrams.on('message', (bytes, from) => {
      const back = from.port === target.value.port;
      if (!back) primary = from;
      const to = back ? primary : { address: target.value.host, port: target.value.port };
      if (to) channel.#later(delayMs, () => datagrams.send(bytes, to.port, to.address, () => undefined));
    });
    return channel;
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    this.#datagrams.close();
  }

  #join(primary: Socket, backup: Socket, delayMs: number): void {
    for (const [from, to] of [
      [primary, backup],
      [backup, primary],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (bytes) => this.#later(delayMs, () => to.write(bytes)));
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        this.#later(delayMs, () => to.destroy());
      });
    }
  }

  #later(delayMs: number, what: () => void): void {
    // Timers of one length fire in the order in which they were set.
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      what();
    }, delayMs);
    this.#timers.add(timer);
  }
}
