import { linearAddress } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LOAD_VECTOR_ALIGNED, LOAD_VECTOR32, LOAD_VECTOR64 } from '../micro-operations/sse-move.ts';
import type { MicroOperation } from '../semantics.ts';
import { GPR, XMM, XMM_TEMP } from '../state.ts';

/** Operands of vector instructions. */

/** The vector register named by ModRM.reg. */
export function vectorReg(instruction: Instruction): number {
  return XMM + instruction.reg * 16;
}

/** The vector register named by ModRM.rm. */
export function vectorRm(instruction: Instruction): number {
  return XMM + instruction.rm * 16;
}

/** The whole general register named by ModRM.reg or ModRM.rm. */
export function generalReg(instruction: Instruction): number {
  return GPR + instruction.reg * 8;
}
export function generalRm(instruction: Instruction): number {
  return GPR + instruction.rm * 8;
}

export function emitMemory(
  instruction: Instruction,
  out: Lowering,
  operation: MicroOperation,
  register: number,
): void {
  out.emit32(operation, { a: register, ...linearAddress(instruction, out) });
}

/** xmm/m128: memory must be aligned to 16 [SDM 2A 2.4]. Returns where the operand is. */
export function vectorSource(instruction: Instruction, out: Lowering): number {
  if (instruction.memory === undefined) return vectorRm(instruction);
  emitMemory(instruction, out, LOAD_VECTOR_ALIGNED, XMM_TEMP);
  return XMM_TEMP;
}

/** xmm/m32 or xmm/m64: only that much is read, at any alignment. */
export function scalarSource(instruction: Instruction, out: Lowering, size: 4 | 8): number {
  if (instruction.memory === undefined) return vectorRm(instruction);
  emitMemory(instruction, out, size === 4 ? LOAD_VECTOR32 : LOAD_VECTOR64, XMM_TEMP);
  return XMM_TEMP;
}

/** A row of the vector unit with ModRM and no immediate. */
export function sseRow(
  opcode: number,
  prefix: NonNullable<Row['prefix']>,
  mnemonic: string,
  lower: Row['lower'],
  more: Partial<Row> = {},
): Row {
  return { opcode, mnemonic, modrm: true, immediate: 'none', prefix, unit: 'sse', lower, ...more };
}
