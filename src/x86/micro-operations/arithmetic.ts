import type { MicroOperation, Semantics } from '../semantics.ts';
import { RAX, type Size } from '../state.ts';
import { ALL_SIZES, type BySize, bySize } from './by-size.ts';
import { addFlags, CARRY, carryIn, logicFlags, subtractFlags } from './flags.ts';

/** A two-operand operation: with a register (a = b op c) and with an immediate (a = b op immediate). */
export interface BinaryOperation {
  readonly register: BySize;
  readonly immediate: BySize;
}

/** Does the operation on x and y, sets the flags, and returns the result (or nothing when it has none). */
type Binary = <V, B, X>(s: Semantics<V, B, X>, x: V, y: V, size: Size) => V | undefined;

function binary(name: string, operate: Binary): BinaryOperation {
  const define = (form: string, second: <V, B, X>(s: Semantics<V, B, X>, size: Size) => V) =>
    bySize(`${name}-${form}`, ALL_SIZES, (s, size) => {
      const result = operate(s, s.get('b', size), second(s, size), size);
      if (result !== undefined) s.set('a', size, result);
    });
  return {
    register: define('register', (s, size) => s.get('c', size)),
    immediate: define('immediate', (s) => s.immediate()),
  };
}

export const ADD = binary('add', (s, x, y, size) => {
  const r = s.add(x, y);
  addFlags(s, x, y, r, size);
  return r;
});
export const ADC = binary('adc', (s, x, y, size) => {
  const r = s.add(s.add(x, y), carryIn(s));
  addFlags(s, x, y, r, size, true);
  return r;
});
export const SUB = binary('sub', (s, x, y, size) => {
  const r = s.sub(x, y);
  subtractFlags(s, x, y, r, size);
  return r;
});
export const SBB = binary('sbb', (s, x, y, size) => {
  const r = s.sub(s.sub(x, y), carryIn(s));
  subtractFlags(s, x, y, r, size, true);
  return r;
});
export const COMPARE = binary('compare', (s, x, y, size) => {
  subtractFlags(s, x, y, s.sub(x, y), size);
  return undefined;
});
export const AND = binary('and', (s, x, y, size) => {
  const r = s.and(x, y);
  logicFlags(s, r, size);
  return r;
});
export const OR = binary('or', (s, x, y, size) => {
  const r = s.or(x, y);
  logicFlags(s, r, size);
  return r;
});
export const XOR = binary('xor', (s, x, y, size) => {
  const r = s.xor(x, y);
  logicFlags(s, r, size);
  return r;
});
export const TEST = binary('test', (s, x, y, size) => {
  logicFlags(s, s.and(x, y), size);
  return undefined;
});

/** INC and DEC keep CF [SDM 2A INC]. `overflowed` has OF in bit 8 * size - 1. */
function stepFlags<V, B, X>(
  s: Semantics<V, B, X>,
  kind: 'increment' | 'decrement',
  x: V,
  r: V,
  overflowed: V,
  size: Size,
): void {
  const carry = s.shl(carryIn(s), s.constant(63));
  const overflow = s.and(s.shl(overflowed, s.constant(64 - 8 * size)), s.constant(CARRY));
  // Adding or subtracting 1 changes bit 4 just when it carries out of bit 3.
  const auxiliary = s.and(s.shrU(s.xor(x, r), s.constant(1)), s.constant(8));
  const pair = s.or(carry, s.shrU(s.xor(carry, overflow), s.constant(1)));
  s.setFlags(s.signExtend(r, size), s.or(pair, auxiliary), { kind, size });
}

/** a = b + 1. */
export const INC = bySize('inc', ALL_SIZES, (s, size) => {
  const x = s.get('b', size);
  const r = s.add(x, s.constant(1));
  stepFlags(s, 'increment', x, r, s.and(r, s.xor(x, s.constant(-1))), size);
  s.set('a', size, r);
});
/** a = b - 1. */
export const DEC = bySize('dec', ALL_SIZES, (s, size) => {
  const x = s.get('b', size);
  const r = s.sub(x, s.constant(1));
  stepFlags(s, 'decrement', x, r, s.and(x, s.xor(r, s.constant(-1))), size);
  s.set('a', size, r);
});
/** a = -b. */
export const NEG = bySize('neg', ALL_SIZES, (s, size) => {
  const y = s.get('b', size);
  const r = s.sub(s.constant(0), y);
  subtractFlags(s, s.constant(0), y, r, size);
  s.set('a', size, r);
});
/** a = ~b; no flags. */
export const NOT = bySize('not', ALL_SIZES, (s, size) =>
  s.set('a', size, s.xor(s.get('b', size), s.constant(-1))),
);

/** a = what CMPXCHG stores: b when the accumulator equals c, else c again. */
export const COMPARE_EXCHANGE_VALUE = bySize('compare-exchange-value', ALL_SIZES, (s, size) => {
  const old = s.get('c', size);
  s.set('a', size, s.select(s.eq(s.state(RAX, size), old), s.get('b', size), old));
});
/** CMPXCHG's flags; the accumulator takes c when it differed, and is not written when it did not. */
export const COMPARE_EXCHANGE_FINISH = bySize('compare-exchange-finish', ALL_SIZES, (s, size) => {
  const accumulator = s.state(RAX, size);
  const old = s.get('c', size);
  subtractFlags(s, accumulator, old, s.sub(accumulator, old), size);
  s.when(s.ne(accumulator, old), () => s.setState(RAX, size === 4 ? 8 : size, old));
});

const BINARY = [ADD, ADC, SUB, SBB, COMPARE, AND, OR, XOR, TEST];
const UNARY = [INC, DEC, NEG, NOT, COMPARE_EXCHANGE_VALUE, COMPARE_EXCHANGE_FINISH];

export const ARITHMETIC_OPERATIONS: readonly MicroOperation[] = [
  ...BINARY.flatMap(({ register, immediate }) => [...Object.values(register), ...Object.values(immediate)]),
  ...UNARY.flatMap((sizes) => Object.values(sizes)),
];
