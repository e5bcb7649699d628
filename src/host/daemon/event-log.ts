import type { ApiEvent } from '../api.ts';

const KEPT = 1000;

/** What happened on this host, for whoever asks and whoever follows. */
export class EventLog {
  readonly #host: string;
  readonly #kept: ApiEvent[] = [];
  readonly #followers = new Set<(event: ApiEvent) => void>();

  constructor(host: string) {
    this.#host = host;
  }

  get recent(): readonly ApiEvent[] {
    return this.#kept;
  }

  add(kind: string, detail: string, vm?: string): void {
    const event = { time: new Date().toISOString(), host: this.#host, vm, kind, detail };
    this.#kept.push(event);
    if (this.#kept.length > KEPT) this.#kept.shift();
    for (const follower of this.#followers) follower(event);
  }

  /** Returns how to stop. */
  follow(follower: (event: ApiEvent) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}
