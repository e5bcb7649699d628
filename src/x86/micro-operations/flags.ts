import { microOperation, type Semantics } from '../semantics.ts';
import { FLAGS_AUX, FLAGS_REST, FLAGS_RESULT, RCX, type Size } from '../state.ts';

/**
 * How results become flags, and flags conditions. The representation stands in state.ts: `result` holds ZF, SF
 * and PF, and aux<63> is CF, aux<62> is CF ^ OF, aux<3> is AF.
 */

/** Bits 63 and 62 of aux. */
export const CARRY_AND_OVERFLOW = 0xc000_0000_0000_0000n;
export const CARRY = 0x8000_0000_0000_0000n;
const AUXILIARY = 8;

/**
 * aux from a vector whose bit i is the carry (or borrow) out of bit i: CF is the carry out of the top bit, and
 * CF ^ OF the carry into it.
 */
function auxFromCarries<V, B, X>(s: Semantics<V, B, X>, carries: V, size: Size): V {
  if (size === 8) return s.and(carries, s.constant(CARRY_AND_OVERFLOW | 8n));
  const top = s.and(s.shl(carries, s.constant(64 - 8 * size)), s.constant(CARRY_AND_OVERFLOW));
  return s.or(top, s.and(carries, s.constant(AUXILIARY)));
}

/**
 * Flags of r = x + y (+ carry). The carry out of a bit is the majority of x, y and ~r there, which is
 * r ^ ((r ^ x) | (r ^ y)).
 */
export function addFlags<V, B, X>(
  s: Semantics<V, B, X>,
  x: V,
  y: V,
  r: V,
  size: Size,
  carried = false,
): void {
  const carries = s.xor(r, s.or(s.xor(r, x), s.xor(r, y)));
  s.setFlags(s.signExtend(r, size), auxFromCarries(s, carries, size), { kind: 'add', x, y, size, carried });
}

/** Flags of r = x - y (- borrow): the borrow out of a bit is the majority of ~x, y and r. */
export function subtractFlags<V, B, X>(
  s: Semantics<V, B, X>,
  x: V,
  y: V,
  r: V,
  size: Size,
  carried = false,
): void {
  const borrows = s.xor(x, s.or(s.xor(x, y), s.xor(x, r)));
  const aux = auxFromCarries(s, borrows, size);
  s.setFlags(s.signExtend(r, size), aux, { kind: 'subtract', x, y, size, carried });
}

/** Flags of a bitwise operation: CF and OF clear; AF, which is undefined, too. */
export function logicFlags<V, B, X>(s: Semantics<V, B, X>, r: V, size: Size): void {
  s.setFlags(s.signExtend(r, size), s.constant(0), { kind: 'logic', size });
}

/** Replaces CF and OF. `pair` has CF in bit 1 and CF ^ OF in bit 0; its other bits do not matter. */
export function replaceCarryAndOverflow<V, B, X>(s: Semantics<V, B, X>, pair: V): void {
  if (s.putOff('carry-and-overflow', pair)) return;
  const kept = s.and(s.state(FLAGS_AUX, 8), s.constant(CARRY_AND_OVERFLOW ^ 0xffff_ffff_ffff_ffffn));
  s.setState(FLAGS_AUX, 8, s.or(kept, s.shl(pair, s.constant(62))));
}

/** Replaces CF (bit 0 of `carry`, its other bits zero) and keeps OF. */
export function replaceCarry<V, B, X>(s: Semantics<V, B, X>, carry: V): void {
  if (s.putOff('carry', carry)) return;
  const aux = s.state(FLAGS_AUX, 8);
  // Where CF changes, CF ^ OF changes with it.
  const change = s.xor(s.shrU(aux, s.constant(63)), carry);
  s.setState(FLAGS_AUX, 8, s.xor(aux, s.shl(s.sub(s.constant(0), change), s.constant(62))));
}

/** CF as 1 or 0. */
export function carryIn<V, B, X>(s: Semantics<V, B, X>): V {
  const known = s.knownCondition(CONDITION_B);
  return known !== undefined ? s.value(known) : s.shrU(s.state(FLAGS_AUX, 8), s.constant(63));
}

/** The condition code that is CF. */
const CONDITION_B = 2;

/** The count of a shift by CL, masked as for operands of `size` [SDM 2B SAL]. */
export function countInCl<V, B, X>(s: Semantics<V, B, X>, size: Size): V {
  return s.and(s.state(RCX, 1), s.constant(size === 8 ? 63 : 31));
}

/** The eight conditions with an even code; an odd code negates [SDM 1 B.1]. */
export const CONDITION_NAMES = [
  ...['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a'],
  ...['s', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'],
] as const;

export function condition<V, B, X>(s: Semantics<V, B, X>, code: number): B {
  const zero = s.constant(0);
  const one = s.constant(1);
  const result = () => s.state(FLAGS_RESULT, 8);
  const aux = () => s.state(FLAGS_AUX, 8);
  /** Bit 63 is SF. */
  const sign = (a: V) => s.xor(result(), s.shl(a, s.constant(63)));
  /** Bit 63 is OF. */
  const overflow = (a: V) => s.xor(a, s.shl(a, one));
  const even = ((): B => {
    const known = s.knownCondition(code & ~1);
    if (known !== undefined) return known;
    switch (code >> 1) {
      case 0:
        return s.ltS(overflow(aux()), zero);
      case 1:
        return s.ltS(aux(), zero);
      case 2:
        return s.isZero(result());
      case 3:
        return s.eitherOf(s.isZero(result()), s.ltS(aux(), zero));
      case 4:
        return s.ltS(sign(aux()), zero);
      case 5: {
        const low = s.and(s.xor(result(), s.shrU(aux(), s.constant(8))), s.constant(0xff));
        return s.isZero(s.and(s.popcnt(low), one));
      }
      case 6: {
        const a = aux();
        return s.ltS(s.xor(sign(a), overflow(a)), zero);
      }
      default: {
        const a = aux();
        return s.eitherOf(s.isZero(result()), s.ltS(s.xor(sign(a), overflow(a)), zero));
      }
    }
  })();
  return code & 1 ? s.not(even) : even;
}

export const CLEAR_CARRY = microOperation('clear-carry', (s) => replaceCarry(s, s.constant(0)));
export const SET_CARRY = microOperation('set-carry', (s) => replaceCarry(s, s.constant(1)));
/** CF = ~CF; OF stays, so CF ^ OF changes too. */
export const COMPLEMENT_CARRY = microOperation('complement-carry', (s) =>
  s.setState(FLAGS_AUX, 8, s.xor(s.state(FLAGS_AUX, 8), s.constant(CARRY_AND_OVERFLOW))),
);
/** Sets or clears DF: its bits become the immediate. */
export const SET_DIRECTION = microOperation('set-direction', (s) => {
  const kept = s.and(s.state(FLAGS_REST, 8), s.constant(~0x400n));
  s.setState(FLAGS_REST, 8, s.or(kept, s.immediate()));
});

export const FLAG_OPERATIONS = [CLEAR_CARRY, SET_CARRY, COMPLEMENT_CARRY, SET_DIRECTION];
