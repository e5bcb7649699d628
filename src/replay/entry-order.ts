import { failed, ok, type Result } from '../base/result.ts';
import type { LogEntry } from './log-entry.ts';

/**
 * Order (design 5, rule 8): entries follow each other without a gap and without a repeat, their counts do not go
 * back, and nothing follows the end. What is refused here is never applied.
 */
export class EntryOrder {
  #sequence: bigint;
  #at: bigint;
  #ended = false;

  /** `sequence` is that of the last entry received, `at` the count reached by it. */
  constructor(sequence = 0n, at = 0n) {
    this.#sequence = sequence;
    this.#at = at;
  }

  /** The last good position. */
  get sequence(): bigint {
    return this.#sequence;
  }

  get ended(): boolean {
    return this.#ended;
  }

  admit(entry: LogEntry): Result<undefined> {
    const expected = this.#sequence + 1n;
    const place = `log entry ${entry.sequence} at count ${entry.at}`;
    if (this.#ended) return failed(`${place} follows the end of the log`);
    if (entry.sequence > expected) return failed(`${place}: entries from ${expected} on are missing (a gap)`);
    if (entry.sequence < expected) return failed(`${place} is a repeat: entry ${expected} was due`);
    // The mark of an output lies at the instruction after it, which a halted machine has not reached yet.
    if (entry.at + 1n < this.#at)
      return failed(`${place} lies before count ${this.#at} of the entry before it`);
    this.#sequence = expected;
    if (entry.at > this.#at) this.#at = entry.at;
    this.#ended = entry.kind === 'end';
    return ok(undefined);
  }
}
