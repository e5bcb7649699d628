import { type Float, isSignaling } from './format.ts';
import { noteDenormal } from './nan.ts';
import { EXCEPTION, type FloatStatus } from './status.ts';

export type Order = 'less' | 'equal' | 'greater' | 'unordered';

function magnitudeOrder(x: Float, y: Float): number {
  if (x.kind !== y.kind) {
    const rank = (f: Float): number => (f.kind === 'zero' ? 0 : f.kind === 'finite' ? 1 : 2);
    return rank(x) - rank(y);
  }
  if (x.kind !== 'finite') return 0;
  const distance = x.exponent - y.exponent;
  // Significands have at most 64 bits, so beyond that the exponent decides.
  if (distance > 64) return 1;
  if (distance < -64) return -1;
  const left = distance > 0 ? x.significand << BigInt(distance) : x.significand;
  const right = distance < 0 ? y.significand << BigInt(-distance) : y.significand;
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Compares two numbers without reporting anything. */
export function numericOrder(x: Float, y: Float): Exclude<Order, 'unordered'> {
  if (x.kind === 'zero' && y.kind === 'zero') return 'equal';
  if (x.negative !== y.negative) return x.negative ? 'less' : 'greater';
  const order = x.negative ? -magnitudeOrder(x, y) : magnitudeOrder(x, y);
  return order < 0 ? 'less' : order > 0 ? 'greater' : 'equal';
}

/** `quiet`: quiet NaNs are not an invalid operation (UCOMIS, FUCOM, equality predicates). */
export function compare(x: Float, y: Float, quiet: boolean, status: FloatStatus): Order {
  if (x.kind === 'unsupported' || y.kind === 'unsupported') {
    status.flags |= EXCEPTION.invalid;
    return 'unordered';
  }
  if (x.kind === 'nan' || y.kind === 'nan') {
    if (!quiet || isSignaling(x) || isSignaling(y)) status.flags |= EXCEPTION.invalid;
    return 'unordered';
  }
  noteDenormal(status, x, y);
  return numericOrder(x, y);
}
