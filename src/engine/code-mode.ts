/** What decoding depends on beside the bytes; part of a block's key. */
export const MODE = {
  code16: 0,
  code32: 1,
  code64: 2,
  codeMask: 3,
  sseUndefined: 4,
  sseUnavailable: 8,
  x87Unavailable: 16,
  waitUnavailable: 32,
  /** Blocks of one instruction, for exact stops and for accesses with side effects. */
  step: 64,
  mmxUndefined: 128,
  /** There are breakpoints on instructions: blocks end before the offsets in CodeCache.stops. */
  breakpoints: 256,
  /** Accesses through segments, and fetches, are checked (x86/system/segment-check.ts); blocks of one instruction. */
  segments: 512,
  nullFs: 1024,
  nullGs: 2048,
  /** SS.B is not CS.D. */
  otherStack: 4096,
} as const;

/** Blocks of these modes are never compiled. */
export const INTERPRETED = MODE.step | MODE.breakpoints | MODE.segments;

/** Number of mode keys. */
export const MODES = 8192;
