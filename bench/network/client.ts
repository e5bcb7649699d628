import { connect, type Socket } from 'node:net';

/** The benchmark's client of a guest that runs bench/network/guest.c. Times are milliseconds, rates Mbit/s. */

const ANSWER_MS_MAX = 120_000;
const ECHO_BYTES = 64;

export class NetworkClient {
  readonly #socket: Socket;
  #wanted = 0;
  #arrived: (() => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (bytes) => {
      this.#wanted -= bytes.length;
      if (this.#wanted <= 0) this.#arrived?.();
    });
    socket.on('error', (error) => this.#failed?.(error));
    socket.on('close', () => this.#failed?.(new Error('the guest has closed the connection')));
  }

  static open(port: number): Promise<NetworkClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new NetworkClient(socket));
      });
    });
  }

  /** The guest sends so many bytes: Mbit/s. */
  async transmitted(bytes: number): Promise<number> {
    const since = performance.now();
    this.#order('T', bytes);
    await this.#answer(bytes);
    return rate(bytes, since);
  }

  /** The guest receives so many bytes: Mbit/s. */
  async received(bytes: number): Promise<number> {
    const since = performance.now();
    this.#order('R', bytes);
    const answer = this.#answer(1);
    const block = Buffer.alloc(256 * 1024, 'x');
    for (let left = bytes; left > 0; left -= block.length) {
      if (!this.#socket.write(left < block.length ? block.subarray(0, left) : block))
        await new Promise((resolve) => this.#socket.once('drain', resolve));
    }
    await answer;
    return rate(bytes, since);
  }

  /** How long each of so many small requests took, one after the other; to the port of echoes. */
  async requests(count: number): Promise<number[]> {
    const request = Buffer.alloc(ECHO_BYTES, 'e');
    const latencies: number[] = [];
    for (let n = 0; n < count; n++) {
      const since = performance.now();
      const answer = this.#answer(ECHO_BYTES);
      this.#socket.write(request);
      await answer;
      latencies.push(performance.now() - since);
    }
    return latencies;
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }

  #order(letter: 'T' | 'R', bytes: number): void {
    const order = Buffer.alloc(9);
    order.write(letter);
    order.writeBigUInt64LE(BigInt(bytes), 1);
    this.#socket.write(order);
  }

  #answer(bytes: number): Promise<void> {
    this.#wanted = bytes;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the guest does not answer')), ANSWER_MS_MAX);
      this.#arrived = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#failed = (error) => {
        clearTimeout(timer);
        reject(error);
      };
    });
  }
}

function rate(bytes: number, since: number): number {
  return (bytes * 8) / (performance.now() - since) / 1000;
}

/** So many connections that each ask one after the other, for so long: requests in a second. */
export async function requestRate(port: number, connections: number, ms: number): Promise<number> {
  const clients = await Promise.all(Array.from({ length: connections }, () => NetworkClient.open(port)));
  const since = performance.now();
  let answered = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() - since < ms) {
        await client.requests(1);
        answered += 1;
      }
    }),
  );
  const seconds = (performance.now() - since) / 1000;
  for (const client of clients) client.close();
  return answered / seconds;
}
