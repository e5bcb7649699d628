import { bitLength, type FloatFormat, pack, packInfinity, packZero } from './format.ts';
import { EXCEPTION, type FloatStatus, isMasked, ROUND, type Rounding } from './status.ts';

/** Whether a magnitude is rounded away from zero; `rest` is the part cut off, `half` half a unit of the last place. */
export function roundsUp(
  rounding: Rounding,
  negative: boolean,
  odd: boolean,
  rest: bigint,
  half: bigint,
): boolean {
  if (rest === 0n) return false;
  switch (rounding) {
    case ROUND.nearest:
      return rest > half || (rest === half && odd);
    case ROUND.down:
      return negative;
    case ROUND.up:
      return !negative;
    case ROUND.zero:
      return false;
  }
}

interface Rounded {
  significand: bigint;
  inexact: boolean;
  up: boolean;
}

/** significand / 2^shift as an integer; a negative shift is exact. */
export function roundShift(
  significand: bigint,
  shift: number,
  negative: boolean,
  rounding: Rounding,
): Rounded {
  if (shift <= 0) return { significand: significand << BigInt(-shift), inexact: false, up: false };
  // Far below the last place only "not zero" matters.
  if (shift > bitLength(significand) + 2) {
    const up = roundsUp(rounding, negative, false, 1n, 2n);
    return { significand: up ? 1n : 0n, inexact: true, up };
  }
  const quotient = significand >> BigInt(shift);
  const rest = significand & ((1n << BigInt(shift)) - 1n);
  const up = roundsUp(rounding, negative, (quotient & 1n) !== 0n, rest, 1n << BigInt(shift - 1));
  return { significand: up ? quotient + 1n : quotient, inexact: rest !== 0n, up };
}

/** Exponent adjustment of unmasked x87 overflow and underflow [SDM 1 8.5.4]; FSCALE can go beyond even that. */
const WRAP = 24576;

/**
 * Rounds significand * 2^exponent (significand above zero; its last bit may stand for all that is below it) to
 * `format`, raising overflow, underflow (tininess after rounding) and inexact [SDM 1 4.9.1.5].
 */
export function roundPack(
  format: FloatFormat,
  negative: boolean,
  exponent: number,
  significand: bigint,
  status: FloatStatus,
): bigint {
  const { rounding } = status;
  const precision = format.explicit ? status.precision : format.precision;
  const widening = format.precision - precision;
  const length = bitLength(significand);
  // As if the exponent had no bounds.
  let rounded = roundShift(significand, length - precision, negative, rounding);
  let field = exponent + length - 1 + format.bias;
  if (bitLength(rounded.significand) > precision) {
    rounded.significand >>= 1n;
    field++;
  }
  if (field <= 0) {
    if (!isMasked(status, EXCEPTION.underflow)) {
      status.flags |= EXCEPTION.underflow;
      if (field + WRAP <= 0) {
        status.flags |= EXCEPTION.inexact;
        return packZero(format, negative);
      }
      return finish(field + WRAP);
    }
    if (status.flushToZero) {
      status.flags |= EXCEPTION.underflow | EXCEPTION.inexact;
      return packZero(format, negative);
    }
    const lastPlace = 1 - format.bias - (precision - 1);
    rounded = roundShift(significand, lastPlace - exponent, negative, rounding);
    if (rounded.inexact) status.flags |= EXCEPTION.underflow;
    // A carry into the integer bit makes it the smallest normal number.
    return finish(rounded.significand >> BigInt(precision - 1) === 0n ? 0 : 1);
  }
  if (field >= format.exponentMax) {
    if (!isMasked(status, EXCEPTION.overflow)) {
      status.flags |= EXCEPTION.overflow;
      if (field - WRAP >= format.exponentMax) {
        status.flags |= EXCEPTION.inexact;
        status.roundedUp = true;
        return packInfinity(format, negative);
      }
      return finish(field - WRAP);
    }
    status.flags |= EXCEPTION.overflow | EXCEPTION.inexact;
    const away =
      rounding === ROUND.nearest ||
      (rounding === ROUND.up && !negative) ||
      (rounding === ROUND.down && negative);
    status.roundedUp = away;
    if (away) return packInfinity(format, negative);
    const largest = ((1n << BigInt(precision)) - 1n) << BigInt(widening);
    return pack(format, negative, format.exponentMax - 1, largest);
  }
  return finish(field);

  function finish(exponentField: number): bigint {
    if (rounded.inexact) status.flags |= EXCEPTION.inexact;
    status.roundedUp = rounded.up;
    const kept = rounded.significand << BigInt(widening);
    return pack(format, negative, exponentField & format.exponentMax, kept);
  }
}
