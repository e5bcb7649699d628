import type { Socket } from 'node:net';

/** The other side closed the connection, or it broke. */
export class ConnectionClosedError extends Error {
  override readonly name = 'ConnectionClosedError';
}

const BUFFERED_MAX = 8 * 1024 * 1024;

/** Reads exact numbers of bytes from a socket, one reader at a time. Holds the sender back when nobody reads. */
export class SocketReader {
  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #buffered = 0;
  #closed = false;
  #waiting: { readonly length: number; resolve(bytes: Buffer): void; reject(error: Error): void } | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      this.#serve();
      if (this.#buffered > BUFFERED_MAX && this.#waiting === undefined) socket.pause();
    });
    const close = () => {
      this.#closed = true;
      this.#serve();
    };
    socket.on('end', close);
    socket.on('close', close);
    socket.on('error', close);
  }

  read(length: number): Promise<Buffer> {
    if (length <= this.#buffered) return Promise.resolve(this.#take(length));
    return new Promise((resolve, reject) => {
      this.#waiting = { length, resolve, reject };
      this.#socket.resume();
      this.#serve();
    });
  }

  #serve(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    if (waiting.length <= this.#buffered) {
      this.#waiting = undefined;
      waiting.resolve(this.#take(waiting.length));
    } else if (this.#closed) {
      this.#waiting = undefined;
      waiting.reject(new ConnectionClosedError('the connection was closed'));
    }
  }

  #take(length: number): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= length) {
      this.#buffered -= length;
      if (first.length === length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const all = Buffer.concat(this.#chunks, this.#buffered);
    this.#buffered -= length;
    this.#chunks = this.#buffered === 0 ? [] : [all.subarray(length)];
    return all.subarray(0, length);
  }
}
