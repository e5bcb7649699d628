import { emitOperandAddress, STACK_ADDRESS_TEMP } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import {
  CLEAR_INTERRUPT,
  PUSH_FLAGS64,
  QUICK_INTERRUPT_RETURN,
  QUICK_POP_FLAGS64,
  QUICK_SET_INTERRUPT,
  QUICK_SYSCALL,
  QUICK_SYSRET,
} from '../micro-operations/system.ts';
import { GPR } from '../state.ts';
import { SYSCALL, SYSENTER, SYSEXIT, SYSRET } from '../system/fast-call.ts';
import {
  CHECK_BOUND,
  DEBUG_INTERRUPT,
  FAR_CALL,
  FAR_CALL_INDIRECT,
  FAR_JUMP,
  FAR_JUMP_INDIRECT,
  FAR_RETURN,
  INTERRUPT_RETURN,
  OVERFLOW_INTERRUPT,
  POP_FLAGS,
  PUSH_FLAGS,
  SET_INTERRUPT_FLAG,
  SOFTWARE_INTERRUPT,
} from '../system/interrupt.ts';
import { modrmRow, plainRow } from './operand.ts';

/**
 * System calls, software interrupts, far transfers, and the interrupt flag. What takes its operands from the stack
 * says so in b: an address that is out of range is #SS then.
 */

function farDirect(operation: typeof FAR_JUMP) {
  return ({ immediate, immediate2, operandSize }: Instruction, out: Lowering): void =>
    out.system(operation, { b: immediate2, c: operandSize, imm: BigInt.asUintN(operandSize * 8, immediate) });
}

function farIndirect(operation: typeof FAR_JUMP_INDIRECT) {
  return (instruction: Instruction, out: Lowering): void => {
    out.system(operation, { b: emitOperandAddress(instruction, out), c: instruction.operandSize });
  };
}

function farReturn({ operandSize, immediate }: Instruction, out: Lowering): void {
  out.system(FAR_RETURN, { b: STACK_ADDRESS_TEMP, c: operandSize, imm: immediate & 0xffffn });
}

function pushFlags({ codeSize, operandSize }: Instruction, out: Lowering): void {
  if (codeSize === 64 && operandSize === 8) out.emit(PUSH_FLAGS64);
  else out.call(PUSH_FLAGS, { b: STACK_ADDRESS_TEMP, c: operandSize });
}

function popFlags({ codeSize, operandSize }: Instruction, out: Lowering): void {
  const fields = { b: STACK_ADDRESS_TEMP, c: operandSize };
  if (codeSize === 64 && operandSize === 8) {
    out.emit(QUICK_POP_FLAGS64, { b: STACK_ADDRESS_TEMP });
    out.orSystem(POP_FLAGS, fields);
  } else {
    out.system(POP_FLAGS, fields);
  }
}

function setInterruptFlag(_: Instruction, out: Lowering): void {
  out.emit(QUICK_SET_INTERRUPT);
  out.orSystem(SET_INTERRUPT_FLAG);
}

function checkBound(instruction: Instruction, out: Lowering): void {
  out.call(CHECK_BOUND, {
    b: emitOperandAddress(instruction, out),
    c: GPR + instruction.reg * 8,
    imm: BigInt(instruction.operandSize),
  });
}

function interruptReturn({ codeSize, operandSize }: Instruction, out: Lowering): void {
  if (codeSize === 64 && operandSize === 8) out.emit(QUICK_INTERRUPT_RETURN, { b: STACK_ADDRESS_TEMP });
  out.system(INTERRUPT_RETURN, { b: STACK_ADDRESS_TEMP, c: operandSize });
}

const returnSize = ({ rexW }: Instruction): number => (rexW ? 8 : 4);

function systemCall({ codeSize }: Instruction, out: Lowering): void {
  if (codeSize === 64) out.emit(QUICK_SYSCALL, { imm: BigInt(out.nextOffset) });
  out.system(SYSCALL);
}

function systemReturn(instruction: Instruction, out: Lowering): void {
  if (instruction.codeSize === 64 && instruction.rexW) out.emit(QUICK_SYSRET);
  out.system(SYSRET, { c: returnSize(instruction) });
}

export const SYSTEM_TRANSFER_ROWS: readonly Row[] = [
  plainRow(0x0f05, 'syscall', systemCall),
  plainRow(0x0f07, 'sysret', systemReturn),
  plainRow(0x0f34, 'sysenter', (_, out) => out.system(SYSENTER)),
  plainRow(0x0f35, 'sysexit', (i, out) => out.system(SYSEXIT, { c: returnSize(i) })),

  plainRow(0xcc, 'int3', (_, out) => out.system(SOFTWARE_INTERRUPT, { c: 3 })),
  plainRow(
    0xcd,
    'int',
    ({ immediate }, out) => out.system(SOFTWARE_INTERRUPT, { c: Number(immediate & 0xffn) }),
    { immediate: 'b' },
  ),
  plainRow(0xce, 'into', (_, out) => out.system(OVERFLOW_INTERRUPT), { modes: 'legacy' }),
  plainRow(0xf1, 'int1', (_, out) => out.system(DEBUG_INTERRUPT)),
  plainRow(0xcf, 'iret', interruptReturn),
  modrmRow(0x62, 'bound', checkBound, { operand: 'memory', modes: 'legacy' }),

  plainRow(0x9a, 'callf', farDirect(FAR_CALL), { immediate: 'far', modes: 'legacy' }),
  plainRow(0xea, 'jmpf', farDirect(FAR_JUMP), { immediate: 'far', modes: 'legacy' }),
  modrmRow(0xff, 'callf', farIndirect(FAR_CALL_INDIRECT), { digit: 3, operand: 'memory' }),
  modrmRow(0xff, 'jmpf', farIndirect(FAR_JUMP_INDIRECT), { digit: 5, operand: 'memory' }),
  plainRow(0xca, 'retf', farReturn, { immediate: 'w' }),
  plainRow(0xcb, 'retf', farReturn),

  plainRow(0xfa, 'cli', (_, out) => out.emit(CLEAR_INTERRUPT)),
  plainRow(0xfb, 'sti', setInterruptFlag),
  plainRow(0x9c, 'pushf', pushFlags, { defaults64: true }),
  plainRow(0x9d, 'popf', popFlags, { defaults64: true }),
];
