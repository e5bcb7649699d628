import { type MicroOperation, microOperation, type Semantics } from '../semantics.ts';
import type { Size } from '../state.ts';
import { ALL_SIZES, type BySize, bySize, WIDE_SIZES } from './by-size.ts';
import { carryIn, countInCl, replaceCarryAndOverflow } from './flags.ts';

/**
 * Shifts and rotates. What the manual leaves undefined is as AMD Zen processors have it, measured: AF is set by
 * every shift; OF after more than one step is the same function of the result as after one step.
 */

/** A shift by a constant (a = b op immediate, 1..8 * size, or 31) and by CL. */
export interface ShiftOperation<S extends Size = Size> {
  readonly immediate: BySize<S>;
  readonly cl: BySize<S>;
}

/** Computes the result and the pair (CF in bit 1, CF ^ OF in bit 0) for a count that is not zero. */
type Shift = <V, B, X>(s: Semantics<V, B, X>, x: V, count: V, size: Size) => { result: V; pair: V };

const AUXILIARY = 8n;

function shift(name: 'shl' | 'shr' | 'sar', extend: 'get' | 'getSigned', operate: Shift): ShiftOperation {
  const apply = <V, B, X>(s: Semantics<V, B, X>, x: V, count: V, size: Size): void => {
    const { result, pair } = operate(s, x, count, size);
    const aux = s.or(s.shl(pair, s.constant(62)), s.constant(AUXILIARY));
    s.setFlags(s.signExtend(result, size), aux, { kind: name, x, count, size });
    s.set('a', size, result);
  };
  return {
    immediate: bySize(`${name}-immediate`, ALL_SIZES, (s, size) =>
      apply(s, s[extend]('b', size), s.immediate(), size),
    ),
    cl: bySize(`${name}-cl`, ALL_SIZES, (s, size) => byCl(s, size, extend, apply)),
  };
}

/** A count of zero leaves the flags alone, but a 32-bit destination is still written. */
function byCl<V, B, X>(
  s: Semantics<V, B, X>,
  size: Size,
  extend: 'get' | 'getSigned',
  apply: (s: Semantics<V, B, X>, x: V, count: V, size: Size) => void,
): void {
  const count = countInCl(s, size);
  const x = s[extend]('b', size);
  s.when(
    s.isZero(count),
    () => s.set('a', size, x),
    () => apply(s, x, count, size),
  );
}

/** OF = CF ^ sign: all bits but the last one shifted out are still there one step earlier. */
export const SHL = shift('shl', 'get', (s, x, count, size) => {
  const before = s.shl(x, s.sub(count, s.constant(1)));
  const result = s.shl(before, s.constant(1));
  return { result, pair: s.shrU(s.shl(before, s.constant(64 - 8 * size)), s.constant(62)) };
});
/** OF = the two top bits of the result differ: the old sign after one step, 0 after more. */
export const SHR = shift('shr', 'get', (s, x, count, size) => {
  const before = s.shrU(x, s.sub(count, s.constant(1)));
  const carry = s.and(before, s.constant(1));
  const overflow = s.shrU(before, s.constant(8 * size - 1));
  return { result: s.shrU(before, s.constant(1)), pair: s.or(s.add(carry, carry), s.xor(carry, overflow)) };
});
/** OF = 0, so both bits are CF. */
export const SAR = shift('sar', 'getSigned', (s, x, count) => {
  const before = s.shrS(x, s.sub(count, s.constant(1)));
  const carry = s.and(before, s.constant(1));
  return { result: s.shrS(before, s.constant(1)), pair: s.or(s.add(carry, carry), carry) };
});

function rotate(name: string, operate: Shift): ShiftOperation {
  const apply = <V, B, X>(s: Semantics<V, B, X>, x: V, count: V, size: Size): void => {
    const { result, pair } = operate(s, x, count, size);
    replaceCarryAndOverflow(s, pair);
    s.set('a', size, result);
  };
  return {
    immediate: bySize(`${name}-immediate`, ALL_SIZES, (s, size) =>
      apply(s, s.get('b', size), s.immediate(), size),
    ),
    cl: bySize(`${name}-cl`, ALL_SIZES, (s, size) => byCl(s, size, 'get', apply)),
  };
}

/** The operand repeated until it fills 64 bits: rotating that rotates each copy. */
function repeated<V, B, X>(s: Semantics<V, B, X>, x: V, size: Exclude<Size, 4>): V {
  switch (size) {
    case 1:
      return s.mul(x, s.constant(0x0101_0101_0101_0101n));
    case 2:
      return s.mul(x, s.constant(0x0001_0001_0001_0001n));
    case 8:
      return x;
  }
}

/** CF = the lowest bit; OF = CF ^ sign. */
export const ROL = rotate('rol', (s, x, count, size) => {
  const result = size === 4 ? s.rotl32(x, count) : s.rotl(repeated(s, x, size), count);
  // Bit 0 of the result is CF, its top bit the sign: the bit before it, in a rotation.
  const sign = s.and(s.shrU(result, s.constant(8 * size - 1)), s.constant(1));
  return { result, pair: s.or(s.shl(result, s.constant(1)), sign) };
});
/** CF = the sign; OF = the two top bits differ. */
export const ROR = rotate('ror', (s, x, count, size) => {
  const result = size === 4 ? s.rotr32(x, count) : s.rotr(repeated(s, x, size), count);
  return { result, pair: s.shrU(result, s.constant(8 * size - 2)) };
});

function doubleShift(name: string, operate: DoubleShift): ShiftOperation<4 | 8> {
  const apply = <V, B, X>(s: Semantics<V, B, X>, x: V, count: V, size: Size): void => {
    const { result, pair } = operate(s, x, s.get('c', size), count, size);
    s.setFlags(s.signExtend(result, size), s.or(s.shl(pair, s.constant(62)), s.constant(AUXILIARY)));
    s.set('a', size, result);
  };
  return {
    immediate: bySize(`${name}-immediate`, WIDE_SIZES, (s, size) =>
      apply(s, s.get('b', size), s.immediate(), size),
    ),
    cl: bySize(`${name}-cl`, WIDE_SIZES, (s, size) => byCl(s, size, 'get', apply)),
  };
}
type DoubleShift = <V, B, X>(
  s: Semantics<V, B, X>,
  x: V,
  y: V,
  count: V,
  size: Size,
) => { result: V; pair: V };

/** a = high part of b:c << count. CF = last bit out of b, OF = CF ^ sign. */
export const SHLD = doubleShift('shld', (s, x, y, count, size) => {
  const width = s.constant(8 * size);
  const back = s.sub(width, count);
  const result = s.or(s.shl(x, count), s.shrU(y, back));
  const carry = s.and(s.shrU(x, back), s.constant(1));
  const sign = s.and(s.shrU(result, s.constant(8 * size - 1)), s.constant(1));
  return { result, pair: s.or(s.add(carry, carry), sign) };
});
/** a = low part of c:b >> count. CF = last bit out of b, OF = the two top bits of the result differ. */
export const SHRD = doubleShift('shrd', (s, x, y, count, size) => {
  const before = s.shrU(x, s.sub(count, s.constant(1)));
  const result = s.or(s.shrU(before, s.constant(1)), s.shl(y, s.sub(s.constant(8 * size), count)));
  const carry = s.and(before, s.constant(1));
  const top = s.shrU(s.shl(result, s.constant(64 - 8 * size)), s.constant(62));
  const overflow = s.and(s.xor(top, s.shrU(top, s.constant(1))), s.constant(1));
  return { result, pair: s.or(s.add(carry, carry), s.xor(carry, overflow)) };
});

/**
 * 64-bit RCL and RCR by one, the steps of long shifts in bignum code. Other forms are a slow path
 * (instructions/rotate-carry.ts).
 */
export const RCL1 = microOperation('rcl1-64', (s) => {
  const x = s.get('b', 8);
  const result = s.or(s.shl(x, s.constant(1)), carryIn(s));
  replaceCarryAndOverflow(s, s.shrU(x, s.constant(62)));
  s.set('a', 8, result);
});
export const RCR1 = microOperation('rcr1-64', (s) => {
  const x = s.get('b', 8);
  const old = carryIn(s);
  const carry = s.and(x, s.constant(1));
  const result = s.or(s.shrU(x, s.constant(1)), s.shl(old, s.constant(63)));
  const overflow = s.xor(s.shrU(x, s.constant(63)), old);
  replaceCarryAndOverflow(s, s.or(s.add(carry, carry), s.xor(carry, overflow)));
  s.set('a', 8, result);
});

const SHIFTS: readonly ShiftOperation<4 | 8>[] = [SHL, SHR, SAR, ROL, ROR, SHLD, SHRD];

export const SHIFT_OPERATIONS: readonly MicroOperation[] = [
  ...SHIFTS.flatMap(({ immediate, cl }) => [...Object.values(immediate), ...Object.values(cl)]),
  RCL1,
  RCR1,
];
