import { sharedMs } from '../../src/host/host-clock.ts';
import { RedisConnection, type RedisReply } from '../../tools/pair/redis-connection.ts';
import { pause } from '../pair-rounds.ts';
import { Dice } from './dice.ts';
import { commandOf, type RedisAction, type RedisOperation } from './redis-history.ts';

const TEXTS = 8;
const NUMBERS = 4;
const LISTS = 2;
/** Without an answer by then its outcome is unknown. */
const ANSWER_MS_MAX = 60_000;

interface Recorded {
  readonly operation: Omit<RedisOperation, 'answer'>;
  answer: RedisOperation['answer'];
}

/** Several clients, each with one connection and one operation at a time, on the same few keys. */
export class RedisClients {
  readonly #connections: readonly RedisConnection[];
  readonly #history: Recorded[] = [];
  readonly #answeredMs: number[][];
  readonly #thinkMs: number;
  #running: Promise<unknown> = Promise.resolve();
  #stop = false;
  #refusal: string | undefined;

  private constructor(connections: readonly RedisConnection[], thinkMs: number) {
    this.#connections = connections;
    this.#answeredMs = connections.map(() => []);
    this.#thinkMs = thinkMs;
  }

  /** `to`: a port here, or what makes a connection; `thinkMs`: what a client waits on the average between an answer and its next operation. */
  static async open(
    to: number | (() => Promise<RedisConnection>),
    clients: number,
    thinkMs: number,
  ): Promise<RedisClients> {
    const connect = typeof to === 'number' ? () => RedisConnection.open(to) : to;
    const connections: RedisConnection[] = [];
    for (let client = 0; client < clients; client++) connections.push(await connect());
    return new RedisClients(connections, thinkMs);
  }

  start(seed: string): void {
    this.#running = Promise.all(
      this.#connections.map((_, client) => this.#run(client, new Dice(`${seed}/${client}`))),
    );
  }

  get answered(): number {
    return this.#answeredMs.reduce((sum, { length }) => sum + length, 0);
  }

  get inFlight(): number {
    return this.#history.filter(({ answer }) => answer === undefined).length;
  }

  get connectionsLost(): number {
    return this.#connections.filter(({ ended }) => ended !== undefined).length;
  }

  /** An answer that redis never gives to a sound request. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** The smallest number of answers that any of the clients got since then. */
  leastAnsweredSince(ms: number): number {
    return Math.min(...this.#answeredMs.map((all) => all.filter((at) => at >= ms).length));
  }

  /** The longest that a client waited for an answer that came, or should have come, after `ms`. */
  longestGapMs(ms: number): number {
    const waits = this.#history
      .filter(({ answer }) => answer === undefined || answer.ms > ms)
      .map(({ operation, answer }) => (answer?.ms ?? sharedMs()) - operation.calledMs);
    return Math.max(0, ...waits);
  }

  /** Lets the operations under way end, then asks for everything that must be there. */
  async finish(): Promise<{ history: RedisOperation[]; lists: Map<string, readonly string[]> }> {
    this.#stop = true;
    await Promise.race([this.#running, pause(ANSWER_MS_MAX)]);
    const lists = new Map<string, readonly string[]>();
    const [asking] = this.#connections;
    for (let list = 0; list < LISTS; list++) {
      const reply = asking && (await this.#within(asking.call(['LRANGE', `list${list}`, '0', '-1'])));
      if (Array.isArray(reply?.[0])) lists.set(`list${list}`, reply[0].map(String));
    }
    for (let text = 0; text < TEXTS; text++) await this.#call(0, `text${text}`, { kind: 'get' });
    for (let number = 0; number < NUMBERS; number++) await this.#call(0, `number${number}`, { kind: 'get' });
    const history = this.#history.map(({ operation, answer }) => ({ ...operation, answer }));
    return { history, lists };
  }

  close(): void {
    this.#stop = true;
    for (const connection of this.#connections) connection.close();
  }

  async #run(client: number, dice: Dice): Promise<void> {
    for (let n = 1; !this.#stop; n++) {
      const { key, action } = chosen(dice, `${client}.${n}`);
      if (!(await this.#call(client, key, action))) return;
      await pause(dice.exponential(this.#thinkMs));
    }
  }

  async #call(client: number, key: string, action: RedisAction): Promise<boolean> {
    const connection = this.#connections[client]!;
    const operation = { client, key, action, calledMs: sharedMs() };
    const entry: Recorded = { operation, answer: undefined };
    this.#history.push(entry);
    const replies = await this.#within(connection.call(commandOf(key, action)));
    if (!replies) return false;
    const [reply = null] = replies;
    const ms = sharedMs();
    if (reply instanceof Error) this.#refusal ??= reply.message;
    entry.answer = { reply, ms };
    this.#answeredMs[client]!.push(ms);
    return true;
  }

  async #within(replies: Promise<RedisReply[]>): Promise<RedisReply[] | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ANSWER_MS_MAX);
    });
    return Promise.race([replies.catch(() => undefined), late]).finally(() => clearTimeout(timer));
  }
}

function chosen(dice: Dice, id: string): { key: string; action: RedisAction } {
  const kind = dice.fraction();
  if (kind < 0.35) return { key: `text${dice.below(TEXTS)}`, action: { kind: 'set', value: id } };
  if (kind < 0.65) return { key: `text${dice.below(TEXTS)}`, action: { kind: 'get' } };
  if (kind < 0.8) return { key: `number${dice.below(NUMBERS)}`, action: { kind: 'increment' } };
  return { key: `list${dice.below(LISTS)}`, action: { kind: 'push', value: id } };
}
