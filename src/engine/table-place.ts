/**
 * What a page of RAM translates, when page walks use it as a table: the level, and the bits of the linear address
 * that lead to it. Everything that hangs on one of its entries lies then in one known range of linear addresses,
 * whatever the address space. 0: it is no table. In a word of the wasm memory, because refill.ts looks at it too.
 */

/** It is used at more than one place, or in a way that is not worth knowing exactly. */
export const PLACE_MANY = -1;
export const PLACE_SHIFT = 27;
/** Root of 4-level paging: what hangs on it is known by its address spaces. */
export const PLACE_ROOT = 4 << PLACE_SHIFT;

/** For a table of 64-bit entries: level 1 is the last one, whose entries are of 4 KiB pages. */
export function placeOf(level: number, low: number, high: number): number {
  if (level === 1) return (1 << PLACE_SHIFT) | ((high & 0xffff) << 11) | (low >>> 21);
  if (level === 2) return (2 << PLACE_SHIFT) | ((high & 0xffff) << 2) | (low >>> 30);
  if (level === 3) return (3 << PLACE_SHIFT) | ((high >>> 7) & 0x1ff);
  return PLACE_ROOT;
}

/** A range of linear addresses whose size is a power of two, by the bits of their lower half that name it. */
export interface LinearRange {
  low: number;
  high: number;
  mask: number;
}

const MASKS = [0, ~0xfff, ~0x1f_ffff, ~0x3fff_ffff];

/** What an entry of a table of level 1 to 3 translates. */
export function rangeOfEntry(place: number, index: number, into: LinearRange): void {
  const level = place >>> PLACE_SHIFT;
  const above = place & ((1 << PLACE_SHIFT) - 1);
  into.mask = MASKS[level]!;
  if (level === 1) {
    into.low = (above << 21) | (index << 12);
    into.high = signed16(above >>> 11);
  } else if (level === 2) {
    into.low = (above << 30) | (index << 21);
    into.high = signed16(above >>> 2);
  } else {
    into.low = index << 30;
    into.high = signed16((above << 7) | (index >>> 2));
  }
}

/** Bits 47:32 of a canonical address make its upper half. */
function signed16(bits: number): number {
  return (bits << 16) >> 16;
}
