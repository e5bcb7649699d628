import type { StatusReport } from '../hypervisor/ports.ts';
import { sharedMs } from './host-clock.ts';

export type Report = StatusReport | { readonly kind: string; readonly [key: string]: unknown };

/** What somebody who listens from now on must be told of before: how things stand. */
const STANDING = new Set(['started', 'state', 'failed', 'halted']);

/** What comes again and again: nothing for a file that is kept. */
const FLEETING = new Set(['figures', 'find-host']);

/** A VM process's reports: one JSON object per line, to standard output and to everybody who listens besides. */
export class StatusLines {
  readonly #standing = new Map<string, string>();
  readonly #listeners = new Set<(line: string) => void>();
  readonly #write: (text: string) => unknown;

  constructor(write: (text: string) => unknown = (text) => process.stdout.write(text)) {
    this.#write = write;
  }

  /** Standard output is a log that nobody reads as it is written. */
  keptInFile = false;

  /** Every line says when [host-clock.ts]. */
  report(line: Report): void {
    const stamped = { ...line, ms: sharedMs() };
    const text = JSON.stringify(stamped, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
    if (STANDING.has(line.kind)) {
      // In the order in which it came to be so.
      this.#standing.delete(line.kind);
      this.#standing.set(line.kind, text);
    }
    if (!this.keptInFile || !FLEETING.has(line.kind)) this.#write(`${text}\n`);
    for (const listener of this.#listeners) listener(text);
  }

  /** Returns how to stop listening. */
  listen(listener: (line: string) => void): () => void {
    for (const text of this.#standing.values()) listener(text);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
