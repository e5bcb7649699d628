import type { MicroOperation, Semantics } from '../semantics.ts';
import { RAX, RDX, type Size } from '../state.ts';
import { ALL_SIZES, bySize, WIDE_SIZES } from './by-size.ts';
import { replaceCarryAndOverflow } from './flags.ts';

/**
 * Multiplications. CF = OF = the upper half is significant; the other flags, which the manual leaves undefined,
 * stay as they are (AMD Zen, measured).
 */
function overflowFlags<V, B, X>(s: Semantics<V, B, X>, significant: B): void {
  replaceCarryAndOverflow(s, s.select(significant, s.constant(2), s.constant(0)));
}

/** High 64 bits of the unsigned product, from products of 32-bit halves. */
function highProduct<V, B, X>(s: Semantics<V, B, X>, x: V, y: V): V {
  const half = s.constant(32);
  const low = (v: V) => s.zeroExtend(v, 4);
  const high = (v: V) => s.shrU(v, half);
  const x0 = low(x);
  const x1 = high(x);
  const y0 = low(y);
  const y1 = high(y);
  const middle = s.add(s.mul(x1, y0), high(s.mul(x0, y0)));
  const middle2 = s.add(s.mul(x0, y1), low(middle));
  return s.add(s.add(s.mul(x1, y1), high(middle)), high(middle2));
}

/** The signed high half: each negative factor took the other one too often. */
function highSignedProduct<V, B, X>(s: Semantics<V, B, X>, x: V, y: V): V {
  const sign = s.constant(63);
  const correction = s.add(s.and(s.shrS(x, sign), y), s.and(s.shrS(y, sign), x));
  return s.sub(highProduct(s, x, y), correction);
}

function writeProduct<V, B, X>(s: Semantics<V, B, X>, product: V, size: 1 | 2 | 4): void {
  if (size === 1) {
    s.setState(RAX, 2, product);
    return;
  }
  const high = s.shrU(product, s.constant(8 * size));
  if (size === 2) {
    s.setState(RAX, 2, product);
    s.setState(RDX, 2, high);
  } else {
    s.setState(RAX, 8, s.zeroExtend(product, 4));
    s.setState(RDX, 8, s.zeroExtend(high, 4));
  }
}

/** (R)DX:(R)AX (AX for bytes) = accumulator * b, unsigned. */
export const MULTIPLY = bySize('multiply', ALL_SIZES, (s, size) => {
  const x = s.state(RAX, size);
  const y = s.get('b', size);
  if (size === 8) {
    const high = highProduct(s, x, y);
    s.setState(RAX, 8, s.mul(x, y));
    s.setState(RDX, 8, high);
    overflowFlags(s, s.ne(high, s.constant(0)));
  } else {
    const product = s.mul(x, y);
    writeProduct(s, product, size);
    overflowFlags(s, s.ne(s.shrU(product, s.constant(8 * size)), s.constant(0)));
  }
});

/** The same, signed. */
export const MULTIPLY_SIGNED = bySize('multiply-signed', ALL_SIZES, (s, size) => {
  const x = s.signExtend(s.state(RAX, size), size);
  const y = s.getSigned('b', size);
  const product = s.mul(x, y);
  if (size === 8) {
    const high = highSignedProduct(s, x, y);
    s.setState(RAX, 8, product);
    s.setState(RDX, 8, high);
    overflowFlags(s, s.ne(high, s.shrS(product, s.constant(63))));
  } else {
    writeProduct(s, product, size);
    overflowFlags(s, s.ne(product, s.signExtend(product, size)));
  }
});

function truncated<V, B, X>(s: Semantics<V, B, X>, x: V, y: V, size: Size): void {
  const product = s.mul(x, y);
  s.set('a', size, product);
  if (size === 8) {
    overflowFlags(s, s.ne(highSignedProduct(s, x, y), s.shrS(product, s.constant(63))));
  } else {
    overflowFlags(s, s.ne(product, s.signExtend(product, size)));
  }
}

/** a = b * c, cut to the size: IMUL with two operands. */
export const MULTIPLY_REGISTER = bySize('multiply-register', [2, 4, 8] as const, (s, size) =>
  truncated(s, s.getSigned('b', size), s.getSigned('c', size), size),
);
/** a = b * immediate: IMUL with three operands. */
export const MULTIPLY_IMMEDIATE = bySize('multiply-immediate', WIDE_SIZES, (s, size) =>
  truncated(s, s.getSigned('b', size), s.immediate(), size),
);

export const MULTIPLY_OPERATIONS: readonly MicroOperation[] = [
  MULTIPLY,
  MULTIPLY_SIGNED,
  MULTIPLY_REGISTER,
  MULTIPLY_IMMEDIATE,
].flatMap((sizes) => Object.values(sizes));
