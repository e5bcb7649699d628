import { RedisConnection, type RedisReply } from '../pair/redis-connection.ts';

export interface RedisFindings {
  /** Operations that redis has acknowledged. */
  readonly acknowledged: number;
  readonly acknowledgedWritesLost: number;
  /** Answers that no history without a failure could have given. */
  readonly contradictions: number;
  readonly longestGapMs: number;
}

/**
 * A client that writes without a pause over one connection, and checks every answer: operation n increments a
 * counter and appends n to a list, so both answers must be n.
 */
export class RedisLoad {
  readonly #connection: RedisConnection;
  #acknowledged = 0;
  #contradictions = 0;
  #lastAt = performance.now();
  #longestGapMs = 0;
  #running: Promise<void> | undefined;
  #stop = false;
  #firstContradiction: string | undefined;

  private constructor(connection: RedisConnection) {
    this.#connection = connection;
  }

  static async open(port: number): Promise<RedisLoad> {
    return new RedisLoad(await RedisConnection.open(port));
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  get msSinceLastAnswer(): number {
    return performance.now() - this.#lastAt;
  }

  get connectionEnded(): Error | undefined {
    return this.#connection.ended;
  }

  get firstContradiction(): string | undefined {
    return this.#firstContradiction;
  }

  start(): void {
    this.#lastAt = performance.now();
    this.#running = this.#run();
  }

  /** Lets the operation under way end, unless the connection is gone. */
  async stop(withinMs: number): Promise<void> {
    this.#stop = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, withinMs)));
    await Promise.race([this.#running, late]);
    clearTimeout(timer);
  }

  /** Asks redis, over the same connection, for everything it has acknowledged. */
  async verify(withinMs: number): Promise<RedisFindings> {
    let lost = this.#acknowledged;
    try {
      const [counter, list] = await within(
        withinMs,
        this.#connection.call(['GET', 'counter'], ['LRANGE', 'log', '0', '-1']),
      );
      const kept = new Map<string, number>();
      for (const item of Array.isArray(list) ? (list as RedisReply[]) : []) {
        kept.set(String(item), (kept.get(String(item)) ?? 0) + 1);
      }
      lost = 0;
      for (let n = 1; n <= this.#acknowledged; n++) if (!kept.has(String(n))) lost += 1;
      for (const [item, times] of kept)
        if (times > 1) this.#contradict(`${item} is in the list ${times} times`);
      if (Number(counter) !== this.#acknowledged)
        this.#contradict(`the counter is ${String(counter)} after ${this.#acknowledged} increments`);
    } catch {
      // No answer: everything acknowledged counts as lost, since nobody can be given it.
    }
    return {
      acknowledged: this.#acknowledged,
      acknowledgedWritesLost: lost,
      contradictions: this.#contradictions,
      longestGapMs: Math.round(Math.max(this.#longestGapMs, this.#stop ? 0 : this.msSinceLastAnswer)),
    };
  }

  close(): void {
    this.#connection.close();
  }

  async #run(): Promise<void> {
    for (let n = 1; !this.#stop; n++) {
      let replies: RedisReply[];
      try {
        replies = await this.#connection.call(['INCR', 'counter'], ['RPUSH', 'log', String(n)]);
      } catch {
        return;
      }
      const now = performance.now();
      this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#lastAt);
      this.#lastAt = now;
      this.#acknowledged = n;
      for (const reply of replies)
        if (reply !== n) this.#contradict(`operation ${n} was answered ${String(reply)}`);
    }
  }

  #contradict(what: string): void {
    this.#contradictions += 1;
    this.#firstContradiction ??= what;
  }
}

function within<Value>(ms: number, promise: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
