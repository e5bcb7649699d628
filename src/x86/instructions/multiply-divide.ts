import { SET64 } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import type { BySize } from '../micro-operations/by-size.ts';
import { DIVIDE, DIVIDE_SIGNED } from '../micro-operations/divide.ts';
import {
  MULTIPLY,
  MULTIPLY_IMMEDIATE,
  MULTIPLY_REGISTER,
  MULTIPLY_SIGNED,
} from '../micro-operations/multiply.ts';
import { modrmRow, regOperand, source, T1, widthOf } from './operand.ts';

/** Multiplication and division [SDM 1 7.3.2]. */

/** The forms with an implicit accumulator. */
function withAccumulator(operation: BySize): Row['lower'] {
  return (instruction, out) => {
    const size = widthOf(instruction);
    out.emit(operation[size], { b: source(instruction, out, size) });
  };
}

/** IMUL r, r/m. */
function multiplyRegister(instruction: Instruction, out: Lowering): void {
  const size = instruction.operandSize;
  const register = regOperand(instruction, size);
  const c = source(instruction, out, size);
  out.emit(MULTIPLY_REGISTER[size], { a: register, b: register, c });
}

/** IMUL r, r/m, immediate. */
function multiplyImmediate(instruction: Instruction, out: Lowering): void {
  const size = instruction.operandSize;
  const a = regOperand(instruction, size);
  const b = source(instruction, out, size);
  const imm = instruction.immediate;
  if (size === 2) {
    out.emit(SET64, { a: T1, imm });
    out.emit(MULTIPLY_REGISTER[2], { a, b, c: T1 });
  } else {
    out.emit(MULTIPLY_IMMEDIATE[size], { a, b, imm });
  }
}

export const MULTIPLY_DIVIDE_ROWS: readonly Row[] = [
  ...[0xf6, 0xf7].flatMap((opcode) => [
    modrmRow(opcode, 'mul', withAccumulator(MULTIPLY), { digit: 4 }),
    modrmRow(opcode, 'imul', withAccumulator(MULTIPLY_SIGNED), { digit: 5 }),
    modrmRow(opcode, 'div', withAccumulator(DIVIDE), { digit: 6 }),
    modrmRow(opcode, 'idiv', withAccumulator(DIVIDE_SIGNED), { digit: 7 }),
  ]),
  modrmRow(0x0faf, 'imul', multiplyRegister),
  modrmRow(0x69, 'imul', multiplyImmediate, { immediate: 'z' }),
  modrmRow(0x6b, 'imul', multiplyImmediate, { immediate: 'b' }),
];
