import { type CpuState, SEGMENT, SEGMENT_ACCESS, SEGMENT_LIMIT } from '../state.ts';
import { ACCESS, code64, protectedMode } from './mode.ts';

/**
 * Limits and kinds of segments outside 64-bit code [SDM 3A 5.3, 5.5]. Flat segments, which nearly all code has, are
 * never looked at: code with others is of a kind of its own (engine/code-mode.ts).
 */

const FLAT = 0xffff_ffff;
/** Data segments that grow downward, by the bit that says conforming of code. */
const DOWNWARD = ACCESS.conforming;

export interface SegmentKinds {
  /** An access through ES, CS, SS, DS, or through FS or GS when it is not null, may fail. */
  readonly checked: boolean;
  /** FS, GS are null: every access through them is #GP. */
  readonly nullFs: boolean;
  readonly nullGs: boolean;
  /** The stack pointer is not as wide as the code: SS.B is not CS.D. */
  readonly otherStack: boolean;
}

export const FLAT_SEGMENTS: SegmentKinds = {
  checked: false,
  nullFs: false,
  nullGs: false,
  otherStack: false,
};

export function segmentKinds(state: CpuState): SegmentKinds {
  // In real mode segments are as long as offsets.
  if (!protectedMode(state) || code64(state)) return FLAT_SEGMENTS;
  const code = state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4);
  const stack = state.get32(SEGMENT_ACCESS + SEGMENT.ss * 4);
  const nullFs = !present(state, SEGMENT.fs);
  const nullGs = !present(state, SEGMENT.gs);
  const flatCode = state.get32(SEGMENT_LIMIT + SEGMENT.cs * 4) === FLAT && (code & ACCESS.readWrite) !== 0;
  return {
    checked: !(
      flatCode &&
      isFlat(state, SEGMENT.ds) &&
      isFlat(state, SEGMENT.es) &&
      isFlat(state, SEGMENT.ss) &&
      (nullFs || isFlat(state, SEGMENT.fs)) &&
      (nullGs || isFlat(state, SEGMENT.gs))
    ),
    nullFs,
    nullGs,
    otherStack: ((code ^ stack) & ACCESS.big) !== 0,
  };
}

function present(state: CpuState, segment: number): boolean {
  return (state.get32(SEGMENT_ACCESS + segment * 4) & ACCESS.present) !== 0;
}

/** Data that may be written, of 4 GiB. */
function isFlat(state: CpuState, segment: number): boolean {
  const wanted = ACCESS.present | ACCESS.user | ACCESS.readWrite;
  const access = state.get32(SEGMENT_ACCESS + segment * 4);
  return (
    (access & (wanted | ACCESS.code | DOWNWARD)) === wanted &&
    state.get32(SEGMENT_LIMIT + segment * 4) === FLAT
  );
}

/** May these bytes, at an offset in the segment, be read or written through it? */
export function mayAccess(
  state: CpuState,
  segment: number,
  offset: number,
  size: number,
  write: boolean,
): boolean {
  const access = state.get32(SEGMENT_ACCESS + segment * 4);
  if ((access & ACCESS.present) === 0) return false;
  const code = (access & ACCESS.code) !== 0;
  const readWrite = (access & ACCESS.readWrite) !== 0;
  if (write ? code || !readWrite : code && !readWrite) return false;
  const limit = state.get32(SEGMENT_LIMIT + segment * 4);
  const last = offset + size - 1;
  if (code || (access & DOWNWARD) === 0) return last <= limit;
  return offset > limit && last <= ((access & ACCESS.big) !== 0 ? FLAT : 0xffff);
}

/** Does the code segment hold the bytes of an instruction at this offset? */
export function mayFetch(state: CpuState, offset: number, length: number): boolean {
  return offset + length - 1 <= state.get32(SEGMENT_LIMIT + SEGMENT.cs * 4);
}
