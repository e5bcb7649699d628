import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import { FLAG, FLAGS_REST, HALTED, INTERRUPT_SHADOW, NMI_BLOCKED, RSP, SINGLE_STEP_TRAP } from '../state.ts';
import { farCall, farJump, farReturn, interruptReturn, type OperandSize } from './far-transfer.ts';
import { changeableFlags, readFlags, writeFlags } from './flags.ts';
import { enterInterrupt, type InterruptKind } from './interrupt-entry.ts';
import {
  ioPrivilege,
  privilegeLevel,
  protectedMode,
  setStackPointer,
  stackAddress,
  stackMask,
} from './mode.ts';
import { wrap } from './segment-load.ts';

/** Instructions that open, close or go through the interrupt window, and far transfers of control. */

const GP = 13;

/** Entering a handler clears TF, and no trap follows: a debugger has to step over INT n itself [SDM 3B 17.3.1.4]. */
function enter(cpu: Cpu, vector: number, kind: InterruptKind): Outcome {
  const outcome = enterInterrupt(cpu, vector, kind, undefined);
  if (outcome === DONE) cpu.state.set32(SINGLE_STEP_TRAP, 0);
  return outcome;
}

/** INT n, INT3: c is the vector; RIP is the next instruction's address. */
export const SOFTWARE_INTERRUPT = systemOperation('software-interrupt', (cpu, _b, c) =>
  enter(cpu, c, 'software'),
);

/** INT1: delivered as a hardware exception would be, without the check of the gate's DPL [SDM 2A INT]. */
export const DEBUG_INTERRUPT = systemOperation('debug-interrupt', (cpu) => enter(cpu, 1, 'exception'));

export const OVERFLOW_INTERRUPT = systemOperation('overflow-interrupt', (cpu) =>
  (readFlags(cpu.state) & FLAG.of) !== 0 ? enter(cpu, 4, 'software') : DONE,
);

/** IRET: c is the operand size. */
export const INTERRUPT_RETURN = systemOperation('iret', (cpu, _b, c) => {
  // Even when it faults.
  cpu.state.set32(NMI_BLOCKED, 0);
  return interruptReturn(cpu, c as OperandSize);
});

/** RET far: c is the operand size, the immediate the bytes to release. */
export const FAR_RETURN = systemOperation('far-return', (cpu, _b, c, imm) =>
  farReturn(cpu, c as OperandSize, Number(imm)),
);

/** JMP and CALL ptr16:16/32: b is the selector, c the operand size, the immediate the offset. */
export const FAR_JUMP = systemOperation('far-jump', (cpu, b, c, imm) =>
  farJump(cpu, b, BigInt.asUintN(64, imm), c as OperandSize),
);
export const FAR_CALL = systemOperation('far-call', (cpu, b, c, imm) =>
  farCall(cpu, b, BigInt.asUintN(64, imm), c as OperandSize),
);

function indirect(cpu: Cpu, b: number, c: number, go: typeof farJump): Outcome {
  const size = c as OperandSize;
  const at = cpu.state.get64(b);
  const offset = cpu.load(size, at);
  if (offset === undefined) return ABORTED;
  const selector = cpu.load(2, wrap(cpu, at + BigInt(size)));
  if (selector === undefined) return ABORTED;
  return go(cpu, Number(selector), offset, size);
}

/** JMP and CALL m16:16/32/64: b is the state offset of the linear address, c the operand size. */
export const FAR_JUMP_INDIRECT = systemOperation('far-jump-indirect', (cpu, b, c) =>
  indirect(cpu, b, c, farJump),
);
export const FAR_CALL_INDIRECT = systemOperation('far-call-indirect', (cpu, b, c) =>
  indirect(cpu, b, c, farCall),
);

/** STI holds interrupts for one more instruction when it opens the window [SDM 2B STI]. */
export const SET_INTERRUPT_FLAG = systemOperation('sti', (cpu) => {
  const state = cpu.state;
  if (protectedMode(state) && privilegeLevel(state) > ioPrivilege(state)) return cpu.fault(GP, 0);
  const flags = state.u32[FLAGS_REST >>> 2]!;
  if ((flags & FLAG.if) === 0) {
    state.u32[FLAGS_REST >>> 2] = flags | FLAG.if;
    state.set32(INTERRUPT_SHADOW, 2);
  }
  return DONE;
});

/** PUSHF outside 64-bit code: c is the operand size. */
export const PUSH_FLAGS = systemOperation('pushf', (cpu, _b, c) => {
  const state = cpu.state;
  const size = c as 2 | 4;
  const mask = stackMask(state);
  const sp = state.get64(RSP) - BigInt(size);
  const flags = readFlags(state);
  const value = BigInt(size === 2 ? flags & 0xffff : flags);
  if (!cpu.store(size, stackAddress(state, sp, mask), value)) return ABORTED;
  setStackPointer(state, sp, mask);
  return DONE;
});

/** POPF: c is the operand size. What may not be changed is left as it is, without a fault [SDM 2B POPF]. */
export const POP_FLAGS = systemOperation('popf', (cpu, _b, c) => {
  const state = cpu.state;
  const size = c as OperandSize;
  const mask = stackMask(state);
  const sp = state.get64(RSP);
  const value = cpu.load(size, stackAddress(state, sp, mask));
  if (value === undefined) return ABORTED;
  const privilege = privilegeLevel(state);
  const changeable = changeableFlags(privilege, protectedMode(state) ? ioPrivilege(state) : 3, size);
  setStackPointer(state, sp + BigInt(size), mask);
  writeFlags(state, (readFlags(state) & ~changeable) | (Number(value & 0xffff_ffffn) & changeable));
  return DONE;
});

/** HLT: RIP is already the next instruction, where the interrupt that wakes it returns to. */
export const HALT = systemOperation('hlt', (cpu) => {
  if (privilegeLevel(cpu.state) !== 0) return cpu.fault(GP, 0);
  cpu.state.set32(HALTED, 1);
  return DONE;
});

/** BOUND: b is the state offset of the linear address, c the index register's, the immediate the operand size. */
export const CHECK_BOUND = systemOperation('bound', (cpu, b, c, imm) => {
  const size = Number(imm) as 2 | 4;
  const at = cpu.state.get64(b);
  const lower = cpu.load(size, at);
  if (lower === undefined) return ABORTED;
  const upper = cpu.load(size, wrap(cpu, at + BigInt(size)));
  if (upper === undefined) return ABORTED;
  const signed = (value: bigint) => BigInt.asIntN(size * 8, value);
  const index = signed(cpu.state.get(c, size));
  return index < signed(lower) || index > signed(upper) ? cpu.fault(5) : DONE;
});

export const INTERRUPT_OPERATIONS: readonly SystemOperation[] = [
  SOFTWARE_INTERRUPT,
  DEBUG_INTERRUPT,
  OVERFLOW_INTERRUPT,
  INTERRUPT_RETURN,
  FAR_RETURN,
  FAR_JUMP,
  FAR_CALL,
  FAR_JUMP_INDIRECT,
  FAR_CALL_INDIRECT,
  SET_INTERRUPT_FLAG,
  PUSH_FLAGS,
  POP_FLAGS,
  HALT,
  CHECK_BOUND,
];
