import { type EngineLayout, PAGE, PAGE_FLAG } from './layout.ts';
import { PLACE_MANY } from './table-place.ts';
import type { Tlb } from './tlb.ts';

/** After this many stores to one watched page it has become data: what hangs on it is dropped, and it is let go. */
const STORES_MAX = 128;

/** The RAM pages that walks have read: stores to them are looked at, so they take the slow path. */
export class WatchedTables {
  readonly #tlb: Tlb;
  readonly #places: Int32Array;
  readonly #flags: Uint8Array;
  /** It stays at its greatest number: an instruction of a block may store many times to a page that is worn. */
  readonly #stores: Uint8ClampedArray;
  readonly #pages = new Set<number>();

  constructor(buffer: SharedArrayBuffer, layout: EngineLayout, tlb: Tlb) {
    this.#tlb = tlb;
    const count = layout.ramBytes / PAGE;
    this.#places = new Int32Array(buffer, layout.pagePlaces, count);
    this.#flags = new Uint8Array(buffer, layout.pageFlags, count);
    this.#stores = new Uint8ClampedArray(count);
  }

  /** Of table-place.ts; 0 when the page is not watched. */
  place(page: number): number {
    return this.#places[page]!;
  }

  /** A walk used the page at this place. */
  watch(page: number, place: number): void {
    const known = this.#places[page]!;
    if (known === place) return;
    this.#places[page] = known === 0 ? place : PLACE_MANY;
    if (known !== 0) return;
    this.#pages.add(page);
    this.#flags[page]! |= PAGE_FLAG.table;
    this.#tlb.dropWriteTags(page);
  }

  /** Nothing hangs on the page any more. */
  release(page: number): void {
    if (this.#pages.delete(page)) this.#forget(page);
  }

  releaseAll(): void {
    for (const page of this.#pages) this.#forget(page);
    this.#pages.clear();
  }

  #forget(page: number): void {
    this.#places[page] = 0;
    this.#stores[page] = 0;
    this.#flags[page]! &= ~PAGE_FLAG.table;
  }

  /** Does the next store to it make it data? */
  worn(page: number): boolean {
    return this.#stores[page]! >= STORES_MAX;
  }

  stored(page: number): void {
    this.#stores[page]!++;
  }
}
