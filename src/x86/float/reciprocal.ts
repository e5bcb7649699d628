import { integerSquareRoot } from './arithmetic.ts';
import { defaultNan, F32, packInfinity, packNan, packZero, unpack } from './format.ts';
import { RECIPROCAL, SQUARE_ROOT_EVEN, SQUARE_ROOT_ODD } from './reciprocal-table.ts';

/**
 * RCPPS and RSQRTPS: relative error at most 1.5 * 2^-12, no exceptions, denormal operands and results are zero
 * [SDM 2B RCPPS]. The first 12 fraction bits of the operand choose one of 4,096 intervals; the result has 13
 * significand bits: the value at the middle of the interval, with the difference that the table gives.
 */
function difference(table: string, interval: number): bigint {
  let code = table.charCodeAt(Math.floor(interval / 3));
  code -= code >= 97 ? 71 : 65;
  for (let skip = interval % 3; skip > 0; skip--) code = Math.floor(code / 3);
  return BigInt((code % 3) - 1);
}

/** Fields of a normal operand. */
function take(bits: bigint): { field: number; interval: number; middle: bigint } {
  const interval = Number((bits >> 11n) & 0xfffn);
  return { field: Number((bits >> 23n) & 0xffn), interval, middle: BigInt(2 * (4096 + interval) + 1) };
}

/** significand / 8192, in [1/2, 1), times 2^(field - 126). */
function assemble(negative: boolean, field: number, significand: bigint): bigint {
  if (field <= 0) return packZero(F32, negative);
  return (negative ? 0x8000_0000n : 0n) | (BigInt(field) << 23n) | ((significand & 0xfffn) << 11n);
}

export function approximateReciprocal(bits: bigint): bigint {
  const x = unpack(F32, bits, true);
  if (x.kind === 'nan') return packNan(F32, x);
  if (x.kind === 'zero') return packInfinity(F32, x.negative);
  if (x.kind === 'infinity') return packZero(F32, x.negative);
  const { field, interval, middle } = take(bits);
  const rounded = ((1n << 27n) / middle + 1n) >> 1n;
  return assemble(x.negative, 253 - field, rounded + difference(RECIPROCAL, interval));
}

export function approximateReciprocalSquareRoot(bits: bigint): bigint {
  const x = unpack(F32, bits, true);
  if (x.kind === 'nan') return packNan(F32, x);
  if (x.kind === 'zero') return packInfinity(F32, x.negative);
  if (x.negative) return defaultNan(F32);
  if (x.kind === 'infinity') return packZero(F32, false);
  const { field, interval, middle } = take(bits);
  // An even exponent is a biased field that is odd.
  const even = (field & 1) === 1;
  const square = (1n << (even ? 41n : 40n)) / middle;
  const rounded = (integerSquareRoot(square) + 1n) >> 1n;
  const table = even ? SQUARE_ROOT_EVEN : SQUARE_ROOT_ODD;
  const result = rounded + difference(table, interval);
  return assemble(false, 126 - ((field - (even ? 127 : 128)) >> 1), result);
}
