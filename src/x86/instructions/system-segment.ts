import { emitOperandAddress, linearAddress, STACK_ADDRESS_TEMP } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LOAD_ZERO, MOVE, STORE } from '../micro-operations/move.ts';
import {
  QUICK_TIMESTAMP_AUX,
  READ_BASE32,
  READ_BASE64,
  REQUIRE_PRIVILEGE,
  REQUIRE_PROTECTED,
  SWAP_GS,
  WRITE_BASE32,
  WRITE_BASE64,
} from '../micro-operations/system.ts';
import { GPR, SEGMENT, SEGMENT_BASE, SEGMENT_SELECTOR } from '../state.ts';
import {
  ADJUST_PRIVILEGE,
  ADJUST_PRIVILEGE_IN_MEMORY,
  LOAD_ACCESS_RIGHTS,
  LOAD_GDT,
  LOAD_IDT,
  LOAD_LDT,
  LOAD_SEGMENT_LIMIT,
  LOAD_TASK,
  STORE_GDT,
  STORE_IDT,
  VERIFY_SEGMENT,
} from '../system/descriptor-table.ts';
import { READ_TIMESTAMP_AUX } from '../system/msr.ts';
import {
  LOAD_FAR_POINTER,
  LOAD_SEGMENT,
  LOAD_STACK_SEGMENT,
  POP_SEGMENT,
  POP_STACK_SEGMENT,
  PUSH_SEGMENT,
} from '../system/segment-load.ts';
import { modrmRow, plainRow, rmRegister, T0, T1 } from './operand.ts';
import { emitPush } from './stack-access.ts';

/** Segment registers and descriptor tables [SDM 2 MOV, PUSH, POP, LDS, LGDT, LLDT, LTR, LAR, LSL, VERR, SWAPGS]. */

const UD = 6;

/** A 16-bit r/m operand as the offset of a register or of a temporary that was loaded. */
function selectorOperand(instruction: Instruction, out: Lowering): number {
  if (instruction.memory === undefined) return rmRegister(instruction, 2);
  out.emit32(LOAD_ZERO[2], { a: T0, ...linearAddress(instruction, out) });
  return T0;
}

/** Stores a selector: 16 bits to memory, zero-extended to a register of the operand's size. */
function storeSelector(instruction: Instruction, out: Lowering, from: number): void {
  if (instruction.memory !== undefined) {
    out.emit32(STORE[2], { a: from, ...linearAddress(instruction, out) });
  } else {
    const size = instruction.operandSize === 2 ? 2 : 4;
    out.emit(MOVE[size], { a: rmRegister(instruction, size), b: from });
  }
}

function moveFromSegment(instruction: Instruction, out: Lowering): void {
  const segment = instruction.reg & 7;
  if (segment > SEGMENT.gs) out.fault(UD);
  else storeSelector(instruction, out, SEGMENT_SELECTOR + segment * 4);
}

function moveToSegment(instruction: Instruction, out: Lowering): void {
  const segment = instruction.reg & 7;
  if (segment > SEGMENT.gs || segment === SEGMENT.cs) {
    out.fault(UD);
    return;
  }
  const from = selectorOperand(instruction, out);
  if (segment === SEGMENT.ss) out.system(LOAD_STACK_SEGMENT, { b: from });
  else out[loading(instruction)](LOAD_SEGMENT, { b: from, c: segment });
}

/** Outside 64-bit code another segment may change how the code behind it is run (segment-check.ts): the block ends. */
function loading({ codeSize }: Instruction): 'call' | 'system' {
  return codeSize === 64 ? 'call' : 'system';
}

function pushSegment(segment: number) {
  return (instruction: Instruction, out: Lowering): void => {
    if (instruction.codeSize === 64) {
      out.emit(MOVE[4], { a: T1, b: SEGMENT_SELECTOR + segment * 4 });
      emitPush(instruction, out, instruction.operandSize, T1);
    } else {
      out.call(PUSH_SEGMENT, { b: STACK_ADDRESS_TEMP, c: segment, imm: BigInt(instruction.operandSize) });
    }
  };
}

function popSegment(segment: number) {
  return (instruction: Instruction, out: Lowering): void => {
    const fields = { b: STACK_ADDRESS_TEMP, c: segment, imm: BigInt(instruction.operandSize) };
    if (segment === SEGMENT.ss) out.system(POP_STACK_SEGMENT, fields);
    else out[loading(instruction)](POP_SEGMENT, fields);
  };
}

function loadFarPointer(segment: number) {
  return (instruction: Instruction, out: Lowering): void => {
    const fields = {
      b: emitOperandAddress(instruction, out),
      c: GPR + instruction.reg * 8,
      imm: BigInt(instruction.operandSize | (segment << 4)),
    };
    out[segment === SEGMENT.ss ? 'system' : loading(instruction)](LOAD_FAR_POINTER, fields);
  };
}

/** LGDT, LIDT, SGDT, SIDT. */
function table(operation: typeof LOAD_GDT) {
  return (instruction: Instruction, out: Lowering): void => {
    out.system(operation, { b: emitOperandAddress(instruction, out), c: instruction.operandSize });
  };
}

/** SLDT, STR. */
function storeSystemSelector(segment: number) {
  return (instruction: Instruction, out: Lowering): void => {
    out.emit(REQUIRE_PROTECTED);
    storeSelector(instruction, out, SEGMENT_SELECTOR + segment * 4);
  };
}

/** LLDT and LTR look at the privilege before their operand. */
function loadSystemSegment(operation: typeof LOAD_LDT) {
  return (instruction: Instruction, out: Lowering): void => {
    out.emit(REQUIRE_PROTECTED);
    out.emit(REQUIRE_PRIVILEGE);
    out.system(operation, { b: selectorOperand(instruction, out) });
  };
}

function look(operation: typeof LOAD_ACCESS_RIGHTS) {
  return (instruction: Instruction, out: Lowering): void => {
    const from = selectorOperand(instruction, out);
    out.call(operation, { b: from, c: GPR + instruction.reg * 8, imm: BigInt(instruction.operandSize) });
  };
}

function adjustPrivilege(instruction: Instruction, out: Lowering): void {
  const source = GPR + instruction.reg * 8;
  if (instruction.memory === undefined) {
    out.call(ADJUST_PRIVILEGE, { b: rmRegister(instruction, 2), c: source });
    return;
  }
  out.call(ADJUST_PRIVILEGE_IN_MEMORY, { b: emitOperandAddress(instruction, out), c: source });
}

/** 0F 01 /7 with a register: F8 is SWAPGS, F9 RDTSCP. */
function group7(instruction: Instruction, out: Lowering): void {
  const which = instruction.rm & 7;
  if (which === 0 && instruction.codeSize === 64) out.emit(SWAP_GS);
  else if (which === 1) {
    out.emit(QUICK_TIMESTAMP_AUX);
    out.orSystem(READ_TIMESTAMP_AUX);
  } else out.fault(UD);
}

function readBase(segment: number) {
  return (instruction: Instruction, out: Lowering): void =>
    out.emit(instruction.rexW ? READ_BASE64 : READ_BASE32, {
      a: GPR + instruction.rm * 8,
      b: SEGMENT_BASE + segment * 8,
    });
}

function writeBase(segment: number) {
  return (instruction: Instruction, out: Lowering): void =>
    out.emit(instruction.rexW ? WRITE_BASE64 : WRITE_BASE32, {
      a: SEGMENT_BASE + segment * 8,
      b: GPR + instruction.rm * 8,
    });
}

const LONG_BASE = { prefix: 'f3', operand: 'register', modes: 'long' } as const;

export const SYSTEM_SEGMENT_ROWS: readonly Row[] = [
  modrmRow(0x8c, 'mov', moveFromSegment),
  modrmRow(0x8e, 'mov', moveToSegment),
  plainRow(0x06, 'push', pushSegment(SEGMENT.es), { modes: 'legacy' }),
  plainRow(0x07, 'pop', popSegment(SEGMENT.es), { modes: 'legacy' }),
  plainRow(0x0e, 'push', pushSegment(SEGMENT.cs), { modes: 'legacy' }),
  plainRow(0x16, 'push', pushSegment(SEGMENT.ss), { modes: 'legacy' }),
  plainRow(0x17, 'pop', popSegment(SEGMENT.ss), { modes: 'legacy' }),
  plainRow(0x1e, 'push', pushSegment(SEGMENT.ds), { modes: 'legacy' }),
  plainRow(0x1f, 'pop', popSegment(SEGMENT.ds), { modes: 'legacy' }),
  plainRow(0x0fa0, 'push', pushSegment(SEGMENT.fs), { defaults64: true }),
  plainRow(0x0fa1, 'pop', popSegment(SEGMENT.fs), { defaults64: true }),
  plainRow(0x0fa8, 'push', pushSegment(SEGMENT.gs), { defaults64: true }),
  plainRow(0x0fa9, 'pop', popSegment(SEGMENT.gs), { defaults64: true }),
  modrmRow(0xc4, 'les', loadFarPointer(SEGMENT.es), { operand: 'memory', modes: 'legacy' }),
  modrmRow(0xc5, 'lds', loadFarPointer(SEGMENT.ds), { operand: 'memory', modes: 'legacy' }),
  modrmRow(0x0fb2, 'lss', loadFarPointer(SEGMENT.ss), { operand: 'memory' }),
  modrmRow(0x0fb4, 'lfs', loadFarPointer(SEGMENT.fs), { operand: 'memory' }),
  modrmRow(0x0fb5, 'lgs', loadFarPointer(SEGMENT.gs), { operand: 'memory' }),

  modrmRow(0x0f00, 'sldt', storeSystemSelector(SEGMENT.ldtr), { digit: 0 }),
  modrmRow(0x0f00, 'str', storeSystemSelector(SEGMENT.tr), { digit: 1 }),
  modrmRow(0x0f00, 'lldt', loadSystemSegment(LOAD_LDT), { digit: 2 }),
  modrmRow(0x0f00, 'ltr', loadSystemSegment(LOAD_TASK), { digit: 3 }),
  modrmRow(0x0f00, 'verr', (i, out) => out.call(VERIFY_SEGMENT, { b: selectorOperand(i, out), c: 0 }), {
    digit: 4,
  }),
  modrmRow(0x0f00, 'verw', (i, out) => out.call(VERIFY_SEGMENT, { b: selectorOperand(i, out), c: 1 }), {
    digit: 5,
  }),
  modrmRow(0x0f01, 'sgdt', table(STORE_GDT), { digit: 0, operand: 'memory' }),
  modrmRow(0x0f01, 'sidt', table(STORE_IDT), { digit: 1, operand: 'memory' }),
  modrmRow(0x0f01, 'lgdt', table(LOAD_GDT), { digit: 2, operand: 'memory' }),
  modrmRow(0x0f01, 'lidt', table(LOAD_IDT), { digit: 3, operand: 'memory' }),
  modrmRow(0x0f01, 'swapgs', group7, { digit: 7, operand: 'register' }),
  modrmRow(0x0f02, 'lar', look(LOAD_ACCESS_RIGHTS)),
  modrmRow(0x0f03, 'lsl', look(LOAD_SEGMENT_LIMIT)),
  modrmRow(0x63, 'arpl', adjustPrivilege, { modes: 'legacy' }),

  modrmRow(0x0fae, 'rdfsbase', readBase(SEGMENT.fs), { digit: 0, ...LONG_BASE }),
  modrmRow(0x0fae, 'rdgsbase', readBase(SEGMENT.gs), { digit: 1, ...LONG_BASE }),
  modrmRow(0x0fae, 'wrfsbase', writeBase(SEGMENT.fs), { digit: 2, ...LONG_BASE }),
  modrmRow(0x0fae, 'wrgsbase', writeBase(SEGMENT.gs), { digit: 3, ...LONG_BASE }),
];
