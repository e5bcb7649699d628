import { connect, createServer, type Server, type Socket } from 'node:net';

/** One connection through a tap: all that went each way, and where the held part begins. */
export interface TappedConnection {
  readonly sent: Buffer[];
  readonly answered: Buffer[];
  /** Bytes of `sent` that had been passed on when the tap began to hold; undefined: it never did. */
  passedBeforeHold: number | undefined;
  readonly far: Socket;
  readonly held: Buffer[];
}

/** Stands between a client and a server of this machine, keeps a copy of everything, and can hold the client's bytes. */
export class Tap {
  readonly port: number;
  readonly connections: TappedConnection[] = [];
  #holding = false;
  /** Begins to hold with the first piece of at least so many bytes. */
  #holdFrom = Number.POSITIVE_INFINITY;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number, target: number) {
    this.port = port;
    this.#server = server;
    server.on('connection', (near) => this.#join(near, target));
  }

  static async start(target: number): Promise<Tap> {
    // A server that has said its last word may still be talked to.
    const server = createServer({ noDelay: true, allowHalfOpen: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Tap(server, (server.address() as { port: number }).port, target);
  }

  /** From now on what the client sends waits here, as on a slow way. */
  hold(): void {
    this.#holding = true;
    this.#holdFrom = Number.POSITIVE_INFINITY;
    for (const connection of this.connections) connection.passedBeforeHold = lengthOf(connection.sent);
  }

  /** Holds from the next piece of at least `bytes` on: who sends it waits for an answer, and sends no more of the kind. */
  holdFrom(bytes: number): void {
    this.#holdFrom = bytes;
  }

  /** Passes on what waits, and everything after it. */
  release(): void {
    this.#holding = false;
    for (const { held, far } of this.connections) for (const bytes of held.splice(0)) far.write(bytes);
  }

  get heldBytes(): number {
    return this.connections.reduce((sum, { held }) => sum + lengthOf(held), 0);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, target: number): void {
    const far = connect({ port: target, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    const connection: TappedConnection = {
      sent: [],
      answered: [],
      passedBeforeHold: undefined,
      far,
      held: [],
    };
    this.connections.push(connection);
    near.on('data', (bytes: Buffer) => {
      if (bytes.length >= this.#holdFrom) this.hold();
      connection.sent.push(bytes);
      if (this.#holding) connection.held.push(bytes);
      else far.write(bytes);
    });
    far.on('data', (bytes: Buffer) => {
      connection.answered.push(bytes);
      near.write(bytes);
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('end', () => other.end());
      socket.on('close', () => this.#sockets.delete(socket));
    }
  }
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}
