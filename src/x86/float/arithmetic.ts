import { bitLength, type Float, type FloatFormat, packInfinity, packZero } from './format.ts';
import { invalid, nanResult, noteDenormal } from './nan.ts';
import { roundPack } from './round.ts';
import { BEFORE_OPERATION, EXCEPTION, type FloatStatus, ROUND } from './status.ts';

/** The basic operations, each the exact result rounded once. */
export type Binary = (format: FloatFormat, x: Float, y: Float, status: FloatStatus) => bigint;

/** True when an exception found before the operation is unmasked: there is nothing to compute. */
function stopped(status: FloatStatus): boolean {
  return (status.flags & ~status.masks & BEFORE_OPERATION) !== 0;
}

function addSigned(format: FloatFormat, x: Float, y: Float, negateY: boolean, status: FloatStatus): bigint {
  const nan = nanResult(format, x, y, status);
  if (nan !== undefined) return nan;
  const yNegative = y.negative !== negateY;
  if (x.kind === 'infinity' && y.kind === 'infinity' && x.negative !== yNegative)
    return invalid(format, status);
  noteDenormal(status, x, y);
  if (stopped(status)) return 0n;
  if (x.kind === 'infinity') return packInfinity(format, x.negative);
  if (y.kind === 'infinity') return packInfinity(format, yNegative);
  const zeroSign = x.negative === yNegative ? x.negative : status.rounding === ROUND.down;
  if (x.kind === 'zero' && y.kind === 'zero') return packZero(format, zeroSign);
  if (x.kind === 'zero') return roundPack(format, yNegative, y.exponent, y.significand, status);
  if (y.kind === 'zero') return roundPack(format, x.negative, x.exponent, x.significand, status);
  const xHigher = x.exponent + bitLength(x.significand) >= y.exponent + bitLength(y.significand);
  const [big, bigNegative, small, smallNegative] = xHigher
    ? [x, x.negative, y, yNegative]
    : [y, yNegative, x, x.negative];
  let exponent = Math.min(big.exponent, small.exponent);
  let bigPart: bigint;
  let smallPart: bigint;
  const room = 2 * 64 + 4;
  if (big.exponent - small.exponent > room) {
    // The smaller operand only decides the direction of rounding.
    exponent = big.exponent - room;
    bigPart = big.significand << BigInt(room);
    smallPart = 1n;
  } else {
    bigPart = big.significand << BigInt(big.exponent - exponent);
    smallPart = small.significand << BigInt(small.exponent - exponent);
  }
  const sum = (bigNegative ? -bigPart : bigPart) + (smallNegative ? -smallPart : smallPart);
  if (sum === 0n) return packZero(format, zeroSign);
  return roundPack(format, sum < 0n, exponent, sum < 0n ? -sum : sum, status);
}

export const add: Binary = (format, x, y, status) => addSigned(format, x, y, false, status);
export const subtract: Binary = (format, x, y, status) => addSigned(format, x, y, true, status);

export const multiply: Binary = (format, x, y, status) => {
  const nan = nanResult(format, x, y, status);
  if (nan !== undefined) return nan;
  const negative = x.negative !== y.negative;
  const infinite = x.kind === 'infinity' || y.kind === 'infinity';
  const zero = x.kind === 'zero' || y.kind === 'zero';
  if (infinite && zero) return invalid(format, status);
  noteDenormal(status, x, y);
  if (stopped(status)) return 0n;
  if (infinite) return packInfinity(format, negative);
  if (zero) return packZero(format, negative);
  return roundPack(format, negative, x.exponent + y.exponent, x.significand * y.significand, status);
};

export const divide: Binary = (format, x, y, status) => {
  const nan = nanResult(format, x, y, status);
  if (nan !== undefined) return nan;
  const negative = x.negative !== y.negative;
  if (x.kind === y.kind && (x.kind === 'infinity' || x.kind === 'zero')) return invalid(format, status);
  if (x.kind !== 'infinity' && y.kind === 'zero') {
    // Division by zero hides a denormal dividend.
    status.flags |= EXCEPTION.zeroDivide;
    return packInfinity(format, negative);
  }
  noteDenormal(status, x, y);
  if (stopped(status)) return 0n;
  if (x.kind === 'infinity') return packInfinity(format, negative);
  if (x.kind === 'zero' || y.kind === 'infinity') return packZero(format, negative);
  // Enough quotient bits for rounding, and one that tells whether anything is left.
  const shift = Math.max(0, format.precision + 3 + bitLength(y.significand) - bitLength(x.significand));
  const dividend = x.significand << BigInt(shift);
  const quotient = dividend / y.significand;
  const rest = dividend % y.significand === 0n ? 0n : 1n;
  return roundPack(format, negative, x.exponent - y.exponent - shift - 1, (quotient << 1n) | rest, status);
};

/** Largest integer whose square is not above x. */
export function integerSquareRoot(x: bigint): bigint {
  if (x === 0n) return 0n;
  let guess = 1n << BigInt((bitLength(x) + 1) >> 1);
  for (;;) {
    const next = (guess + x / guess) >> 1n;
    if (next >= guess) return guess;
    guess = next;
  }
}

export function squareRoot(format: FloatFormat, x: Float, status: FloatStatus): bigint {
  const nan = nanResult(format, x, x, status);
  if (nan !== undefined) return nan;
  if (x.kind === 'zero') return packZero(format, x.negative);
  if (x.negative) return invalid(format, status);
  noteDenormal(status, x);
  if (stopped(status)) return 0n;
  if (x.kind === 'infinity') return packInfinity(format, false);
  let shift = Math.max(0, 2 * (format.precision + 2) - bitLength(x.significand));
  if ((x.exponent - shift) & 1) shift++;
  const radicand = x.significand << BigInt(shift);
  const root = integerSquareRoot(radicand);
  const rest = root * root === radicand ? 0n : 1n;
  return roundPack(format, false, (x.exponent - shift) / 2 - 1, (root << 1n) | rest, status);
}
