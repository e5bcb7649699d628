import { EtcdCompactedError, type EtcdEntry, type EtcdGateway } from './etcd-gateway.ts';

export interface EtcdWatchEvents {
  /** All keys as they are now, after changes or a time without answers. */
  changed(entries: ReadonlyMap<string, EtcdEntry>): void;
  /** The quorum has answered, and what it was asked after is in the last `changed`. */
  unchanged(): void;
  /** Nothing is heard of changes, from now to the next `changed`. */
  outOfReach(error: unknown): void;
}

export interface EtcdWatchOptions {
  /** Without a change for so long, one is made: see `#listen`. */
  readonly idleMs?: number;
  /** So often the quorum is asked. */
  readonly askMs?: number;
}

export const ANSWER_MS_MAX = 3_000;
const ASK_MS = 3_000;
const IDLE_MS = 60_000;
const AGAIN_MS = 250;
/** Changes that come together are told together. */
const TOGETHER_MS = 20;

/** All keys that begin so, kept as etcd has them: read once, and then what changes [etcd v3, Watch]. */
export class EtcdWatch {
  readonly #gateway: EtcdGateway;
  readonly #prefix: string;
  readonly #events: EtcdWatchEvents;
  /** A key whose changes are nothing but changes. */
  readonly #beatKey: string;
  readonly #idleMs: number;
  readonly #askMs: number;
  /** Of what is waited for. */
  #waiting = new AbortController();
  #ended = false;
  readonly #finished: Promise<void>;
  #entries = new Map<string, EtcdEntry>();
  /** The newest change that is in them, and that of the beat. */
  #revision = 0n;
  #beat = 0n;
  #heardAt = 0;
  #telling: NodeJS.Timeout | undefined;
  #changed = false;
  #away = false;

  constructor(gateway: EtcdGateway, prefix: string, events: EtcdWatchEvents, options: EtcdWatchOptions = {}) {
    this.#gateway = gateway;
    this.#prefix = prefix;
    this.#beatKey = `${prefix}beat`;
    this.#events = events;
    // Not all at once: the first one's change is everybody's.
    this.#idleMs = (options.idleMs ?? IDLE_MS) * (1 + Math.random() / 2);
    this.#askMs = options.askMs ?? ASK_MS;
    this.#finished = this.#run();
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#waiting.abort();
    clearTimeout(this.#telling);
    await this.#finished;
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      try {
        await this.#readAll();
        await this.#listen();
      } catch (error) {
        if (this.#ended) return;
        // Too many changes at once are no trouble: all is read anew.
        if (error instanceof EtcdCompactedError) continue;
        clearTimeout(this.#telling);
        this.#telling = undefined;
        if (!this.#away) this.#events.outOfReach(error);
        this.#away = true;
        await this.#pause(AGAIN_MS, this.#begin().signal);
      }
    }
  }

  async #readAll(): Promise<void> {
    const { entries, revision } = await within(ANSWER_MS_MAX, this.#begin(), (signal) =>
      this.#gateway.readAll(this.#prefix, signal),
    );
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
    this.#beat = this.#entries.get(this.#beatKey)?.revision ?? 0n;
    this.#entries.delete(this.#beatKey);
    this.#revision = revision;
    this.#heardAt = performance.now();
    this.#changed = true;
    this.#tell();
  }

  /**
   * Until the stream ends, or cannot be believed. A member that has lost the others, or stands still, goes on saying
   * nothing: so it is asked a question that takes the quorum, every few seconds. A stream may be deaf by itself: so after
   * a minute without any change somebody makes one. That also keeps the revision from which a stream is begun again near
   * the newest, however much is written outside of the prefix.
   */
  async #listen(): Promise<void> {
    const waiting = this.#begin();
    const { signal } = waiting;
    const both = [this.#hear(waiting), this.#ask(signal)];
    try {
      await Promise.race(both);
    } finally {
      waiting.abort();
      await Promise.allSettled(both);
    }
  }

  async #hear(waiting: AbortController): Promise<void> {
    const timer = setTimeout(() => waiting.abort(), ANSWER_MS_MAX);
    try {
      for await (const changes of this.#gateway.changes(this.#prefix, this.#revision, waiting.signal)) {
        clearTimeout(timer);
        for (const change of changes) {
          this.#revision = change.revision;
          this.#heardAt = performance.now();
          const key = change.kind === 'put' ? change.entry.key : change.key;
          if (key === this.#beatKey) {
            this.#beat = change.kind === 'put' ? change.revision : 0n;
            continue;
          }
          if (change.kind === 'put') this.#entries.set(key, change.entry);
          else this.#entries.delete(key);
          this.#changed = true;
        }
        if (this.#changed) this.#tellSoon();
      }
    } finally {
      clearTimeout(timer);
    }
    throw new Error('it has ended the watch');
  }

  async #ask(stopped: AbortSignal): Promise<void> {
    for (;;) {
      await this.#pause(this.#askMs, stopped);
      if (stopped.aborted) return;
      const askedAt = performance.now();
      const idle = askedAt - this.#heardAt >= this.#idleMs;
      await within(ANSWER_MS_MAX, relayed(stopped), (signal) => this.#question(idle, signal));
      if (idle) await this.#pause(ANSWER_MS_MAX, stopped);
      if (stopped.aborted) return;
      if (idle && this.#heardAt < askedAt) throw new Error('it does not tell of changes');
      // What a member had to tell before it answered is on its way.
      this.#tellSoon();
    }
  }

  async #question(makesChange: boolean, signal: AbortSignal): Promise<void> {
    if (!makesChange) await this.#gateway.read([this.#beatKey], signal);
    // When somebody else was first, that one's change is heard.
    else
      await this.#gateway.writeIf(
        [{ key: this.#beatKey, revision: this.#beat }],
        [{ key: this.#beatKey, text: '' }],
        signal,
      );
  }

  #tellSoon(): void {
    this.#telling ??= setTimeout(() => this.#tell(), TOGETHER_MS);
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    if (this.#ended) return;
    this.#away = false;
    if (this.#changed) this.#events.changed(this.#entries);
    else this.#events.unchanged();
    this.#changed = false;
  }

  #begin(): AbortController {
    this.#waiting = new AbortController();
    if (this.#ended) this.#waiting.abort();
    return this.#waiting;
  }

  #pause(ms: number, stopped: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        stopped.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      stopped.addEventListener('abort', end);
      if (stopped.aborted) end();
    });
  }
}

/** Ends with the other one. */
function relayed(stopped: AbortSignal): AbortController {
  const own = new AbortController();
  const end = () => own.abort();
  stopped.addEventListener('abort', end, { once: true });
  own.signal.addEventListener('abort', () => stopped.removeEventListener('abort', end), { once: true });
  if (stopped.aborted) own.abort();
  return own;
}

/** The work's outcome; `waiting` is over then. */
async function within<Value>(
  ms: number,
  waiting: AbortController,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const timer = setTimeout(() => waiting.abort(), ms);
  try {
    return await work(waiting.signal);
  } finally {
    clearTimeout(timer);
    waiting.abort();
  }
}
