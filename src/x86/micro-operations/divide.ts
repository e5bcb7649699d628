import type { MicroOperation, Semantics } from '../semantics.ts';
import { FLAGS_AUX, RAX, RDX, type Size } from '../state.ts';
import { ALL_SIZES, bySize } from './by-size.ts';
import { CARRY_AND_OVERFLOW } from './flags.ts';

/** #DE [SDM 3A 6.15]. */
const DIVIDE_ERROR = 0;

/**
 * Divisions. The manual leaves every flag undefined; AMD Zen processors keep CF and OF, set AF and clear the
 * rest (measured).
 */
function finish<V, B, X>(s: Semantics<V, B, X>, quotient: V, remainder: V, size: Size): void {
  if (size === 1) {
    const low = s.zeroExtend(quotient, 1);
    s.setState(RAX, 2, s.or(low, s.shl(remainder, s.constant(8))));
  } else if (size === 2) {
    s.setState(RAX, 2, quotient);
    s.setState(RDX, 2, remainder);
  } else {
    s.setState(RAX, 8, s.zeroExtend(quotient, size));
    s.setState(RDX, 8, s.zeroExtend(remainder, size));
  }
  const kept = s.and(s.state(FLAGS_AUX, 8), s.constant(CARRY_AND_OVERFLOW));
  // A result of 1 has no sign, is not zero and has odd parity.
  s.setFlags(s.constant(1), s.or(kept, s.constant(8)));
}

/** The dividend of a division of less than 128 bits, zero-extended: AX, DX:AX or EDX:EAX. */
function dividend<V, B, X>(s: Semantics<V, B, X>, size: 1 | 2 | 4): V {
  if (size === 1) return s.state(RAX, 2);
  return s.or(s.state(RAX, size), s.shl(s.state(RDX, size), s.constant(8 * size)));
}

/** Quotient and remainder of high:low / divisor, where high < divisor: two digits of 32 bits [Knuth 4.3.1 D]. */
function longDivision<V, B, X>(
  s: Semantics<V, B, X>,
  high: V,
  low: V,
  divisor: V,
): { quotient: V; remainder: V } {
  const half = s.constant(32);
  const shift = s.clz(divisor);
  const d = s.shl(divisor, shift);
  const d1 = s.shrU(d, half);
  const d0 = s.zeroExtend(d, 4);
  // What the shift moves from low to high; a shift of 64 would be one of 0, hence in two steps.
  const carried = s.shrU(s.shrU(low, s.constant(1)), s.sub(s.constant(63), shift));
  const n = s.or(s.shl(high, shift), carried);
  const rest = s.shl(low, shift);

  const digit = (above: V, next: V): V => {
    let q = s.divU(above, d1);
    let r = s.sub(above, s.mul(q, d1));
    // The estimate is at most two too large.
    for (let correction = 0; correction < 2; correction++) {
      const fits = s.isZero(s.shrU(r, half));
      const large = s.eitherOf(
        s.ne(s.shrU(q, half), s.constant(0)),
        s.ltU(s.or(s.shl(r, half), next), s.mul(q, d0)),
      );
      const again = s.value(s.bothOf(fits, large));
      q = s.sub(q, again);
      r = s.add(r, s.mul(again, d1));
    }
    return q;
  };

  const next1 = s.shrU(rest, half);
  const q1 = digit(n, next1);
  const middle = s.sub(s.or(s.shl(n, half), next1), s.mul(q1, d));
  const next0 = s.zeroExtend(rest, 4);
  const q0 = digit(middle, next0);
  const left = s.sub(s.or(s.shl(middle, half), next0), s.mul(q0, d));
  return { quotient: s.add(s.shl(q1, half), q0), remainder: s.shrU(left, shift) };
}

/** Unsigned division of the double-width accumulator by b. */
export const DIVIDE = bySize('divide', ALL_SIZES, (s, size) => {
  const divisor = s.get('b', size);
  if (size === 8) {
    const low = s.state(RAX, 8);
    const high = s.state(RDX, 8);
    // Also true for a divisor of zero.
    s.when(s.not(s.ltU(high, divisor)), () => s.fault(DIVIDE_ERROR));
    s.when(
      s.isZero(high),
      () => finish(s, s.divU(low, divisor), s.remU(low, divisor), 8),
      () => {
        const { quotient, remainder } = longDivision(s, high, low, divisor);
        finish(s, quotient, remainder, 8);
      },
    );
    return;
  }
  s.when(s.isZero(divisor), () => s.fault(DIVIDE_ERROR));
  const n = dividend(s, size);
  const quotient = s.divU(n, divisor);
  s.when(s.ne(s.shrU(quotient, s.constant(8 * size)), s.constant(0)), () => s.fault(DIVIDE_ERROR));
  finish(s, quotient, s.remU(n, divisor), size);
});

/** |x| as an unsigned number. */
function magnitude<V, B, X>(s: Semantics<V, B, X>, x: V): V {
  const sign = s.shrS(x, s.constant(63));
  return s.sub(s.xor(x, sign), sign);
}

/** Signed division; the quotient is rounded towards zero. */
export const DIVIDE_SIGNED = bySize('divide-signed', ALL_SIZES, (s, size) => {
  const divisor = s.getSigned('b', size);
  s.when(s.isZero(divisor), () => s.fault(DIVIDE_ERROR));
  if (size !== 8) {
    const width = size === 1 ? 2 : size === 2 ? 4 : 8;
    const n = s.signExtend(dividend(s, size), width);
    // -2^63 / -1, the one quotient that does not fit 64 bits, would trap in the host.
    const minimum = s.eq(n, s.constant(-(1n << 63n)));
    s.when(s.bothOf(minimum, s.eq(divisor, s.constant(-1))), () => s.fault(DIVIDE_ERROR));
    const quotient = s.divS(n, divisor);
    s.when(s.ne(quotient, s.signExtend(quotient, size)), () => s.fault(DIVIDE_ERROR));
    finish(s, quotient, s.remS(n, divisor), size);
    return;
  }
  const low = s.state(RAX, 8);
  const high = s.state(RDX, 8);
  const extended = s.eq(high, s.shrS(low, s.constant(63)));
  const negative = s.shrS(high, s.constant(63));
  const opposite = s.shrS(s.xor(high, divisor), s.constant(63));
  s.when(
    s.bothOf(extended, s.ne(divisor, s.constant(-1))),
    () => finish(s, s.divS(low, divisor), s.remS(low, divisor), 8),
    () => {
      const d = magnitude(s, divisor);
      // |high:low|: the complement plus one, whose carry reaches the upper half when the lower one is zero.
      const low1 = s.sub(s.xor(low, negative), negative);
      const borrow = s.and(negative, s.value(s.isZero(low)));
      const high1 = s.add(s.xor(high, negative), borrow);
      s.when(s.not(s.ltU(high1, d)), () => s.fault(DIVIDE_ERROR));
      const { quotient, remainder } = longDivision(s, high1, low1, d);
      // The magnitude may be 2^63 only for a negative quotient.
      const limit = s.sub(s.constant((1n << 63n) - 1n), opposite);
      s.when(s.ltU(limit, quotient), () => s.fault(DIVIDE_ERROR));
      const q = s.sub(s.xor(quotient, opposite), opposite);
      const r = s.sub(s.xor(remainder, negative), negative);
      finish(s, q, r, 8);
    },
  );
});

export const DIVIDE_OPERATIONS: readonly MicroOperation[] = [DIVIDE, DIVIDE_SIGNED].flatMap((sizes) =>
  Object.values(sizes),
);
