import { type MicroOperation, microOperation, type Semantics } from '../semantics.ts';
import { MXCSR } from '../state.ts';

/**
 * The quick way of SSE arithmetic. Each of these does the whole instruction and skips the next record when the
 * result is what the slow way would give and no flag in MXCSR could change; otherwise it does nothing, and the next
 * record calls the slow way. The inexact flag is sticky and soon set, so what is left is: rounding to nearest,
 * operands that are normal or zero, and results that are normal and away from the underflow threshold, or an exact
 * zero.
 */

interface Format {
  readonly name: 'f32' | 'f64';
  readonly width: 32 | 64;
  readonly fractionBits: number;
  /** Exponent field of infinities and NaNs. */
  readonly special: number;
}
const F32: Format = { name: 'f32', width: 32, fractionBits: 23, special: 0xff };
const F64: Format = { name: 'f64', width: 64, fractionBits: 52, special: 0x7ff };

/** Rounding control, inexact mask and inexact flag. */
const MODE_BITS = 0x7020;
const ROUND_TO_NEAREST_INEXACT_SEEN = 0x1020;
const INEXACT_BITS = 0x1020;

/** Rounding is to nearest, and inexact results change nothing any more. */
function quickMode<V, B, X>(s: Semantics<V, B, X>): B {
  const bits = s.and(s.state(MXCSR, 4), s.constant(MODE_BITS));
  return s.eq(bits, s.constant(ROUND_TO_NEAREST_INEXACT_SEEN));
}

function exponentField<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): V {
  return s.and(s.shrU(x, s.constant(f.fractionBits)), s.constant(f.special));
}
function isNormal<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): B {
  return s.ltU(s.sub(exponentField(s, f, x), s.constant(1)), s.constant(f.special - 1));
}
/** Normal, and not the smallest binade: a number that underflow could not have rounded to. */
function isFarFromUnderflow<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): B {
  return s.ltU(s.sub(exponentField(s, f, x), s.constant(2)), s.constant(f.special - 2));
}
function isZero<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): B {
  return s.isZero(s.shl(x, s.constant(65 - f.width)));
}
function isOrdinary<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): B {
  return s.eitherOf(isNormal(s, f, x), isZero(s, f, x));
}

type Arithmetic = 'add' | 'sub' | 'mul' | 'div';

/**
 * The usual case, told with few instructions: no operand is zero or denormal, and the result is normal and far from
 * underflow. Then no operand is special either, or the result would be; but x / infinity is 0, which is not far.
 */
function isUsual<V, B, X>(s: Semantics<V, B, X>, f: Format, operands: readonly V[], result: V): B {
  const mask = BigInt(f.special) << BigInt(f.fractionBits);
  const exponent = (x: V) => s.and(x, s.constant(mask));
  const farBits = s.and(result, s.constant(mask - (1n << BigInt(f.fractionBits))));
  let usual = s.bothOf(s.ne(exponent(result), s.constant(mask)), s.not(s.isZero(farBits)));
  for (const operand of operands) usual = s.bothOf(usual, s.not(s.isZero(exponent(operand))));
  return usual;
}

/** Whether x operation y = result is the whole truth. */
function isPlain<V, B, X>(s: Semantics<V, B, X>, f: Format, kind: Arithmetic, x: V, y: V, result: V): B {
  const far = isFarFromUnderflow(s, f, result);
  if (kind === 'add' || kind === 'sub') {
    // Sums that are zero are exact.
    const operands = s.bothOf(isOrdinary(s, f, x), isOrdinary(s, f, y));
    return s.bothOf(operands, s.eitherOf(far, isZero(s, f, result)));
  }
  // A product or quotient that is zero must come from a zero.
  const normal = s.bothOf(s.bothOf(isNormal(s, f, x), isNormal(s, f, y)), far);
  if (kind === 'div') return s.eitherOf(normal, s.bothOf(isZero(s, f, x), isNormal(s, f, y)));
  const zeroFirst = s.bothOf(isZero(s, f, x), isOrdinary(s, f, y));
  const zeroSecond = s.bothOf(isZero(s, f, y), isOrdinary(s, f, x));
  return s.eitherOf(normal, s.eitherOf(zeroFirst, zeroSecond));
}

/** The low element of a vector. */
function element<V, B, X>(s: Semantics<V, B, X>, f: Format, x: X): V {
  const lane = s.lane(x, 0);
  return f.width === 32 ? s.zeroExtend(lane, 4) : lane;
}
/** `x` with its low element replaced. */
function withElement<V, B, X>(s: Semantics<V, B, X>, f: Format, x: X, value: V): X {
  if (f.width === 64) return s.withLowLane(x, value);
  const rest = s.and(s.lane(x, 0), s.constant(-0x1_0000_0000n));
  return s.withLowLane(x, s.or(rest, value));
}

/** a = b operation c in the low element. */
function scalar(f: Format, kind: Arithmetic): MicroOperation {
  return microOperation(`quick-${f.name}-${kind}`, (s) => {
    const target = s.getVector('b');
    const x = element(s, f, target);
    const y = element(s, f, s.getVector('c'));
    const result = s.float(`${f.name}.${kind}`, x, y);
    s.when(quickMode(s), () => {
      const finish = () => {
        s.setVector('a', withElement(s, f, target, result));
        s.skipNext();
      };
      s.when(isUsual(s, f, [x, y], result), finish);
      s.when(isPlain(s, f, kind, x, y, result), finish);
    });
  });
}

/** isUsual, in every lane. */
function areUsual<V, B, X>(s: Semantics<V, B, X>, f: Format, operands: readonly X[], result: X): B {
  const shape = f.width === 32 ? 'i32x4' : 'i64x2';
  const everywhere = (lane: bigint) => {
    const bits = f.width === 32 ? lane | (lane << 32n) : lane;
    return s.vectorConstant(bits, bits);
  };
  const equal = (x: X, y: X) => s.vectorOp(`${shape}.eq`, x, y);
  const mask = BigInt(f.special) << BigInt(f.fractionBits);
  const exponent = (x: X) => s.vectorOp('v128.and', x, everywhere(mask));
  const zero = everywhere(0n);
  const farBits = s.vectorOp('v128.and', result, everywhere(mask - (1n << BigInt(f.fractionBits))));
  let unusual = s.vectorOp('v128.or', equal(exponent(result), everywhere(mask)), equal(farBits, zero));
  for (const operand of operands) unusual = s.vectorOp('v128.or', unusual, equal(exponent(operand), zero));
  return s.not(s.anyBit(unusual));
}

/** a = b operation c in both doubles. */
function pair(kind: Arithmetic): MicroOperation {
  return microOperation(`quick-f64x2-${kind}`, (s) => {
    const x = s.getVector('b');
    const y = s.getVector('c');
    const result = s.vectorFloat(`f64x2.${kind}`, x, y);
    s.when(quickMode(s), () => {
      const finish = () => {
        s.setVector('a', result);
        s.skipNext();
      };
      s.when(areUsual(s, F64, [x, y], result), finish);
      const plain = (lane: 0 | 1) =>
        isPlain(s, F64, kind, s.lane(x, lane), s.lane(y, lane), s.lane(result, lane));
      s.when(s.bothOf(plain(0), plain(1)), finish);
    });
  });
}

/** a = b operation c in all four singles. */
function four(kind: Arithmetic): MicroOperation {
  return microOperation(`quick-f32x4-${kind}`, (s) => {
    const x = s.getVector('b');
    const y = s.getVector('c');
    const result = s.vectorFloat(`f32x4.${kind}`, x, y);
    s.when(s.bothOf(quickMode(s), areUsual(s, F32, [x, y], result)), () => {
      s.setVector('a', result);
      s.skipNext();
    });
  });
}

function family(define: (kind: Arithmetic) => MicroOperation): Record<Arithmetic, MicroOperation> {
  return { add: define('add'), sub: define('sub'), mul: define('mul'), div: define('div') };
}
export const QUICK_ARITHMETIC = {
  ss: family((kind) => scalar(F32, kind)),
  sd: family((kind) => scalar(F64, kind)),
  pd: family(pair),
  ps: family(four),
} as const;

/** a = square root of c: of a positive normal number it is normal too, of a zero that zero. */
function root(f: Format): MicroOperation {
  return microOperation(`quick-${f.name}-sqrt`, (s) => {
    const x = element(s, f, s.getVector('c'));
    const positive = s.isZero(s.shrU(x, s.constant(f.width - 1)));
    s.when(s.bothOf(quickMode(s), s.bothOf(positive, isOrdinary(s, f, x))), () => {
      s.setVector('a', withElement(s, f, s.getVector('a'), s.floatUnary(`${f.name}.sqrt`, x)));
      s.skipNext();
    });
  });
}
export const QUICK_ROOT = { ss: root(F32), sd: root(F64) } as const;

/** Not a denormal number and not a NaN. */
function isComparable<V, B, X>(s: Semantics<V, B, X>, f: Format, x: V): B {
  const infinite = s.eq(
    s.shl(x, s.constant(65 - f.width)),
    s.constant(BigInt.asIntN(64, BigInt(f.special) << BigInt(64 - f.width + 1 + f.fractionBits))),
  );
  return s.eitherOf(isOrdinary(s, f, x), infinite);
}

/** FLAGS_RESULT and FLAGS_AUX of the three orders: ZF alone, CF alone, or nothing; PF clear. */
const EQUAL = { result: 0n, aux: 0x100n } as const;
const ABOVE = { result: 1n, aux: 0n } as const;
const BELOW = { result: 1n, aux: -0x4000_0000_0000_0000n } as const;

/** COMIS and UCOMIS, which differ for NaNs only. */
function order(f: Format): MicroOperation {
  return microOperation(`quick-${f.name}-order`, (s) => {
    const x = element(s, f, s.getVector('b'));
    const y = element(s, f, s.getVector('c'));
    s.when(s.bothOf(isComparable(s, f, x), isComparable(s, f, y)), () => {
      const equal = s.eitherOf(s.eq(x, y), s.bothOf(isZero(s, f, x), isZero(s, f, y)));
      const below = s.floatLess(f.name, x, y);
      const result = s.select(equal, s.constant(EQUAL.result), s.constant(ABOVE.result));
      const aux = s.select(below, s.constant(BELOW.aux), s.constant(ABOVE.aux));
      s.setFlags(result, s.select(equal, s.constant(EQUAL.aux), aux));
      s.skipNext();
    });
  });
}
export const QUICK_ORDER = { ss: order(F32), sd: order(F64) } as const;

/** a = the signed integer in general register c, 4 or 8 bytes. */
function fromInteger(f: Format, size: 4 | 8): MicroOperation {
  return microOperation(`quick-${f.name}-from${size * 8}`, (s) => {
    const value = s.getSigned('c', size);
    const result = s.floatUnary(`${f.name}.convert_i64_s`, value);
    // The magnitude fits the significand: exact in any mode.
    const bits = f.fractionBits + 1;
    const biased = s.add(value, s.constant(1n << BigInt(bits)));
    const exact = s.ltU(biased, s.constant(1n << BigInt(bits + 1)));
    s.when(s.eitherOf(exact, quickMode(s)), () => {
      s.setVector('a', withElement(s, f, s.getVector('a'), result));
      s.skipNext();
    });
  });
}
export const QUICK_FROM_INTEGER = {
  ss: { 4: fromInteger(F32, 4), 8: fromInteger(F32, 8) },
  sd: { 4: fromInteger(F64, 4), 8: fromInteger(F64, 8) },
} as const;

/** General register a = the low element of c, truncated. */
function truncate(f: Format, size: 4 | 8): MicroOperation {
  return microOperation(`quick-${f.name}-truncate${size * 8}`, (s) => {
    const x = element(s, f, s.getVector('c'));
    const bias = f.special >> 1;
    // Below 2^(bits - 1) in magnitude; zero and normal only.
    const small = s.ltU(exponentField(s, f, x), s.constant(bias + size * 8 - 1));
    s.when(s.bothOf(small, isOrdinary(s, f, x)), () => {
      const value = s.floatUnary(`i64.trunc_${f.name}_s`, x);
      const back = s.floatUnary(`${f.name}.convert_i64_s`, value);
      const exact = s.eitherOf(s.eq(back, x), isZero(s, f, x));
      const seen = s.eq(s.and(s.state(MXCSR, 4), s.constant(INEXACT_BITS)), s.constant(INEXACT_BITS));
      s.when(s.eitherOf(exact, seen), () => {
        s.set('a', size, value);
        s.skipNext();
      });
    });
  });
}
export const QUICK_TRUNCATE = {
  ss: { 4: truncate(F32, 4), 8: truncate(F32, 8) },
  sd: { 4: truncate(F64, 4), 8: truncate(F64, 8) },
} as const;

/** CVTSS2SD: always exact. */
export const QUICK_WIDEN = microOperation('quick-widen', (s) => {
  const x = element(s, F32, s.getVector('c'));
  s.when(isOrdinary(s, F32, x), () => {
    s.setVector('a', withElement(s, F64, s.getVector('a'), s.floatUnary('f64.promote_f32', x)));
    s.skipNext();
  });
});
/** CVTSD2SS. */
export const QUICK_NARROW = microOperation('quick-narrow', (s) => {
  const x = element(s, F64, s.getVector('c'));
  const result = s.floatUnary('f32.demote_f64', x);
  const plain = s.bothOf(isNormal(s, F64, x), isFarFromUnderflow(s, F32, result));
  s.when(s.bothOf(quickMode(s), s.eitherOf(plain, isZero(s, F64, x))), () => {
    s.setVector('a', withElement(s, F32, s.getVector('a'), result));
    s.skipNext();
  });
});

export const SSE_FLOAT_OPERATIONS: readonly MicroOperation[] = [
  ...Object.values(QUICK_ARITHMETIC).flatMap((shape) => Object.values(shape)),
  ...Object.values(QUICK_ROOT),
  ...Object.values(QUICK_ORDER),
  ...Object.values(QUICK_FROM_INTEGER).flatMap((shape) => Object.values(shape)),
  ...Object.values(QUICK_TRUNCATE).flatMap((shape) => Object.values(shape)),
  QUICK_WIDEN,
  QUICK_NARROW,
];
