import type { CodeCache } from './code-cache.ts';
import { type EngineLayout, PAGE, PAGE_FLAG } from './layout.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';

/** Stores to RAM, with all that follows when code runs from the page, or translations hang on it. */
export class RamStores {
  readonly #layout: EngineLayout;
  readonly #u8: Uint8Array;
  readonly #mmu: Mmu;
  readonly #code: CodeCache;
  readonly #pending: Pending;

  constructor(buffer: SharedArrayBuffer, layout: EngineLayout, mmu: Mmu, code: CodeCache, pending: Pending) {
    this.#layout = layout;
    this.#u8 = new Uint8Array(buffer);
    this.#mmu = mmu;
    this.#code = code;
    this.#pending = pending;
  }

  /** False: the store has an effect that only a single step may have; a restart is pending. */
  mayStore(offset: number, size: number): boolean {
    if (this.#pending.stepping) return true;
    const page = Math.floor(offset / PAGE);
    const flags = this.#mmu.flags[page]!;
    if (flags === 0) return true;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code && this.#code.touches(page, inPage, size)) return this.#pending.alone();
    if (
      flags & PAGE_FLAG.table &&
      this.#mmu.tableStores.mayChangeTranslation(page, inPage, size) &&
      !this.#mmu.tableStores.changesOnlyData(page, inPage, size)
    )
      return this.#pending.alone();
    return true;
  }

  /** Stores within one RAM page, with all that follows from it. `alone`: no block goes on behind it. */
  store(offset: number, value: Uint8Array, at: number, length: number, alone = this.#pending.stepping): void {
    const page = Math.floor(offset / PAGE);
    const flags = this.#mmu.flags[page]!;
    const to = this.#layout.ram + offset;
    this.#mmu.dirty[page] = 1;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code) this.#code.invalidate(page, inPage, length);
    if (flags & PAGE_FLAG.table) {
      const first = inPage & ~7;
      const before = this.#u8.slice(
        to - inPage + first,
        to - inPage + Math.min(PAGE, (inPage + length + 7) & ~7),
      );
      for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
      this.#mmu.tableStores.stored(page, before, first, alone);
      return;
    }
    for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
  }

  /** A store by a device: within RAM, may cross pages. */
  storePhysical(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, PAGE - ((offset + at) % PAGE));
      const page = Math.floor((offset + at) / PAGE);
      if (this.#mmu.flags[page] === 0) {
        this.#u8.set(bytes.subarray(at, at + length), this.#layout.ram + offset + at);
        this.#mmu.dirty[page] = 1;
      } else {
        this.store(offset + at, bytes, at, length, true);
      }
      at += length;
    }
  }
}
