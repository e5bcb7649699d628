import { unreachable } from '../base/assert.ts';
import type { VectorFloat, VectorOperation, VectorShift, VectorUnary } from '../x86/semantics.ts';
import { floatOperation } from './oracle-float.ts';

/** Lane-wise operations on 128-bit bigints, as WebAssembly defines them. */

/** Lanes, lowest first, unsigned. */
function split(x: bigint, width: number): bigint[] {
  return Array.from({ length: 128 / width }, (_, index) => BigInt.asUintN(width, x >> BigInt(index * width)));
}

function join(lanes: readonly bigint[], width: number): bigint {
  return lanes.reduce(
    (whole, lane, index) => whole | (BigInt.asUintN(width, lane) << BigInt(index * width)),
    0n,
  );
}

function zip(x: bigint, y: bigint, width: number, combine: (x: bigint, y: bigint) => bigint): bigint {
  const right = split(y, width);
  return join(
    split(x, width).map((lane, index) => combine(lane, right[index]!)),
    width,
  );
}

/** As zip, with signed lanes. */
function zipSigned(x: bigint, y: bigint, width: number, combine: (x: bigint, y: bigint) => bigint): bigint {
  const sign = (lane: bigint) => BigInt.asIntN(width, lane);
  return zip(x, y, width, (a, b) => combine(sign(a), sign(b)));
}

function clamp(value: bigint, low: bigint, high: bigint): bigint {
  return value < low ? low : value > high ? high : value;
}

function saturateSigned(value: bigint, width: number): bigint {
  const half = 1n << BigInt(width - 1);
  return clamp(value, -half, half - 1n);
}

function saturateUnsigned(value: bigint, width: number): bigint {
  return clamp(value, 0n, (1n << BigInt(width)) - 1n);
}

function all(value: boolean): bigint {
  return value ? -1n : 0n;
}

const min = (x: bigint, y: bigint) => (x < y ? x : y);
const max = (x: bigint, y: bigint) => (x > y ? x : y);
const average = (x: bigint, y: bigint) => (x + y + 1n) >> 1n;

/** Both operands' lanes, signed, each half as wide. */
function narrow(
  x: bigint,
  y: bigint,
  width: number,
  saturate: (value: bigint, width: number) => bigint,
): bigint {
  const lanes = [...split(x, width), ...split(y, width)];
  return join(
    lanes.map((lane) => saturate(BigInt.asIntN(width, lane), width / 2)),
    width / 2,
  );
}

/** Products of the 16-bit lanes from `first` on, 32 bits each. */
function extendedProducts(x: bigint, y: bigint, first: number, isSigned: boolean): bigint {
  const extend = (lane: bigint) => (isSigned ? BigInt.asIntN(16, lane) : lane);
  const left = split(x, 16).slice(first, first + 4);
  const right = split(y, 16).slice(first, first + 4);
  return join(
    left.map((lane, index) => extend(lane) * extend(right[index]!)),
    32,
  );
}

export function vectorOperation(operation: VectorOperation, x: bigint, y: bigint): bigint {
  switch (operation) {
    case 'v128.and':
      return x & y;
    case 'v128.or':
      return x | y;
    case 'v128.xor':
      return x ^ y;
    case 'v128.andnot':
      return x & ~y;
    case 'i8x16.add':
      return zip(x, y, 8, (a, b) => a + b);
    case 'i16x8.add':
      return zip(x, y, 16, (a, b) => a + b);
    case 'i32x4.add':
      return zip(x, y, 32, (a, b) => a + b);
    case 'i64x2.add':
      return zip(x, y, 64, (a, b) => a + b);
    case 'i8x16.sub':
      return zip(x, y, 8, (a, b) => a - b);
    case 'i16x8.sub':
      return zip(x, y, 16, (a, b) => a - b);
    case 'i32x4.sub':
      return zip(x, y, 32, (a, b) => a - b);
    case 'i64x2.sub':
      return zip(x, y, 64, (a, b) => a - b);
    case 'i8x16.add_sat_s':
      return zipSigned(x, y, 8, (a, b) => saturateSigned(a + b, 8));
    case 'i16x8.add_sat_s':
      return zipSigned(x, y, 16, (a, b) => saturateSigned(a + b, 16));
    case 'i8x16.add_sat_u':
      return zip(x, y, 8, (a, b) => saturateUnsigned(a + b, 8));
    case 'i16x8.add_sat_u':
      return zip(x, y, 16, (a, b) => saturateUnsigned(a + b, 16));
    case 'i8x16.sub_sat_s':
      return zipSigned(x, y, 8, (a, b) => saturateSigned(a - b, 8));
    case 'i16x8.sub_sat_s':
      return zipSigned(x, y, 16, (a, b) => saturateSigned(a - b, 16));
    case 'i8x16.sub_sat_u':
      return zip(x, y, 8, (a, b) => saturateUnsigned(a - b, 8));
    case 'i16x8.sub_sat_u':
      return zip(x, y, 16, (a, b) => saturateUnsigned(a - b, 16));
    case 'i8x16.eq':
      return zip(x, y, 8, (a, b) => all(a === b));
    case 'i16x8.eq':
      return zip(x, y, 16, (a, b) => all(a === b));
    case 'i32x4.eq':
      return zip(x, y, 32, (a, b) => all(a === b));
    case 'i64x2.eq':
      return zip(x, y, 64, (a, b) => all(a === b));
    case 'i8x16.gt_s':
      return zipSigned(x, y, 8, (a, b) => all(a > b));
    case 'i16x8.gt_s':
      return zipSigned(x, y, 16, (a, b) => all(a > b));
    case 'i32x4.gt_s':
      return zipSigned(x, y, 32, (a, b) => all(a > b));
    case 'i8x16.min_u':
      return zip(x, y, 8, min);
    case 'i8x16.max_u':
      return zip(x, y, 8, max);
    case 'i16x8.min_s':
      return zipSigned(x, y, 16, min);
    case 'i16x8.max_s':
      return zipSigned(x, y, 16, max);
    case 'i8x16.avgr_u':
      return zip(x, y, 8, average);
    case 'i16x8.avgr_u':
      return zip(x, y, 16, average);
    case 'i16x8.mul':
      return zip(x, y, 16, (a, b) => a * b);
    case 'i32x4.mul':
      return zip(x, y, 32, (a, b) => a * b);
    case 'i32x4.dot_i16x8_s': {
      const low = extendedProducts(x, y, 0, true);
      const products = [...split(low, 32), ...split(extendedProducts(x, y, 4, true), 32)];
      return join(
        [0, 2, 4, 6].map((at) => products[at]! + products[at + 1]!),
        32,
      );
    }
    case 'i8x16.swizzle': {
      const bytes = split(x, 8);
      return join(
        split(y, 8).map((index) => (index < 16n ? bytes[Number(index)]! : 0n)),
        8,
      );
    }
    case 'i8x16.narrow_i16x8_s':
      return narrow(x, y, 16, saturateSigned);
    case 'i8x16.narrow_i16x8_u':
      return narrow(x, y, 16, saturateUnsigned);
    case 'i16x8.narrow_i32x4_s':
      return narrow(x, y, 32, saturateSigned);
    case 'i32x4.extmul_low_i16x8_s':
      return extendedProducts(x, y, 0, true);
    case 'i32x4.extmul_high_i16x8_s':
      return extendedProducts(x, y, 4, true);
    case 'i32x4.extmul_low_i16x8_u':
      return extendedProducts(x, y, 0, false);
    case 'i32x4.extmul_high_i16x8_u':
      return extendedProducts(x, y, 4, false);
    default:
      return unreachable(operation);
  }
}

/** As the float operations on single lanes. */
export function vectorFloat(operation: VectorFloat, x: bigint, y: bigint): bigint {
  const [shape, kind] = operation.split('.') as ['f32x4' | 'f64x2', 'add' | 'sub' | 'mul' | 'div'];
  const [width, bits] = shape === 'f32x4' ? (['f32', 32] as const) : (['f64', 64] as const);
  return zip(x, y, bits, (a, b) => floatOperation(`${width}.${kind}`, a, b));
}

export function vectorUnary(operation: VectorUnary, x: bigint): bigint {
  switch (operation) {
    case 'v128.not':
      return BigInt.asUintN(128, ~x);
    case 'i32x4.extend_low_i16x8_s':
      return extendedProducts(x, ONES, 0, true);
    case 'i32x4.extend_high_i16x8_s':
      return extendedProducts(x, ONES, 4, true);
    default:
      return unreachable(operation);
  }
}

/** Eight 16-bit lanes of 1. */
const ONES = join(new Array<bigint>(8).fill(1n), 16);

export function vectorShift(operation: VectorShift, x: bigint, count: bigint): bigint {
  const width = operation.startsWith('i16') ? 16 : operation.startsWith('i32') ? 32 : 64;
  const by = count & BigInt(width - 1);
  const shift = (lane: bigint): bigint => {
    if (operation.endsWith('shl')) return lane << by;
    return operation.endsWith('shr_s') ? BigInt.asIntN(width, lane) >> by : lane >> by;
  };
  return join(split(x, width).map(shift), width);
}
