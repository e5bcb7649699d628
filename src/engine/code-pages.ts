const ENTRIES = 4096;
const WORDS = 4;

/**
 * From linear page to RAM page, for pages that code runs from: what a fetch found stays so as long as the half of the
 * address space that it was found in has the same generation (code-space.ts).
 */
export class CodePages {
  /** Lower half of the address, upper half, generation, RAM page. No generation is 0. */
  readonly #entries = new Int32Array(ENTRIES * WORDS);

  /** The RAM page, or -1 when it is not known. */
  find(low: number, high: number, generation: number): number {
    const entries = this.#entries;
    const at = slot(low, generation);
    const known =
      entries[at] === (low & ~0xfff) && entries[at + 1] === high && entries[at + 2] === generation;
    return known ? entries[at + 3]! : -1;
  }

  note(low: number, high: number, generation: number, page: number): void {
    const entries = this.#entries;
    const at = slot(low, generation);
    entries[at] = low & ~0xfff;
    entries[at + 1] = high;
    entries[at + 2] = generation;
    entries[at + 3] = page;
  }
}

function slot(low: number, generation: number): number {
  return (((low >>> 12) ^ (generation * 61)) & (ENTRIES - 1)) * WORDS;
}
