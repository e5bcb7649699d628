import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A network between two processes on one port, TCP and UDP, that a test can cut. */
export class CuttableRelay {
  /**
   * 'silent': bytes vanish and connections stay; 'unanswered': only those that come back vanish; 'reset':
   * connections break and new ones are refused.
   */
  tcp: 'open' | 'silent' | 'unanswered' | 'reset' = 'open';
  udp: 'open' | 'silent' = 'open';
  readonly port: number;
  readonly #server: Server;
  readonly #datagrams: UdpSocket;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number, server: Server, datagrams: UdpSocket, target: number) {
    this.port = port;
    this.#server = server;
    this.#datagrams = datagrams;
    server.on('connection', (socket) => this.#join(socket, target));
    this.#relayDatagrams(target);
  }

  /** Leads to `target` on this machine. */
  static async start(target: number): Promise<CuttableRelay> {
    for (;;) {
      const server = createServer({ noDelay: true });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as { port: number };
      const datagrams = createSocket('udp4');
      const bound = await new Promise<boolean>((resolve) => {
        datagrams.once('error', () => resolve(false));
        datagrams.bind(port, '127.0.0.1', () => resolve(true));
      });
      if (bound) return new CuttableRelay(port, server, datagrams, target);
      server.close();
    }
  }

  breakConnections(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.#server.close();
    this.#datagrams.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, target: number): void {
    if (this.tcp === 'reset') {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: target, host: '127.0.0.1', noDelay: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (bytes: Buffer) => {
        if (this.tcp === 'open' || (this.tcp === 'unanswered' && from === near)) to.write(bytes);
      });
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  #relayDatagrams(target: number): void {
    let primary = 0;
    this.#datagrams.on('message', (bytes, from) => {
      if (from.port !== target) primary = from.port;
      if (this.udp === 'open')
        this.#datagrams.send(bytes, from.port === target ? primary : target, '127.0.0.1');
    });
    this.#datagrams.on('error', () => {});
  }
}
