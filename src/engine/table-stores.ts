import { type AddressSpaces, UPPER_ENTRY } from './address-spaces.ts';
import { type EngineLayout, PAGE } from './layout.ts';
import type { PhysicalMap } from './physical-map.ts';
import {
  type LinearRange,
  PLACE_MANY,
  PLACE_ROOT,
  PLACE_SHIFT,
  placeOf,
  rangeOfEntry,
} from './table-place.ts';
import type { WatchedTables } from './watched-tables.ts';

/**
 * What follows from stores to pages that walks have read: what hung on an entry that was present and differs now is
 * dropped, so that what is cached always equals what a walk would give. Such stores are rare, but a page that was a table
 * once becomes data: it is let go.
 */
export class TableStores {
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #tables: WatchedTables;
  readonly #spaces: AddressSpaces;
  readonly #range: LinearRange = { low: 0, high: 0, mask: 0 };

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    map: PhysicalMap,
    tables: WatchedTables,
    spaces: AddressSpaces,
  ) {
    this.#layout = layout;
    this.#map = map;
    this.#u8 = new Uint8Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.#tables = tables;
    this.#spaces = spaces;
  }

  /** Could a store to these bytes of a watched page change a translation? */
  mayChangeTranslation(page: number, offset: number, length: number): boolean {
    // The next store drops what hangs on the page; or it may end the sharing of an address space's upper half.
    if (this.#tables.worn(page)) return true;
    if (offset + length > UPPER_ENTRY * 8 && this.#spaces.isRoot(page)) return true;
    const base = (this.#layout.ram + page * PAGE) >>> 2;
    const last = Math.min(offset + length - 1, PAGE - 1);
    for (let entry = offset & ~3; entry <= last; entry += 4) {
      // The low word of an 8-byte entry holds P; a 4-byte entry is its own. Either may be present: be careful.
      if (this.#i32[base + ((entry & ~7) >>> 2)]! & 1) return true;
      if (this.#i32[base + (entry >>> 2)]! & 1) return true;
    }
    return false;
  }

  /**
   * Is what the store may change the translation of pages of 4 KiB that no code runs from? Then it may be made within
   * a block: accesses look their translation up each time, fetches do not.
   */
  changesOnlyData(page: number, offset: number, length: number): boolean {
    const place = this.#tables.place(page);
    if (place >>> PLACE_SHIFT !== 1 || this.#tables.worn(page)) return false;
    const range = this.#range;
    for (let index = offset >>> 3; index <= (offset + length - 1) >>> 3; index++) {
      rangeOfEntry(place, index, range);
      if (this.#spaces.runCodeFrom(range)) return false;
    }
    return true;
  }

  // ---------------------------------------------------------------------------------- the store has been made

  /**
   * Drops what hangs on the entries that were present before the store and differ now. `alone`: no block goes on
   * behind the store, so the page may be let go, and with it the tables of that block.
   */
  stored(page: number, before: Uint8Array, first: number, alone: boolean): void {
    const place = this.#tables.place(page);
    if (place === 0) return;
    if (alone && this.#tables.worn(page)) {
      this.#release(page, place);
      return;
    }
    this.#tables.stored(page);
    const start = this.#layout.ram + page * PAGE + first;
    for (let at = 0; at < before.length; at += 8) {
      let changed = false;
      for (let byte = 0; byte < 8; byte++) {
        const old = before[at + byte]!;
        const now = this.#u8[start + at + byte]!;
        // Setting A or D changes no translation; clearing them does: the next use has to set them again.
        const harmless = byte === 0 ? now & ~old & 0x60 : 0;
        if (old !== (now & ~harmless)) changed = true;
      }
      if (!changed) continue;
      const index = (first + at) / 8;
      // Whether it was present or not: from now on this root's upper half is its own.
      if (index >= UPPER_ENTRY) this.#spaces.separate(page);
      if (((before[at]! | before[at + 4]!) & 1) === 0) continue;
      if (place === PLACE_MANY) {
        this.#spaces.flush();
        return;
      }
      if (place === PLACE_ROOT) this.#dropRootEntry(page, index, before, at);
      else this.#dropEntry(place, index, before, at);
    }
  }

  /** What an entry of a root translated is dropped. */
  #dropRootEntry(page: number, index: number, before: Uint8Array, at: number): void {
    this.#spaces.emptyRoot(page, index >= UPPER_ENTRY);
    const child = this.#tableOf(before, at);
    if (child < 0 || this.#tables.place(child) !== placeOf(3, 0, index << 7)) return;
    // Another address space may have the table at the same place; only its root's entry leads there.
    for (const rootPage of this.#spaces.otherRoots(page)) {
      const entry = this.#layout.ram + rootPage * PAGE + index * 8;
      if (this.#tableOf(this.#u8, entry) === child) return;
    }
    this.#tables.release(child);
  }

  /** RAM page of the table that an entry of a table of level 2 to 4 names; -1: none. */
  #tableOf(bytes: Uint8Array, at: number): number {
    const low = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    const offset = this.#map.ramOffset(((low & ~0xfff) >>> 0) + bytes[at + 4]! * 2 ** 32);
    return offset < 0 ? -1 : Math.floor(offset / PAGE);
  }

  /** What an entry of a table of level 1 to 3 translated is dropped, in every context. */
  #dropEntry(place: number, index: number, before: Uint8Array, at: number): void {
    const range = this.#range;
    rangeOfEntry(place, index, range);
    this.#spaces.dropRange(range);
    const level = place >>> PLACE_SHIFT;
    if (level === 1 || before[at]! & 0x80) return;
    // The table that the entry named: when it is used nowhere else, nothing hangs on it any more.
    const child = this.#tableOf(before, at);
    if (child >= 0 && this.#tables.place(child) === placeOf(level - 1, range.low, range.high))
      this.#tables.release(child);
  }

  /** Is what the table at this place translates in the upper half of the address space? */
  #isUpper(place: number): boolean {
    rangeOfEntry(place, 0, this.#range);
    return this.#range.high < 0;
  }

  /** A watched page becomes data: what hangs on it is dropped. */
  letGo(page: number): void {
    this.#spaces.separate(page);
    this.#release(page, this.#tables.place(page));
  }

  /** Drops everything that hangs on a page that walks used, and watches it no longer: it has become data. */
  #release(page: number, place: number): void {
    const level = place === PLACE_MANY ? 0 : place >>> PLACE_SHIFT;
    if (level === 4) {
      this.#spaces.emptyRoot(page, true);
    } else if (level === 3 && !this.#isUpper(place)) {
      this.#spaces.emptyLowerHalves();
    } else if (level === 1 || level === 2) {
      const range = this.#range;
      rangeOfEntry(place, 0, range);
      // All of its 512 entries.
      range.mask <<= 9;
      this.#spaces.dropRange(range);
    } else {
      this.#spaces.flush();
      return;
    }
    this.#tables.release(page);
  }
}
