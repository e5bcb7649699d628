import { integerSquareRoot } from './arithmetic.ts';
import {
  arctanFixed,
  artanhFixed,
  cosineFixed,
  exponentialMinusOneFixed,
  FRACTION,
  LN2,
  ONE,
  PI,
  sineFixed,
} from './fixed-point.ts';
import { bitLength, F80, type Float, pack, packInfinity, packZero } from './format.ts';
import { invalid, nanResult, noteDenormal } from './nan.ts';
import { EXCEPTION, type FloatStatus } from './status.ts';
import { fullPrecision } from './x87-exponent.ts';

/** Transcendental functions of the x87, correctly rounded but for one case in many millions. */

/** Below 2^-40 the first term of a series decides; what follows only tells the direction of rounding. */
const TINY = -40;
const EXTRA = 80n;

function highBit(x: Float): number {
  return x.exponent + bitLength(x.significand) - 1;
}

/** |x| in fixed point; bits below 2^-FRACTION are lost, so x must not be tiny. */
function toFixed(x: Float): bigint {
  const shift = BigInt(x.exponent) + FRACTION;
  return shift >= 0n ? x.significand << shift : x.significand >> -shift;
}

/** An irrational result: never exact, so a last bit is added that says so. */
function inexact(status: FloatStatus, value: bigint, exponent = -Number(FRACTION)): bigint {
  const magnitude = value < 0n ? -value : value;
  return fullPrecision(status, value < 0n, exponent - 1, (magnitude << 1n) | 1n);
}

/** A little less (or more) than x in magnitude. */
function nudged(status: FloatStatus, x: Float, more: boolean): bigint {
  const significand = (x.significand << EXTRA) + (more ? 1n : -1n);
  return fullPrecision(status, x.negative, x.exponent - Number(EXTRA), significand);
}

function one(negative: boolean): bigint {
  return pack(F80, negative, F80.bias, 1n << 63n);
}

/** True when FSIN and its kin leave the operand alone and set C2. */
export function outOfTrigonometricRange(x: Float): boolean {
  return x.kind === 'finite' && highBit(x) >= 63;
}

/** Half of pi as the processor has it: pi cut to 66 bits [SDM 1 8.3.8]. */
const QUARTER_TURN = ((PI >> (FRACTION - 64n)) << (FRACTION - 64n)) >> 1n;

/** |x| less the nearest multiple of pi/2, and which multiple. */
function reduceAngle(x: Float): { readonly rest: bigint; readonly quadrant: number } {
  const angle = toFixed(x);
  const quotient = (angle + (QUARTER_TURN >> 1n)) / QUARTER_TURN;
  return { rest: angle - quotient * QUARTER_TURN, quadrant: Number(quotient & 3n) };
}

function special(x: Float, status: FloatStatus): bigint | undefined {
  const nan = nanResult(F80, x, x, status);
  if (nan !== undefined) return nan;
  if (x.kind === 'infinity') return invalid(F80, status);
  noteDenormal(status, x);
  return undefined;
}

export function sine(x: Float, status: FloatStatus): bigint {
  const answer = special(x, status);
  if (answer !== undefined) return answer;
  if (x.kind === 'zero') return packZero(F80, x.negative);
  if (highBit(x) < TINY) return nudged(status, x, false);
  const { rest, quadrant } = reduceAngle(x);
  const magnitude = quadrant & 1 ? cosineFixed(rest) : sineFixed(rest);
  return inexact(status, x.negative !== quadrant > 1 ? -magnitude : magnitude);
}

export function cosine(x: Float, status: FloatStatus): bigint {
  const answer = special(x, status);
  if (answer !== undefined) return answer;
  if (x.kind === 'zero') return one(false);
  if (highBit(x) < TINY) return fullPrecision(status, false, -100, (1n << 100n) - 1n);
  const { rest, quadrant } = reduceAngle(x);
  const magnitude = quadrant & 1 ? sineFixed(rest) : cosineFixed(rest);
  return inexact(status, quadrant === 1 || quadrant === 2 ? -magnitude : magnitude);
}

export function tangent(x: Float, status: FloatStatus): bigint {
  const answer = special(x, status);
  if (answer !== undefined) return answer;
  if (x.kind === 'zero') return packZero(F80, x.negative);
  if (highBit(x) < TINY) return nudged(status, x, true);
  const { rest, quadrant } = reduceAngle(x);
  const sin = sineFixed(rest);
  const cos = cosineFixed(rest);
  const value = quadrant & 1 ? -(cos << FRACTION) / sin : (sin << FRACTION) / cos;
  return inexact(status, x.negative ? -value : value);
}

/** arctan(y / x) in the right quadrant. */
export function arctangent(y: Float, x: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, y, status);
  if (nan !== undefined) return nan;
  noteDenormal(status, x, y);
  const signed = (value: bigint): bigint => inexact(status, y.negative ? -value : value);
  if (y.kind === 'zero' || (x.kind === 'infinity' && y.kind !== 'infinity')) {
    return x.negative ? signed(PI) : packZero(F80, y.negative);
  }
  if (y.kind === 'infinity') {
    if (x.kind !== 'infinity') return signed(PI >> 1n);
    return signed(x.negative ? (PI * 3n) >> 2n : PI >> 2n);
  }
  if (x.kind === 'zero') return signed(PI >> 1n);
  const distance = highBit(y) - highBit(x);
  if (distance < -62 && !x.negative) return smallQuotient(y, x, status);
  // The smaller over the larger, then put back: arctan(1/q) = pi/2 - arctan q.
  const swap = distance > 0;
  const [small, big] = swap ? [x, y] : [y, x];
  const shift = FRACTION + BigInt(small.exponent - big.exponent);
  const quotient =
    shift < -64n
      ? 0n
      : shift < 0n
        ? (small.significand >> -shift) / big.significand
        : (small.significand << shift) / big.significand;
  let angle = quotient > ONE ? ONE : quotient;
  angle = quotient > ONE ? (PI >> 1n) - arctan((ONE << FRACTION) / quotient) : arctan(quotient);
  if (swap) angle = (PI >> 1n) - angle;
  if (x.negative) angle = PI - angle;
  return signed(angle);
}

function arctan(q: bigint): bigint {
  return arctanFixed(q, integerSquareRoot);
}

/** y / x, which its arctangent equals to 120 bits. */
function smallQuotient(y: Float, x: Float, status: FloatStatus): bigint {
  const quotient = (y.significand << 160n) / x.significand;
  const rest = (y.significand << 160n) % x.significand;
  // The arctangent is a little smaller; an exact quotient must show that.
  const below = rest === 0n ? (quotient << 1n) - 1n : (quotient << 1n) | 1n;
  return fullPrecision(status, y.negative !== x.negative, y.exponent - x.exponent - 161, below);
}

/** 2^x - 1; the manual defines it for -1 to 1 only. */
export function powerMinusOne(x: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, x, status);
  if (nan !== undefined) return nan;
  if (x.kind === 'infinity') return x.negative ? one(true) : packInfinity(F80, false);
  noteDenormal(status, x);
  if (x.kind === 'zero') return packZero(F80, x.negative);
  const high = highBit(x);
  if (high >= 0) {
    status.flags |= EXCEPTION.inexact;
    if (high === 0 && bitLength(x.significand - (x.significand & -x.significand)) === 0) {
      return x.negative ? fullPrecision(status, true, -1, 1n) : one(false);
    }
    return fullPrecision(status, x.negative, x.exponent, x.significand);
  }
  const product = x.significand * LN2;
  if (high < -120) {
    // x ln 2 is right to 120 bits.
    return inexact(status, x.negative ? -product : product, x.exponent - Number(FRACTION));
  }
  // Scaled so that a small argument keeps its leading digits.
  const shift = BigInt(x.exponent);
  const argument = shift >= 0n ? product << shift : product >> -shift;
  return inexact(status, exponentialMinusOneFixed(x.negative ? -argument : argument));
}

/** y * log2(value), where value = n + log2 fraction in fixed point, or exact when the logarithm is whole. */
function timesLogarithm(y: Float, logarithm: bigint, exact: boolean, status: FloatStatus): bigint {
  const negative = y.negative !== logarithm < 0n;
  const magnitude = logarithm < 0n ? -logarithm : logarithm;
  const product = magnitude * y.significand;
  if (exact) {
    // Processors report inexact here too, and with it underflow of a denormal result.
    const bits = fullPrecision(status, negative, y.exponent - Number(FRACTION), product);
    const denormal = (bits >> 64n) % 0x8000n === 0n && bits !== 0n;
    status.flags |= EXCEPTION.inexact | (denormal ? EXCEPTION.underflow : 0);
    return bits;
  }
  return inexact(status, negative ? -product : product, y.exponent - Number(FRACTION));
}

/** log2 of (1 + z) / (1 - z) for a ratio z = numerator / denominator, in fixed point. */
function logarithmOfRatio(numerator: bigint, denominator: bigint): bigint {
  const z = (numerator << FRACTION) / denominator;
  return ((artanhFixed(z) << 1n) << FRACTION) / LN2;
}

/** y * log2 x. */
export function timesLog2(y: Float, x: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, y, status);
  if (nan !== undefined) return nan;
  if (x.negative && x.kind !== 'zero') return invalid(F80, status);
  if (x.kind === 'zero') {
    if (y.kind === 'zero') return invalid(F80, status);
    if (y.kind !== 'infinity') status.flags |= EXCEPTION.zeroDivide;
    return packInfinity(F80, !y.negative);
  }
  const isOne = x.kind === 'finite' && highBit(x) === 0 && isPowerOfTwo(x.significand);
  const belowOne = x.kind === 'finite' && highBit(x) < 0;
  if (x.kind === 'infinity' || y.kind === 'infinity') {
    if (x.kind === 'infinity' ? y.kind === 'zero' : isOne) return invalid(F80, status);
    noteDenormal(status, x, y);
    return packInfinity(F80, y.negative !== belowOne);
  }
  noteDenormal(status, x, y);
  if (y.kind === 'zero' || isOne) return packZero(F80, y.negative !== belowOne);
  let power = highBit(x);
  const length = bitLength(x.significand);
  if (isPowerOfTwo(x.significand)) return timesLogarithm(y, BigInt(power) << FRACTION, true, status);
  // m = significand / scale in [3/4, 3/2).
  let scale = 1n << BigInt(length - 1);
  if (x.significand * 2n >= scale * 3n) {
    scale <<= 1n;
    power++;
  }
  const fraction = logarithmOfRatio(x.significand - scale, x.significand + scale);
  return timesLogarithm(y, (BigInt(power) << FRACTION) + fraction, false, status);
}

function isPowerOfTwo(x: bigint): boolean {
  return (x & (x - 1n)) === 0n;
}

/** y * log2(x + 1), for small x. */
export function timesLog2PlusOne(y: Float, x: Float, status: FloatStatus): bigint {
  const nan = nanResult(F80, x, y, status);
  if (nan !== undefined) return nan;
  if (x.kind === 'infinity') {
    if (x.negative || y.kind === 'zero') return invalid(F80, status);
    noteDenormal(status, y);
    return packInfinity(F80, y.negative);
  }
  if (y.kind === 'infinity') {
    if (x.kind === 'zero') return invalid(F80, status);
    noteDenormal(status, x);
    return packInfinity(F80, y.negative !== x.negative);
  }
  noteDenormal(status, x, y);
  const negative = x.negative !== y.negative;
  if (x.kind === 'zero' || y.kind === 'zero') return packZero(F80, negative);
  const high = highBit(x);
  if (high < -120) {
    // log2(1 + x) is x / ln 2 to 120 bits.
    const product = ((x.significand * y.significand) << (FRACTION + 64n)) / LN2;
    return inexact(status, negative ? -product : product, x.exponent + y.exponent - 64);
  }
  // Out of the documented range the exact answer is as good as any, while there is one.
  if (high >= 0 && x.negative) {
    status.flags |= EXCEPTION.inexact;
    return fullPrecision(status, true, x.exponent, x.significand);
  }
  // From a quarter on (also towards -1, where the series would hardly converge) 1 + x is formed exactly.
  if (high >= -2) return timesLog2(y, plusOne(x), status);
  const magnitude = toFixed(x);
  const value = x.negative ? -magnitude : magnitude;
  return timesLogarithm(y, logarithmOfRatio(value, (ONE << 1n) + value), false, status);
}

/** 1 + x, exactly, for x above -1. */
function plusOne(x: Float): Float {
  const exponent = Math.min(0, x.exponent);
  const scaled = x.significand << BigInt(x.exponent - exponent);
  const one = 1n << BigInt(-exponent);
  const significand = x.negative ? one - scaled : one + scaled;
  return { kind: 'finite', negative: false, exponent, significand, denormal: false };
}
