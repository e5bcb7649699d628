import { type SystemFunction, systemOperation } from '../cpu.ts';
import { F32, F64, type FloatFormat } from '../float/format.ts';
import { floatToGeneral, floatToIntegers, formatConversion, integerToFloat } from '../float/sse-convert.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LOAD } from '../micro-operations/move.ts';
import {
  QUICK_FROM_INTEGER,
  QUICK_NARROW,
  QUICK_TRUNCATE,
  QUICK_WIDEN,
} from '../micro-operations/sse-float.ts';
import type { MicroOperation } from '../semantics.ts';
import { TEMP } from '../state.ts';
import {
  emitMemory,
  generalReg,
  generalRm,
  scalarSource,
  sseRow,
  vectorReg,
  vectorSource,
} from './sse-operand.ts';

/** SSE and SSE2 conversions. */

type Prefix = NonNullable<Row['prefix']>;

/** Vector to vector; the operand is 4, 8 or 16 bytes wide. */
function vectors(
  opcode: number,
  prefix: Prefix,
  mnemonic: string,
  width: 4 | 8 | 16,
  run: SystemFunction,
  quick?: MicroOperation,
): Row {
  const operation = systemOperation(mnemonic, run);
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    const c = width === 16 ? vectorSource(instruction, out) : scalarSource(instruction, out, width);
    const target = vectorReg(instruction);
    if (quick !== undefined) out.emit(quick, { a: target, c });
    out.call(operation, { b: target, c });
  });
}

/** CVTSI2SS and CVTSI2SD: r/m32 or r/m64 by REX.W. */
function fromGeneral(prefix: Prefix, mnemonic: string, format: FloatFormat): Row {
  const narrow = systemOperation(`${mnemonic}32`, integerToFloat(4, format, 1));
  const wide = systemOperation(`${mnemonic}64`, integerToFloat(8, format, 1));
  return sseRow(0x0f2a, prefix, mnemonic, (instruction, out) => {
    const size = instruction.rexW ? 8 : 4;
    let c = generalRm(instruction);
    if (instruction.memory !== undefined) {
      emitMemory(instruction, out, LOAD[size], TEMP);
      c = TEMP;
    }
    const target = vectorReg(instruction);
    out.emit(QUICK_FROM_INTEGER[format === F32 ? 'ss' : 'sd'][size], { a: target, c });
    out.call(size === 8 ? wide : narrow, { b: target, c });
  });
}

/** CVTSS2SI, CVTSD2SI and the truncating forms: to r32 or r64 by REX.W. */
function toGeneral(
  opcode: number,
  prefix: Prefix,
  mnemonic: string,
  format: FloatFormat,
  truncate: boolean,
): Row {
  const narrow = systemOperation(`${mnemonic}32`, floatToGeneral(format, 4, truncate));
  const wide = systemOperation(`${mnemonic}64`, floatToGeneral(format, 8, truncate));
  const lower = (instruction: Instruction, out: Lowering): void => {
    const c = scalarSource(instruction, out, format === F32 ? 4 : 8);
    const size = instruction.rexW ? 8 : 4;
    const target = generalReg(instruction);
    if (truncate) out.emit(QUICK_TRUNCATE[format === F32 ? 'ss' : 'sd'][size], { a: target, c });
    out.call(size === 8 ? wide : narrow, { b: target, c });
  };
  return sseRow(opcode, prefix, mnemonic, lower);
}

export const SSE_CONVERT_ROWS: readonly Row[] = [
  fromGeneral('f3', 'cvtsi2ss', F32),
  fromGeneral('f2', 'cvtsi2sd', F64),
  toGeneral(0x0f2c, 'f3', 'cvttss2si', F32, true),
  toGeneral(0x0f2c, 'f2', 'cvttsd2si', F64, true),
  toGeneral(0x0f2d, 'f3', 'cvtss2si', F32, false),
  toGeneral(0x0f2d, 'f2', 'cvtsd2si', F64, false),
  vectors(0x0f5a, 'np', 'cvtps2pd', 8, formatConversion(F32, F64, 2)),
  vectors(0x0f5a, '66', 'cvtpd2ps', 16, formatConversion(F64, F32, 2)),
  vectors(0x0f5a, 'f3', 'cvtss2sd', 4, formatConversion(F32, F64, 1), QUICK_WIDEN),
  vectors(0x0f5a, 'f2', 'cvtsd2ss', 8, formatConversion(F64, F32, 1), QUICK_NARROW),
  vectors(0x0f5b, 'np', 'cvtdq2ps', 16, integerToFloat(4, F32, 4)),
  vectors(0x0f5b, '66', 'cvtps2dq', 16, floatToIntegers(F32, 4, false)),
  vectors(0x0f5b, 'f3', 'cvttps2dq', 16, floatToIntegers(F32, 4, true)),
  vectors(0x0fe6, '66', 'cvttpd2dq', 16, floatToIntegers(F64, 2, true)),
  vectors(0x0fe6, 'f3', 'cvtdq2pd', 8, integerToFloat(4, F64, 2)),
  vectors(0x0fe6, 'f2', 'cvtpd2dq', 16, floatToIntegers(F64, 2, false)),
];
