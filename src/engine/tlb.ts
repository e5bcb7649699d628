import { type EngineLayout, PAGE, TLB_CHUNK, TLB_CONTEXTS, TLB_ENTRY } from './layout.ts';

/** Entries in a chunk, and words of an entry. */
const CHUNK_ENTRIES = TLB_CHUNK / TLB_ENTRY.size;
const WORDS = TLB_ENTRY.size >>> 2;

/** A page's writers: two slots, each plus 1, in 16 bits each; or this: look everywhere. */
export const WRITERS_MANY = 0xffff;

/**
 * The entries of all contexts' translation caches. For each RAM page it is known in which slots, of whatever context,
 * there may be a write tag for it, as long as those are no more than two: the same linear page has the same slot in
 * every context, and a page rarely has more than a linear address of the kernel's and one of a program's. So all
 * write tags of a page are dropped without looking at every entry. What is noted is never too little, but it may be
 * out of date.
 *
 * The generated look-up (refill.ts) fills entries too, and keeps to the same rules.
 */
export class Tlb {
  readonly #layout: EngineLayout;
  readonly #i32: Int32Array;
  readonly #touched: Uint8Array;
  readonly #writers: Int32Array;
  readonly #chunks: number;

  constructor(buffer: SharedArrayBuffer, layout: EngineLayout) {
    this.#layout = layout;
    this.#i32 = new Int32Array(buffer);
    this.#chunks = (layout.tlbEntries * TLB_ENTRY.size) / TLB_CHUNK;
    this.#touched = new Uint8Array(buffer, layout.tlbTouched, TLB_CONTEXTS * this.#chunks);
    this.#writers = new Int32Array(buffer, layout.pageWriters, layout.ramBytes / PAGE);
    this.#touched.fill(1);
    for (let context = 0; context < TLB_CONTEXTS; context++) this.empty(context);
  }

  /** wasm address of a context's entries. */
  address(context: number): number {
    return this.#layout.tlb + context * this.#layout.tlbEntries * TLB_ENTRY.size;
  }

  empty(context: number): void {
    const i32 = this.#i32;
    const first = context * this.#chunks;
    for (let chunk = first; chunk < first + this.#chunks; chunk++) {
      if (this.#touched[chunk] === 0) continue;
      this.#touched[chunk] = 0;
      const start = this.#chunkIndex(chunk);
      for (let index = start; index < start + CHUNK_ENTRIES * WORDS; index += WORDS) {
        i32[index] = -1;
        i32[index + 1] = -1;
        i32[index + 2] = -1;
        i32[index + 3] = -1;
      }
    }
  }

  #chunkIndex(chunk: number): number {
    return (this.#layout.tlb + chunk * TLB_CHUNK) >>> 2;
  }

  /** A translation to a RAM page; `write`: stores may use it too. */
  fill(context: number, low: number, high: number, page: number, write: boolean): void {
    const i32 = this.#i32;
    const slot = (low >>> 12) & (this.#layout.tlbEntries - 1);
    const index = (this.address(context) >>> 2) + slot * WORDS;
    const tag = low & ~0xfff;
    const same = i32[index] === tag && i32[index + 1] === (high | 0);
    i32[index] = tag;
    i32[index + 1] = high;
    i32[index + 4] = (this.#layout.ram + page * PAGE - tag) | 0;
    this.#touched[context * this.#chunks + Math.floor(slot / CHUNK_ENTRIES)] = 1;
    if (write) {
      i32[index + 2] = tag;
      i32[index + 3] = high;
      this.#noteWriter(page, slot);
    } else if (!same) {
      i32[index + 2] = -1;
      i32[index + 3] = -1;
    }
  }

  // ---------------------------------------------------------------------------------- write tags

  #noteWriter(page: number, slot: number): void {
    const name = slot + 1;
    const noted = this.#writers[page]!;
    const first = noted & 0xffff;
    const second = noted >>> 16;
    if (first === name || second === name || first === WRITERS_MANY) return;
    if (first === 0 || !this.#writes(page, first - 1)) this.#writers[page] = (second << 16) | name;
    else if (second === 0 || !this.#writes(page, second - 1)) this.#writers[page] = (name << 16) | first;
    else this.#writers[page] = WRITERS_MANY;
  }

  /** Is there a write tag for the RAM page in this slot of a context? */
  #writes(page: number, slot: number): boolean {
    const i32 = this.#i32;
    const host = (this.#layout.ram + page * PAGE) | 0;
    const step = this.#layout.tlbEntries * WORDS;
    let index = (this.#layout.tlb >>> 2) + slot * WORDS;
    for (let context = 0; context < TLB_CONTEXTS; context++, index += step) {
      if (((i32[index + 2]! + i32[index + 4]!) | 0) === host) return true;
    }
    return false;
  }

  /** From now on stores to this RAM page take the slow path. */
  dropWriteTags(page: number): void {
    const noted = this.#writers[page]!;
    if (noted === 0) return;
    this.#writers[page] = 0;
    if ((noted & 0xffff) === WRITERS_MANY) {
      for (let slot = 0; slot < this.#layout.tlbEntries; slot++) this.#dropWriteTag(page, slot);
      return;
    }
    if (noted & 0xffff) this.#dropWriteTag(page, (noted & 0xffff) - 1);
    if (noted >>> 16) this.#dropWriteTag(page, (noted >>> 16) - 1);
  }

  #dropWriteTag(page: number, slot: number): void {
    const i32 = this.#i32;
    const host = (this.#layout.ram + page * PAGE) | 0;
    const step = this.#layout.tlbEntries * WORDS;
    let index = (this.#layout.tlb >>> 2) + slot * WORDS;
    for (let context = 0; context < TLB_CONTEXTS; context++, index += step) {
      if (((i32[index + 2]! + i32[index + 4]!) | 0) !== host) continue;
      i32[index + 2] = -1;
      i32[index + 3] = -1;
    }
  }

  /** Every store takes the slow path once more. */
  dropAllWriteTags(): void {
    const i32 = this.#i32;
    for (let chunk = 0; chunk < this.#touched.length; chunk++) {
      if (this.#touched[chunk] === 0) continue;
      const start = this.#chunkIndex(chunk);
      for (let index = start; index < start + CHUNK_ENTRIES * WORDS; index += WORDS) {
        i32[index + 2] = -1;
        i32[index + 3] = -1;
      }
    }
  }

  // ---------------------------------------------------------------------------------- ranges

  /**
   * Drops the translations of a range of linear addresses, in every context. `mask`: the bits of the lower half that
   * name the range, whose size is a power of two up to 2 GiB.
   */
  dropRange(low: number, high: number, mask: number): void {
    const slots = this.#layout.tlbEntries;
    const count = Math.min(slots, (~mask >>> 12) + 1);
    const first = count === slots ? 0 : (low >>> 12) & (slots - 1);
    for (let context = 0; context < TLB_CONTEXTS; context++) {
      if (count < CHUNK_ENTRIES) this.#dropSlots(context, first, count, low, high, mask);
      else this.#dropChunks(context, first, count, low, high, mask);
    }
  }

  #dropChunks(context: number, first: number, count: number, low: number, high: number, mask: number): void {
    const from = context * this.#chunks + first / CHUNK_ENTRIES;
    for (let chunk = from; chunk < from + count / CHUNK_ENTRIES; chunk++) {
      if (this.#touched[chunk] !== 0)
        this.#dropSlots(0, (chunk * TLB_CHUNK) / TLB_ENTRY.size, CHUNK_ENTRIES, low, high, mask);
    }
  }

  #dropSlots(context: number, first: number, count: number, low: number, high: number, mask: number): void {
    const i32 = this.#i32;
    const start = (this.address(context) >>> 2) + first * WORDS;
    for (let index = start; index < start + count * WORDS; index += WORDS) {
      if ((i32[index]! & mask) !== low || i32[index + 1] !== high) continue;
      i32[index] = -1;
      i32[index + 1] = -1;
      i32[index + 2] = -1;
      i32[index + 3] = -1;
    }
  }
}
