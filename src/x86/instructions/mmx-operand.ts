import type { Instruction, Lowering, Row } from '../instruction.ts';
import { MMX_CHECK, MMX_ENTER, MMX_WRITE } from '../micro-operations/mmx.ts';
import { LOAD_VECTOR32, LOAD_VECTOR64, VECTOR_FROM64 } from '../micro-operations/sse-move.ts';
import { X87, XMM_TEMP } from '../state.ts';
import { emitMemory, sseRow } from './sse-operand.ts';

/**
 * Operands of MMX instructions. Registers are numbered 0..7 whatever REX says [SDM 2A 2.2.1.2]. They are copied to
 * the low halves of two vector temporaries, and the result is written back from one of them.
 *
 * The order is: a waiting x87 exception, then memory, then the change to the x87 unit. So an instruction that
 * faults changes nothing.
 */
export const FIRST = XMM_TEMP;
export const SECOND = XMM_TEMP + 16;
export const RESULT = FIRST;

/** The x87 register that holds the MM register named by ModRM.reg or ModRM.rm. */
function mmReg(instruction: Instruction): number {
  return X87 + (instruction.reg & 7) * 16;
}
function mmRm(instruction: Instruction): number {
  return X87 + (instruction.rm & 7) * 16;
}

/** FIRST = register reg, zero-extended. */
export function readReg(instruction: Instruction, out: Lowering): void {
  out.emit(VECTOR_FROM64, { a: FIRST, b: mmReg(instruction) });
}

/** `temporary` = register rm, zero-extended. */
export function readRm(instruction: Instruction, out: Lowering, temporary: number): void {
  out.emit(VECTOR_FROM64, { a: temporary, b: mmRm(instruction) });
}

/** SECOND = mm/m64, or mm/m32: then only so much memory is read. */
export function readSource(instruction: Instruction, out: Lowering, size: 4 | 8 = 8): void {
  if (instruction.memory === undefined) readRm(instruction, out, SECOND);
  else emitMemory(instruction, out, size === 8 ? LOAD_VECTOR64 : LOAD_VECTOR32, SECOND);
}

/** Register reg or rm = low half of `from`. */
export function writeReg(instruction: Instruction, out: Lowering, from = RESULT): void {
  const register = mmReg(instruction);
  out.emit(MMX_WRITE, { a: register, b: from, c: register + 8 });
}
export function writeRm(instruction: Instruction, out: Lowering, from = RESULT): void {
  const register = mmRm(instruction);
  out.emit(MMX_WRITE, { a: register, b: from, c: register + 8 });
}

export type Lower = (instruction: Instruction, out: Lowering) => void;

/** A row whose `body` ends with a write to an MM register, which changes the x87 unit. */
export function mmxRow(opcode: number, mnemonic: string, body: Lower, more: Partial<Row> = {}): Row {
  const lower: Lower = (instruction, out) => {
    out.emit(MMX_CHECK);
    body(instruction, out);
  };
  return sseRow(opcode, 'np', mnemonic, lower, { unit: 'mmx', ...more });
}

/** A row that only reads MM registers. */
export function mmxReadRow(opcode: number, mnemonic: string, body: Lower, more: Partial<Row> = {}): Row {
  const lower: Lower = (instruction, out) => {
    body(instruction, out);
    out.emit(MMX_ENTER);
  };
  return mmxRow(opcode, mnemonic, lower, more);
}
