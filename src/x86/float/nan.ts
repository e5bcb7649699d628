import { defaultNan, type Float, type FloatFormat, isSignaling, packNan } from './format.ts';
import { EXCEPTION, type FloatStatus } from './status.ts';

/** What an invalid operation gives. */
export function invalid(format: FloatFormat, status: FloatStatus): bigint {
  status.flags |= EXCEPTION.invalid;
  return defaultNan(format);
}

/** x87: of two NaNs the quiet one, else the one with the larger significand, else the positive one. */
function chooseX87(x: Float, y: Float): Float {
  if (isSignaling(x) !== isSignaling(y)) return isSignaling(x) ? y : x;
  if (x.significand !== y.significand) return x.significand > y.significand ? x : y;
  return x.negative ? y : x;
}

/** The result when an operand is no number [SDM 1 table 4-7]; undefined when both are numbers. */
export function nanResult(format: FloatFormat, x: Float, y: Float, status: FloatStatus): bigint | undefined {
  if (x.kind === 'unsupported' || y.kind === 'unsupported') return invalid(format, status);
  if (x.kind !== 'nan' && y.kind !== 'nan') return undefined;
  if (isSignaling(x) || isSignaling(y)) status.flags |= EXCEPTION.invalid;
  if (x.kind !== 'nan') return packNan(format, y);
  if (y.kind !== 'nan' || !status.x87) return packNan(format, x);
  return packNan(format, chooseX87(x, y));
}

/** Reports denormal operands. */
export function noteDenormal(status: FloatStatus, x: Float, y: Float = x): void {
  if (x.denormal || y.denormal) status.flags |= EXCEPTION.denormal;
}
