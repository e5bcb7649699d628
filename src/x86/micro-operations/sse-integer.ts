import {
  type MicroOperation,
  microOperation,
  type Semantics,
  type VectorOperation,
  type VectorShift,
} from '../semantics.ts';

/** Integer arithmetic on vectors: a = b operation c. */

const LANEWISE = [
  'v128.and',
  'v128.or',
  'v128.xor',
  'i8x16.add',
  'i16x8.add',
  'i32x4.add',
  'i64x2.add',
  'i8x16.sub',
  'i16x8.sub',
  'i32x4.sub',
  'i64x2.sub',
  'i8x16.add_sat_s',
  'i8x16.add_sat_u',
  'i16x8.add_sat_s',
  'i16x8.add_sat_u',
  'i8x16.sub_sat_s',
  'i8x16.sub_sat_u',
  'i16x8.sub_sat_s',
  'i16x8.sub_sat_u',
  'i8x16.eq',
  'i16x8.eq',
  'i32x4.eq',
  'i8x16.gt_s',
  'i16x8.gt_s',
  'i32x4.gt_s',
  'i8x16.min_u',
  'i8x16.max_u',
  'i16x8.min_s',
  'i16x8.max_s',
  'i8x16.avgr_u',
  'i16x8.avgr_u',
  'i16x8.mul',
  'i32x4.dot_i16x8_s',
  'i8x16.narrow_i16x8_s',
  'i8x16.narrow_i16x8_u',
  'i16x8.narrow_i32x4_s',
] as const satisfies readonly VectorOperation[];
export type Lanewise = (typeof LANEWISE)[number];

function lanewise(operation: VectorOperation): MicroOperation {
  return microOperation(operation, (s) =>
    s.setVector('a', s.vectorOp(operation, s.getVector('b'), s.getVector('c'))),
  );
}

/** Those that are one wasm SIMD instruction. */
export const VECTOR = Object.fromEntries(LANEWISE.map((name) => [name, lanewise(name)])) as Record<
  Lanewise,
  MicroOperation
>;

/** a = ~b & c, as PANDN has it (wasm's andnot complements the other operand). */
export const AND_NOT = microOperation('and-not', (s) =>
  s.setVector('a', s.vectorOp('v128.andnot', s.getVector('c'), s.getVector('b'))),
);

/** High words of the eight 32-bit products in two vectors. */
const HIGH_WORDS = [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31];
export const MULTIPLY_HIGH_SIGNED = microOperation('multiply-high16-s', (s) => {
  const x = s.getVector('b');
  const y = s.getVector('c');
  const low = s.vectorOp('i32x4.extmul_low_i16x8_s', x, y);
  const high = s.vectorOp('i32x4.extmul_high_i16x8_s', x, y);
  s.setVector('a', s.shuffle(low, high, HIGH_WORDS));
});
export const MULTIPLY_HIGH_UNSIGNED = microOperation('multiply-high16-u', (s) => {
  const x = s.getVector('b');
  const y = s.getVector('c');
  const low = s.vectorOp('i32x4.extmul_low_i16x8_u', x, y);
  const high = s.vectorOp('i32x4.extmul_high_i16x8_u', x, y);
  s.setVector('a', s.shuffle(low, high, HIGH_WORDS));
});
/** 64-bit products of the even 32-bit lanes. */
export const MULTIPLY_EVEN = microOperation('multiply-even32', (s) => {
  const x = s.getVector('b');
  const y = s.getVector('c');
  const low = s.mul(s.zeroExtend(s.lane(x, 0), 4), s.zeroExtend(s.lane(y, 0), 4));
  const high = s.mul(s.zeroExtend(s.lane(x, 1), 4), s.zeroExtend(s.lane(y, 1), 4));
  s.setVector('a', s.vector(low, high));
});

/** Sum of the eight bytes of a lane: pairs first, then one multiplication adds the four sums into the top word. */
function sumOfBytes<V, B, X>(s: Semantics<V, B, X>, x: V): V {
  const even = s.constant(0x00ff_00ff_00ff_00ffn);
  const pairs = s.add(s.and(x, even), s.and(s.shrU(x, s.constant(8)), even));
  return s.shrU(s.mul(pairs, s.constant(0x0001_0001_0001_0001n)), s.constant(48));
}
export const SUM_OF_DIFFERENCES = microOperation('sum-of-differences', (s) => {
  const x = s.getVector('b');
  const y = s.getVector('c');
  const difference = s.vectorOp(
    'i8x16.sub',
    s.vectorOp('i8x16.max_u', x, y),
    s.vectorOp('i8x16.min_u', x, y),
  );
  s.setVector('a', s.vector(sumOfBytes(s, s.lane(difference, 0)), sumOfBytes(s, s.lane(difference, 1))));
});

/** a = b shifted lane by lane; the count is the immediate, below the lane's width. */
function shiftImmediate(operation: VectorShift): MicroOperation {
  return microOperation(`${operation}-immediate`, (s) =>
    s.setVector('a', s.vectorShift(operation, s.getVector('b'), s.immediate())),
  );
}
/** a = b shifted by the low 64 bits of vector c; any count from the lane's width up clears the lane. */
function shiftByVector(operation: VectorShift, width: number): MicroOperation {
  return microOperation(operation, (s) => {
    const count = s.lane(s.getVector('c'), 0);
    const keep = s.select(s.ltU(count, s.constant(width)), s.constant(-1n), s.constant(0));
    const shifted = s.vectorShift(operation, s.getVector('b'), s.and(count, s.constant(width - 1)));
    s.setVector('a', s.vectorOp('v128.and', shifted, s.vector(keep, keep)));
  });
}
/** As above, but large counts fill the lane with its sign. */
function shiftSignedByVector(operation: VectorShift, width: number): MicroOperation {
  return microOperation(operation, (s) => {
    const count = s.lane(s.getVector('c'), 0);
    const last = s.constant(width - 1);
    s.setVector('a', s.vectorShift(operation, s.getVector('b'), s.select(s.ltU(count, last), count, last)));
  });
}

export interface ShiftPair {
  readonly width: number;
  readonly signed: boolean;
  readonly immediate: MicroOperation;
  readonly vector: MicroOperation;
}
function shiftPair(operation: VectorShift, width: number, signed = false): ShiftPair {
  const vector = signed ? shiftSignedByVector(operation, width) : shiftByVector(operation, width);
  return { width, signed, immediate: shiftImmediate(operation), vector };
}
export const SHIFT = {
  psllw: shiftPair('i16x8.shl', 16),
  psrlw: shiftPair('i16x8.shr_u', 16),
  psraw: shiftPair('i16x8.shr_s', 16, true),
  pslld: shiftPair('i32x4.shl', 32),
  psrld: shiftPair('i32x4.shr_u', 32),
  psrad: shiftPair('i32x4.shr_s', 32, true),
  psllq: shiftPair('i64x2.shl', 64),
  psrlq: shiftPair('i64x2.shr_u', 64),
} as const;

export const SSE_INTEGER_OPERATIONS = [
  ...Object.values(VECTOR),
  AND_NOT,
  MULTIPLY_HIGH_SIGNED,
  MULTIPLY_HIGH_UNSIGNED,
  MULTIPLY_EVEN,
  SUM_OF_DIFFERENCES,
  ...Object.values(SHIFT).flatMap((pair) => [pair.immediate, pair.vector]),
];
