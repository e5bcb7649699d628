/**
 * Presence without a common clock: a host's sign of life changes at every beat, and who reads it counts the time
 * since the last change by a clock of its own. What is seen for the first time counts as fresh.
 */
export class ObservedPresence {
  readonly #seen = new Map<string, { readonly beat: string; readonly since: number }>();

  /** Whether `host` is present at `now`, in milliseconds that only ever grow, if silence for `silenceMs` is absence. */
  observe(host: string, beat: string, silenceMs: number, now: number): boolean {
    const seen = this.#seen.get(host);
    if (seen?.beat === beat) return now - seen.since < silenceMs;
    this.#seen.set(host, { beat, since: now });
    return true;
  }

  /** After a time in which nothing could be read, nothing is known: silence begins anew. */
  forget(): void {
    this.#seen.clear();
  }
}
