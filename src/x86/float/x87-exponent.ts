import { bitLength, F80, type Float, packInfinity, packZero } from './format.ts';
import { invalid, nanResult, noteDenormal } from './nan.ts';
import { roundPack, roundShift } from './round.ts';
import { EXCEPTION, type FloatStatus, ROUND } from './status.ts';
import { STATUS } from './x87-unit.ts';

/** FRNDINT, FSCALE, FXTRACT, FPREM and FPREM1: instructions that take numbers apart. */

/** Results that are exact, or rounded, at 64 bits whatever the precision control says. */
export function fullPrecision(
  status: FloatStatus,
  negative: boolean,
  exponent: number,
  significand: bigint,
): bigint {
  const { precision } = status;
  status.precision = F80.precision;
  const bits = roundPack(F80, negative, exponent, significand, status);
  status.precision = precision;
  return bits;
}

/** To an integral value. */
export function toIntegral(x: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, x, status);
  if (nan !== undefined) return nan;
  noteDenormal(status, x);
  if (x.kind === 'infinity') return packInfinity(F80, x.negative);
  if (x.kind === 'zero') return packZero(F80, x.negative);
  const rounded = roundShift(x.significand, Math.max(0, -x.exponent), x.negative, status.rounding);
  if (rounded.significand === 0n) {
    status.flags |= EXCEPTION.inexact;
    return packZero(F80, x.negative);
  }
  const bits = fullPrecision(status, x.negative, Math.max(0, x.exponent), rounded.significand);
  if (rounded.inexact) status.flags |= EXCEPTION.inexact;
  status.roundedUp = rounded.up;
  return bits;
}

/** Beyond this every result overflows or underflows. */
const SCALE_LIMIT = 0x1_0000;

export function scale(_format: typeof F80, x: Float, y: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, y, status);
  if (nan !== undefined) return nan;
  if (y.kind === 'infinity') {
    if (y.negative ? x.kind === 'infinity' : x.kind === 'zero') return invalid(F80, status);
    noteDenormal(status, x);
    return y.negative ? packZero(F80, x.negative) : packInfinity(F80, x.negative);
  }
  noteDenormal(status, x, y);
  if (x.kind === 'infinity') return packInfinity(F80, x.negative);
  if (x.kind === 'zero') return packZero(F80, x.negative);
  let by = 0;
  if (y.kind === 'finite') {
    const tooBig = y.exponent + bitLength(y.significand) > 17;
    const whole = tooBig
      ? SCALE_LIMIT
      : Number(roundShift(y.significand, -y.exponent, y.negative, ROUND.zero).significand);
    by = Math.min(whole, SCALE_LIMIT) * (y.negative ? -1 : 1);
  }
  return fullPrecision(status, x.negative, x.exponent + by, x.significand);
}

export function exponentAndSignificand(
  x: Float,
  status: FloatStatus,
): { readonly exponent: bigint; readonly significand: bigint } {
  const nan = nanResult(F80, x, x, status);
  if (nan !== undefined) return { exponent: nan, significand: nan };
  if (x.kind === 'infinity') {
    return { exponent: packInfinity(F80, false), significand: packInfinity(F80, x.negative) };
  }
  if (x.kind === 'zero') {
    status.flags |= EXCEPTION.zeroDivide;
    return { exponent: packInfinity(F80, true), significand: packZero(F80, x.negative) };
  }
  noteDenormal(status, x);
  const length = bitLength(x.significand);
  const power = x.exponent + length - 1;
  const exponent =
    power === 0 ? packZero(F80, false) : fullPrecision(status, power < 0, 0, BigInt(Math.abs(power)));
  return { exponent, significand: fullPrecision(status, x.negative, 1 - length, x.significand) };
}

/** FPREM reduces the exponent by less than 64 in one step; a longer way is left half done with C2 set. */
export function partialRemainder(
  x: Float,
  y: Float,
  nearest: boolean,
  status: FloatStatus,
): { readonly bits: bigint; readonly conditions: number | undefined } {
  const nan = nanResult(F80, x, y, status);
  if (nan !== undefined) return { bits: nan, conditions: undefined };
  if (x.kind === 'infinity' || y.kind === 'zero')
    return { bits: invalid(F80, status), conditions: undefined };
  noteDenormal(status, x, y);
  if (x.kind === 'zero') return { bits: packZero(F80, x.negative), conditions: 0 };
  if (y.kind === 'infinity') {
    return { bits: fullPrecision(status, x.negative, x.exponent, x.significand), conditions: 0 };
  }
  const distance = x.exponent + bitLength(x.significand) - (y.exponent + bitLength(y.significand));
  if (distance >= 64) {
    // Multiples of y * 2^skip are taken away, so that the exponent falls by 32 to 63.
    const skip = distance - (32 + (distance % 32));
    return { bits: reduce(x, y, skip).bits(status), conditions: STATUS.c2 };
  }
  const { quotient, bits } = reduce(x, y, 0, nearest);
  const conditions =
    (quotient & 4n ? STATUS.c0 : 0) | (quotient & 2n ? STATUS.c3 : 0) | (quotient & 1n ? STATUS.c1 : 0);
  return { bits: bits(status), conditions };
}

/** x less a whole multiple of y * 2^skip: the truncated one, or the nearest. */
function reduce(
  x: Float,
  y: Float,
  skip: number,
  nearest = false,
): { readonly quotient: bigint; bits(status: FloatStatus): bigint } {
  const exponent = Math.min(x.exponent, y.exponent + skip);
  const dividend = x.significand << BigInt(x.exponent - exponent);
  const divisor = y.significand << BigInt(y.exponent + skip - exponent);
  let quotient = dividend / divisor;
  let rest = dividend % divisor;
  let negative = x.negative;
  const twice = rest << 1n;
  if (nearest && (twice > divisor || (twice === divisor && (quotient & 1n) !== 0n))) {
    quotient++;
    rest = divisor - rest;
    negative = !negative;
  }
  return {
    quotient,
    bits: (status) =>
      rest === 0n ? packZero(F80, x.negative) : fullPrecision(status, negative, exponent, rest),
  };
}
