/** A binary format [SDM 1 4.2.2]. Bits travel as unsigned bigint. */
export interface FloatFormat {
  readonly width: 32 | 64 | 80;
  /** Significand bits with the integer bit. */
  readonly precision: number;
  readonly bias: number;
  /** The exponent field of infinities and NaNs. */
  readonly exponentMax: number;
  /** The integer bit is stored (80-bit format). */
  readonly explicit: boolean;
}
export const F32: FloatFormat = { width: 32, precision: 24, bias: 127, exponentMax: 0xff, explicit: false };
export const F64: FloatFormat = { width: 64, precision: 53, bias: 1023, exponentMax: 0x7ff, explicit: false };
export const F80: FloatFormat = {
  width: 80,
  precision: 64,
  bias: 16383,
  exponentMax: 0x7fff,
  explicit: true,
};

/** An operand taken apart. */
export interface Float {
  /** `unsupported`: 80-bit encodings that are no numbers since the 80387 [SDM 1 8.2.2]. */
  readonly kind: 'zero' | 'finite' | 'infinity' | 'nan' | 'unsupported';
  readonly negative: boolean;
  /** finite: value = significand * 2^exponent. */
  readonly exponent: number;
  /** finite: above zero. nan: the 63 fraction bits that the 80-bit format would hold. */
  readonly significand: bigint;
  readonly denormal: boolean;
}

const QUIET = 1n << 62n;

export function isSignaling(x: Float): boolean {
  return x.kind === 'nan' && (x.significand & QUIET) === 0n;
}

function special(kind: Float['kind'], negative: boolean, significand = 0n): Float {
  return { kind, negative, exponent: 0, significand, denormal: false };
}

export function zero(negative: boolean): Float {
  return special('zero', negative);
}

export function finite(negative: boolean, exponent: number, significand: bigint): Float {
  return significand === 0n
    ? special('zero', negative)
    : { kind: 'finite', negative, exponent, significand, denormal: false };
}

export function unpack(format: FloatFormat, bits: bigint, denormalsAreZero = false): Float {
  const fractionBits = format.precision - 1;
  const stored = format.explicit ? format.precision : fractionBits;
  const fraction = bits & ((1n << BigInt(fractionBits)) - 1n);
  const field = Number(bits >> BigInt(stored)) & format.exponentMax;
  const negative = bits >> BigInt(format.width - 1) !== 0n;
  const integer = format.explicit ? (bits >> 63n) & 1n : field === 0 ? 0n : 1n;
  if (format.explicit && integer === 0n && field !== 0) return special('unsupported', negative);
  if (field === format.exponentMax) {
    if (fraction === 0n) return special('infinity', negative);
    return special('nan', negative, fraction << BigInt(63 - fractionBits));
  }
  const significand = fraction | (integer << BigInt(fractionBits));
  if (significand === 0n || (field === 0 && denormalsAreZero)) return special('zero', negative);
  const exponent = (field === 0 ? 1 : field) - format.bias - fractionBits;
  return { kind: 'finite', negative, exponent, significand, denormal: field === 0 };
}

/** Bits from sign, exponent field and significand with its integer bit. */
export function pack(format: FloatFormat, negative: boolean, field: number, significand: bigint): bigint {
  const fractionBits = BigInt(format.precision - 1);
  const stored = format.explicit ? fractionBits + 1n : fractionBits;
  const kept = significand & ((1n << stored) - 1n);
  return (negative ? 1n << BigInt(format.width - 1) : 0n) | (BigInt(field) << stored) | kept;
}

export function packZero(format: FloatFormat, negative: boolean): bigint {
  return pack(format, negative, 0, 0n);
}

export function packInfinity(format: FloatFormat, negative: boolean): bigint {
  return pack(format, negative, format.exponentMax, 1n << BigInt(format.precision - 1));
}

/** The NaN quieted, its payload cut to the format. */
export function packNan(format: FloatFormat, x: Float): bigint {
  const payload = (x.significand | QUIET | (1n << 63n)) >> BigInt(64 - format.precision);
  return pack(format, x.negative, format.exponentMax, payload);
}

/** The answer to invalid operations: "real indefinite". */
export function defaultNan(format: FloatFormat): bigint {
  return packNan(format, special('nan', true));
}

/** Number of bits up to the highest one set. */
export function bitLength(x: bigint): number {
  let below = 0;
  while (x >= 1n << 64n) {
    x >>= 64n;
    below += 64;
  }
  const high = Number(x >> 32n);
  return below + (high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(x)));
}
