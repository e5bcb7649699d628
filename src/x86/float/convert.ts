import {
  bitLength,
  type Float,
  type FloatFormat,
  isSignaling,
  packInfinity,
  packNan,
  packZero,
} from './format.ts';
import { invalid, noteDenormal } from './nan.ts';
import { roundPack, roundShift } from './round.ts';
import { EXCEPTION, type FloatStatus, type Rounding } from './status.ts';

/** Conversions between formats and to and from integers. */

/** To another binary format. */
export function convert(format: FloatFormat, x: Float, status: FloatStatus): bigint {
  if (x.kind === 'unsupported') return invalid(format, status);
  if (x.kind === 'nan') {
    if (isSignaling(x)) status.flags |= EXCEPTION.invalid;
    return packNan(format, x);
  }
  noteDenormal(status, x);
  if (status.flags & ~status.masks & EXCEPTION.denormal) return 0n;
  if (x.kind === 'infinity') return packInfinity(format, x.negative);
  if (x.kind === 'zero') return packZero(format, x.negative);
  return roundPack(format, x.negative, x.exponent, x.significand, status);
}

/** A signed integer to a binary format. */
export function fromInteger(format: FloatFormat, value: bigint, status: FloatStatus): bigint {
  if (value === 0n) return packZero(format, false);
  return roundPack(format, value < 0n, 0, value < 0n ? -value : value, status);
}

/**
 * To a signed integer of `bits` bits, as unsigned two's complement. What does not fit is the integer indefinite,
 * the most negative number.
 */
export function toInteger(x: Float, bits: number, rounding: Rounding, status: FloatStatus): bigint {
  const limit = 1n << BigInt(bits - 1);
  if (x.kind === 'zero') return 0n;
  const outOfRange = x.kind !== 'finite' || x.exponent + bitLength(x.significand) > bits + 1;
  if (!outOfRange) {
    const rounded = roundShift(x.significand, -x.exponent, x.negative, rounding);
    const value = x.negative ? -rounded.significand : rounded.significand;
    if (value < limit && value >= -limit) {
      if (rounded.inexact) status.flags |= EXCEPTION.inexact;
      status.roundedUp = rounded.up;
      return BigInt.asUintN(bits, value);
    }
  }
  status.flags |= EXCEPTION.invalid;
  return limit;
}
