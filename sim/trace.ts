/** One line of a run: who did what, and when. */
export interface TraceLine {
  readonly at: number;
  readonly who: string;
  readonly what: string;
}

/**
 * Everything that happened in a run, as one number (two runs of a seed are the same when it is), and as lines when
 * they are asked for: a seed that fails is run again with them.
 */
export class Trace {
  readonly lines: TraceLine[] = [];
  readonly #kept: boolean;
  #low = 0x811c9dc5 | 0;
  #high = 0x1b873593 | 0;

  constructor(kept: boolean) {
    this.#kept = kept;
  }

  /** An event was taken from the queue. */
  tick(at: number): void {
    // Times are sums of generated fractions: a nanosecond is fine enough to tell two runs apart.
    this.#mix(Math.round(at * 1e6) | 0);
  }

  note(at: number, who: string, what: string): void {
    for (let index = 0; index < what.length; index++) this.#mix(what.charCodeAt(index));
    if (this.#kept) this.lines.push({ at, who, what });
  }

  #mix(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#high = (Math.imul(this.#high ^ value, 0x5bd1e995) + this.#low) | 0;
  }

  /** 16 hexadecimal digits. */
  get hash(): string {
    const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, '0');
    return hex(this.#high) + hex(this.#low);
  }
}

/** For people: time in milliseconds, who, what. */
export function timeline(lines: readonly TraceLine[]): string {
  const width = Math.max(0, ...lines.map((line) => line.who.length));
  return lines
    .map((line) => `${line.at.toFixed(3).padStart(10)}  ${line.who.padEnd(width)}  ${line.what}`)
    .join('\n');
}
