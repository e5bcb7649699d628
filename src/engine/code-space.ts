import { MODES } from './code-mode.ts';

/** Numbers of epochs: each is used once, and 0 never. */
export class EpochSource {
  #last = 0;

  next(): number {
    this.#last = (this.#last + 1) | 0;
    return this.#last;
  }
}

/**
 * The ways from linear addresses to code in one half of an address space, at one privilege. An epoch is a mode and a
 * base of the code segment here; what the jump cache and the permits of regions hold is valid within one. When a
 * translation that code was fetched through is dropped, all epochs end.
 */
export class CodeSpace {
  readonly #source: EpochSource;
  readonly #keys: number[] = [];
  readonly #epochs: number[] = [];
  /** Linear pages from which code runs in the present epochs. */
  readonly #pages = new Set<number>();
  /** Another number after every end: names what is known of the pages (code-pages.ts). */
  generation: number;

  constructor(source: EpochSource) {
    this.#source = source;
    this.generation = source.next();
  }

  epoch(mode: number, codeBase: number): number {
    const key = codeBase * MODES + mode;
    const keys = this.#keys;
    for (let index = 0; index < keys.length; index++) if (keys[index] === key) return this.#epochs[index]!;
    const epoch = this.#source.next();
    keys.push(key);
    this.#epochs.push(epoch);
    return epoch;
  }

  /** Code runs from this linear page, by the translation that it has now. */
  add(low: number, high: number): void {
    this.#pages.add(pageNumber(low, high));
  }

  runsFrom(low: number, high: number): boolean {
    return this.#pages.has(pageNumber(low, high));
  }

  /** Ends every epoch. */
  end(): void {
    this.#keys.length = 0;
    this.#epochs.length = 0;
    this.#pages.clear();
    this.generation = this.#source.next();
  }

  /** Translations of a range of linear addresses were dropped (Tlb.dropRange). */
  dropped(low: number, high: number, mask: number): void {
    const first = pageNumber(low, high);
    const count = (~mask >>> 12) + 1;
    if (count === 1) {
      if (this.#pages.has(first)) this.end();
      return;
    }
    for (const page of this.#pages) {
      if (page < first || page >= first + count) continue;
      this.end();
      return;
    }
  }
}

function pageNumber(low: number, high: number): number {
  return (high >>> 0) * 2 ** 20 + (low >>> 12);
}
