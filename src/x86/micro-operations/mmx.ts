import { microOperation, type Semantics } from '../semantics.ts';
import { FSW, FTW } from '../state.ts';

/**
 * What MMX instructions do to the x87 unit, whose physical registers R0..R7 hold MM0..MM7 [SDM 3A 12.2]. The
 * arithmetic is that of the vector families on the low halves of vector temporaries; VECTOR_FROM64 brings a
 * register there.
 */

const MATH_FAULT = 16;
/** ES of the status word: an exception waits. */
const SUMMARY = 0x0080;
const TOP = 0x3800;
const ALL_VALID = 0xff;
/** Bits 79:64 after a write: a NaN or infinity, so that x87 code notices that it read no number. */
const NEGATIVE_TOP_EXPONENT = 0xffff;

function setTags<V, B, X>(s: Semantics<V, B, X>, tags: number): void {
  s.setState(FSW, 2, s.and(s.state(FSW, 2), s.constant(0xffff & ~TOP)));
  s.setState(FTW, 1, s.constant(tags));
}

/** Delivers a waiting x87 exception. */
export const MMX_CHECK = microOperation('mmx-check', (s) =>
  s.when(s.not(s.isZero(s.and(s.state(FSW, 2), s.constant(SUMMARY)))), () => s.fault(MATH_FAULT)),
);
/** TOP = 0, all registers valid: after an instruction that only read MM registers. */
export const MMX_ENTER = microOperation('mmx-enter', (s) => setTags(s, ALL_VALID));
/** x87 register a = low half of vector b; c is a's bits 79:64. Otherwise as MMX_ENTER. */
export const MMX_WRITE = microOperation('mmx-write', (s) => {
  s.set('a', 8, s.lane(s.getVector('b'), 0));
  s.set('c', 2, s.constant(NEGATIVE_TOP_EXPONENT));
  setTags(s, ALL_VALID);
});
/** EMMS: no register is valid. */
export const MMX_LEAVE = microOperation('mmx-leave', (s) => setTags(s, 0));

export const MMX_OPERATIONS = [MMX_CHECK, MMX_ENTER, MMX_WRITE, MMX_LEAVE];
