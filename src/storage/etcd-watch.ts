import { EtcdCompactedError, type EtcdEntry, type EtcdGateway } from './etcd-gateway.ts';

export interface EtcdWatchEvents {
  /** All keys as they are now, after changes or a time without answers. */
  changed(entries: ReadonlyMap<string, EtcdEntry>): void;
  /** A question to the quorum was answered, and what it was asked after is in the last `changed`. */
  unchanged(): void;
  /** Nothing is heard of changes, from now to the next `changed`. */
  outOfReach(error: unknown): void;
}

export const ANSWER_MS_MAX = 3_000;
/** A stream may be deaf without knowing it: so often it is begun anew, from where it was. */
const STREAM_MS = 3_000;
const AGAIN_MS = 250;
/** Changes that come together are told together. */
const TOGETHER_MS = 20;

/** All keys that begin so, kept as etcd has them: read once, and then what changes [etcd v3, Watch]. */
export class EtcdWatch {
  readonly #gateway: EtcdGateway;
  readonly #prefix: string;
  readonly #events: EtcdWatchEvents;
  /** Of what is waited for. (A signal made of several may be collected before it tells anybody [Node 20].) */
  #waiting = new AbortController();
  #ended = false;
  readonly #finished: Promise<void>;
  #entries = new Map<string, EtcdEntry>();
  /** The newest change that is in them. */
  #revision = 0n;
  #telling: NodeJS.Timeout | undefined;
  #away = false;
  #changed = false;
  /** The quorum has answered since watchers were told anything. */
  #asked = false;

  constructor(gateway: EtcdGateway, prefix: string, events: EtcdWatchEvents) {
    this.#gateway = gateway;
    this.#prefix = prefix;
    this.#events = events;
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
        for (;;) {
          await this.#listen();
          // A member that has lost the others would go on saying nothing.
          await this.#within(ANSWER_MS_MAX, (signal) => this.#gateway.read([`${this.#prefix}token`], signal));
          this.#asked = true;
        }
      } catch (error) {
        if (this.#ended) return;
        // Too many changes at once are no trouble: all is read anew.
        if (error instanceof EtcdCompactedError) continue;
        clearTimeout(this.#telling);
        this.#telling = undefined;
        if (!this.#away) this.#events.outOfReach(error);
        this.#away = true;
        await this.#pause();
      }
    }
  }

  async #readAll(): Promise<void> {
    const { entries, revision } = await this.#within(ANSWER_MS_MAX, (signal) =>
      this.#gateway.readAll(this.#prefix, signal),
    );
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
    this.#revision = revision;
    this.#changed = true;
    this.#tell();
  }

  /** For a while. */
  async #listen(): Promise<void> {
    const waiting = this.#begin();
    let timer = setTimeout(() => waiting.abort(), ANSWER_MS_MAX);
    let listening = false;
    try {
      for await (const changes of this.#gateway.changes(this.#prefix, this.#revision, waiting.signal)) {
        if (!listening) {
          clearTimeout(timer);
          timer = setTimeout(() => waiting.abort(), STREAM_MS);
        }
        listening = true;
        for (const change of changes) {
          this.#revision = change.revision;
          if (change.kind === 'put') this.#entries.set(change.entry.key, change.entry);
          else this.#entries.delete(change.key);
        }
        this.#changed ||= changes.length > 0;
        // What a deaf stream has missed comes right after the beginning of the next one.
        if (this.#changed || this.#asked) this.#telling ??= setTimeout(() => this.#tell(), TOGETHER_MS);
      }
      throw new Error('it has ended the watch');
    } catch (error) {
      if (this.#ended || !waiting.signal.aborted || !listening) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    if (this.#ended) return;
    if (this.#changed) this.#events.changed(this.#entries);
    else this.#events.unchanged();
    this.#away = false;
    this.#changed = false;
    this.#asked = false;
  }

  async #within<Value>(ms: number, work: (signal: AbortSignal) => Promise<Value>): Promise<Value> {
    const waiting = this.#begin();
    const timer = setTimeout(() => waiting.abort(), ms);
    try {
      return await work(waiting.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(): AbortController {
    this.#waiting = new AbortController();
    if (this.#ended) this.#waiting.abort();
    return this.#waiting;
  }

  async #pause(): Promise<void> {
    const waiting = this.#begin();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, AGAIN_MS);
      waiting.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
      if (this.#ended) waiting.abort();
    });
  }
}
