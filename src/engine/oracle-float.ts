import { add, divide, multiply, squareRoot, subtract } from '../x86/float/arithmetic.ts';
import { numericOrder } from '../x86/float/compare.ts';
import { convert, fromInteger, toInteger } from '../x86/float/convert.ts';
import { F32, F64, type FloatFormat, unpack } from '../x86/float/format.ts';
import { type FloatStatus, ROUND, sseStatus } from '../x86/float/status.ts';
import type { FloatOperation, FloatUnary } from '../x86/semantics.ts';

/** Floating point of the oracle: the soft float of the slow paths, with every exception masked. */

const BINARY = { add, sub: subtract, mul: multiply, div: divide } as const;
const FORMAT = { f32: F32, f64: F64 } as const;
type Width = keyof typeof FORMAT;

function quiet(): FloatStatus {
  return sseStatus(0x1f80);
}

function cut(format: FloatFormat, bits: bigint): bigint {
  return BigInt.asUintN(format.width, bits);
}

export function floatOperation(operation: FloatOperation, x: bigint, y: bigint): bigint {
  const [width, name] = operation.split('.') as [Width, keyof typeof BINARY];
  const format = FORMAT[width];
  return BINARY[name](format, unpack(format, cut(format, x)), unpack(format, cut(format, y)), quiet());
}

export function floatUnary(operation: FloatUnary, x: bigint): bigint {
  const single = unpack(F32, cut(F32, x));
  const double = unpack(F64, cut(F64, x));
  switch (operation) {
    case 'f32.sqrt':
      return squareRoot(F32, single, quiet());
    case 'f64.sqrt':
      return squareRoot(F64, double, quiet());
    case 'f64.promote_f32':
      return convert(F64, single, quiet());
    case 'f32.demote_f64':
      return convert(F32, double, quiet());
    case 'f32.convert_i64_s':
      return fromInteger(F32, BigInt.asIntN(64, x), quiet());
    case 'f64.convert_i64_s':
      return fromInteger(F64, BigInt.asIntN(64, x), quiet());
    case 'i64.trunc_f32_s':
      return toInteger(single, 64, ROUND.zero, quiet());
    case 'i64.trunc_f64_s':
      return toInteger(double, 64, ROUND.zero, quiet());
  }
}

export function floatLess(width: Width, x: bigint, y: bigint): boolean {
  const format = FORMAT[width];
  return numericOrder(unpack(format, cut(format, x)), unpack(format, cut(format, y))) === 'less';
}
