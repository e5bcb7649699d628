import type { LogEntry } from '../replay/log-entry.ts';
import { entryBytes } from './entry-bytes.ts';

/**
 * Entries that the backup has received and not replayed, by weight. A full buffer stops the reading of the channel:
 * nothing is dropped, nothing more is read, so nothing more is acked (rule 9).
 */
export class ReplayBuffer {
  readonly #limit: number;
  #waiting: { readonly sequence: bigint; readonly bytes: number }[] = [];
  #bytes = 0;
  #reading = true;

  /** `limit` in bytes; what arrives together may lie above it. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the channel is to be read. */
  get reading(): boolean {
    return this.#reading;
  }

  received(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      const bytes = entryBytes(entry);
      this.#waiting.push({ sequence: entry.sequence, bytes });
      this.#bytes += bytes;
    }
    if (this.#bytes >= this.#limit) this.#reading = false;
  }

  /** Reading goes on at half, also while the channel is broken: its next connection is read from the start. */
  replayed(sequence: bigint): void {
    let done = 0;
    while (done < this.#waiting.length && this.#waiting[done]!.sequence <= sequence) {
      this.#bytes -= this.#waiting[done]!.bytes;
      done++;
    }
    this.#waiting = this.#waiting.slice(done);
    if (this.#bytes < this.#limit / 2) this.#reading = true;
  }
}
