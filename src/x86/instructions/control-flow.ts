import { LEA16, LEA32, LEA64 } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import {
  BRANCH,
  BRANCH_IF,
  BRANCH_IF_NONZERO,
  BRANCH_IF_ZERO,
  CALL,
  CALL_INDIRECT,
  JUMP,
  MOVE64_IF,
  RETURN,
} from '../micro-operations/control.ts';
import { CONDITION_NAMES } from '../micro-operations/flags.ts';
import { MOVE, MOVE_ZERO } from '../micro-operations/move.ts';
import { BLOCK_PC, RCX, ZERO } from '../state.ts';
import { modrmRow, plainRow, rowsOf, source, T0, T1, T2 } from './operand.ts';
import { emitPop, emitPush } from './stack-access.ts';

/**
 * Near branches [SDM 1 7.3.8]. In 64-bit code they have 64 bits; with an operand-size prefix the target is cut to
 * 16, as on AMD processors. Direct jumps that need no cut go through the engine's direct branch, which cuts
 * targets to 32 bits outside 64-bit code.
 */

/** Is the plain direct branch right: natural size, and an offset that fits its field? */
function isDirect(instruction: Instruction, target: number): boolean {
  const natural = instruction.codeSize / 8;
  return instruction.operandSize === natural && target === (target | 0);
}

/** Puts the address at `offset` from BLOCK_PC into a register, cut as the operand size wants it. */
function emitTarget(instruction: Instruction, out: Lowering, register: number, offset: number): void {
  const fields = { a: register, c: ZERO, high: 0 };
  const lea = instruction.operandSize === 8 ? LEA64 : instruction.operandSize === 4 ? LEA32 : LEA16;
  if (offset === (offset | 0)) {
    out.emit32(lea, { ...fields, b: BLOCK_PC, low: offset });
  } else {
    const half = Math.trunc(offset / 2);
    out.emit32(LEA64, { ...fields, b: BLOCK_PC, low: half });
    out.emit32(lea, { ...fields, b: register, low: offset - half });
  }
}

function target(instruction: Instruction, out: Lowering): number {
  return out.nextOffset + Number(instruction.immediate);
}

function jump(instruction: Instruction, out: Lowering): void {
  const offset = target(instruction, out);
  if (isDirect(instruction, offset)) {
    out.emit32(BRANCH, { low: offset, high: 0 });
  } else {
    emitTarget(instruction, out, T0, offset);
    out.emit(JUMP, { b: T0 });
  }
}

function jumpIf(instruction: Instruction, out: Lowering): void {
  const offset = target(instruction, out);
  const code = instruction.opcode & 15;
  if (isDirect(instruction, offset)) {
    out.emit32(BRANCH_IF[code]!, { low: offset, high: 0 });
    return;
  }
  out.emit32(LEA64, { a: T0, b: BLOCK_PC, c: ZERO, low: out.nextOffset, high: 0 });
  emitTarget(instruction, out, T1, offset);
  out.emit(MOVE64_IF[code]!, { a: T0, b: T1 });
  out.emit(JUMP, { b: T0 });
}

/** r/m as a 64-bit value, for JUMP and CALL_INDIRECT. */
function indirectTarget(instruction: Instruction, out: Lowering): number {
  const size = instruction.operandSize;
  const register = source(instruction, out, size, T1);
  if (size === 8) return register;
  if (size === 4) out.emit(MOVE[4], { a: T1, b: register });
  else out.emit(MOVE_ZERO[2], { a: T1, b: register });
  return T1;
}

function jumpIndirect(instruction: Instruction, out: Lowering): void {
  out.emit(JUMP, { b: indirectTarget(instruction, out) });
}

function pushReturnAddress(instruction: Instruction, out: Lowering): void {
  out.emit32(LEA64, { a: T2, b: BLOCK_PC, c: ZERO, low: out.nextOffset, high: 0 });
  emitPush(instruction, out, instruction.operandSize, T2);
}

function call(instruction: Instruction, out: Lowering): void {
  const offset = target(instruction, out);
  if (instruction.codeSize === 64 && isDirect(instruction, offset)) {
    out.emit32(CALL, { a: out.nextOffset, low: offset, high: 0 });
    return;
  }
  pushReturnAddress(instruction, out);
  jump(instruction, out);
}

function callIndirect(instruction: Instruction, out: Lowering): void {
  const b = indirectTarget(instruction, out);
  if (instruction.codeSize === 64 && instruction.operandSize === 8) {
    out.emit(CALL_INDIRECT, { a: out.nextOffset, b });
    return;
  }
  pushReturnAddress(instruction, out);
  out.emit(JUMP, { b });
}

function ret(instruction: Instruction, out: Lowering): void {
  const extra = Number(instruction.immediate & 0xffffn);
  const size = instruction.operandSize;
  if (instruction.codeSize === 64 && size === 8) {
    out.emit(RETURN, { imm: BigInt(8 + extra) });
    return;
  }
  emitPop(instruction, out, size, T1, extra);
  if (size === 2) out.emit(MOVE_ZERO[2], { a: T1, b: T1 });
  else out.emit(MOVE[size], { a: T1, b: T1 });
  out.emit(JUMP, { b: T1 });
}

/** The count register, as wide as addresses, zero-extended in a 64-bit register. */
function countRegister(instruction: Instruction, out: Lowering): number {
  switch (instruction.addressSize) {
    case 8:
      return RCX;
    case 4:
      out.emit(MOVE[4], { a: T0, b: RCX });
      return T0;
    case 2:
      out.emit(MOVE_ZERO[2], { a: T0, b: RCX });
      return T0;
  }
}

/** Jumps when register b is zero (or nonzero), in any operand size. */
function jumpOnRegister(instruction: Instruction, out: Lowering, b: number, zero: boolean): void {
  const offset = target(instruction, out);
  const operation = zero ? BRANCH_IF_ZERO : BRANCH_IF_NONZERO;
  if (isDirect(instruction, offset)) {
    out.emit32(operation, { b, low: offset, high: 0 });
    return;
  }
  // Over a jump with the cut target: the direct branch goes to the next instruction.
  const opposite = zero ? BRANCH_IF_NONZERO : BRANCH_IF_ZERO;
  emitTarget(instruction, out, T1, offset);
  out.emit32(opposite, { b, low: out.nextOffset, high: 0 });
  out.emit(JUMP, { b: T1 });
}

function jumpIfCountZero(instruction: Instruction, out: Lowering): void {
  jumpOnRegister(instruction, out, countRegister(instruction, out), true);
}

/** E0 LOOPNE, E1 LOOPE, E2 LOOP: no flags change. */
function loop(instruction: Instruction, out: Lowering): void {
  const fields = { b: RCX, c: ZERO, low: -1, high: 0 };
  if (instruction.addressSize === 8) {
    out.emit32(LEA64, { a: RCX, ...fields });
  } else if (instruction.addressSize === 4) {
    out.emit32(LEA32, { a: RCX, ...fields });
  } else {
    out.emit32(LEA32, { a: T0, ...fields });
    out.emit(MOVE[2], { a: RCX, b: T0 });
  }
  let b = countRegister(instruction, out);
  if (instruction.opcode !== 0xe2) {
    // Zero stays zero; a count goes on only when ZF is right: T2 = condition ? count : 0.
    out.emit(MOVE[8], { a: T2, b: ZERO });
    out.emit(MOVE64_IF[instruction.opcode === 0xe1 ? IF_EQUAL : IF_NOT_EQUAL]!, { a: T2, b });
    b = T2;
  }
  jumpOnRegister(instruction, out, b, false);
}
const IF_EQUAL = 4;
const IF_NOT_EQUAL = 5;

export const CONTROL_FLOW_ROWS: readonly Row[] = [
  plainRow(0xeb, 'jmp', jump, { immediate: 'b', defaults64: true }),
  plainRow(0xe9, 'jmp', jump, { immediate: 'z', defaults64: true }),
  ...rowsOf(0x70, 16, (opcode) =>
    plainRow(opcode, `j${CONDITION_NAMES[opcode & 15]}`, jumpIf, { immediate: 'b', defaults64: true }),
  ),
  ...rowsOf(0x0f80, 16, (opcode) =>
    plainRow(opcode, `j${CONDITION_NAMES[opcode & 15]}`, jumpIf, { immediate: 'z', defaults64: true }),
  ),
  modrmRow(0xff, 'jmp', jumpIndirect, { digit: 4, defaults64: true }),
  plainRow(0xe8, 'call', call, { immediate: 'z', defaults64: true }),
  modrmRow(0xff, 'call', callIndirect, { digit: 2, defaults64: true }),
  plainRow(0xc3, 'ret', ret, { defaults64: true }),
  plainRow(0xc2, 'ret', ret, { immediate: 'w', defaults64: true }),
  plainRow(0xe3, 'jrcxz', jumpIfCountZero, { immediate: 'b', defaults64: true }),
  plainRow(0xe0, 'loopne', loop, { immediate: 'b', defaults64: true }),
  plainRow(0xe1, 'loope', loop, { immediate: 'b', defaults64: true }),
  plainRow(0xe2, 'loop', loop, { immediate: 'b', defaults64: true }),
];
