import { linearAddress } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LOAD, LOAD_ZERO, MOVE, STORE } from '../micro-operations/move.ts';
import {
  QUICK_TIMESTAMP,
  READ_CONTROL32,
  READ_CONTROL64,
  REQUIRE_PRIVILEGE,
} from '../micro-operations/system.ts';
import { CR0, CR2, CR3, CR4, GPR } from '../state.ts';
import {
  CLEAR_TASK_SWITCHED,
  LOAD_MACHINE_STATUS,
  READ_DEBUG,
  READ_TASK_PRIORITY,
  WRITE_CONTROL,
  WRITE_DEBUG,
} from '../system/control-register.ts';
import { IDENTIFY, READ_RANDOM } from '../system/identification.ts';
import { HALT } from '../system/interrupt.ts';
import { READ_MSR, READ_TIMESTAMP, WRITE_MSR } from '../system/msr.ts';
import { modrmRow, plainRow, rmRegister, T0 } from './operand.ts';

/**
 * Control and debug registers, MSRs, identification, fences. What enables or moves interrupts does, so that the machine looks.
 */

const UD = 6;
const GP = 13;

const CONTROL: Readonly<Record<number, number>> = { 0: CR0, 2: CR2, 3: CR3, 4: CR4 };

function readControl(instruction: Instruction, out: Lowering): void {
  const to = GPR + instruction.rm * 8;
  const from = CONTROL[instruction.reg];
  if (from !== undefined) {
    out.emit(instruction.codeSize === 64 ? READ_CONTROL64 : READ_CONTROL32, { a: to, b: from });
  } else if (instruction.reg === 8) {
    out.call(READ_TASK_PRIORITY, { b: to });
  } else {
    out.fault(UD);
  }
}

function writeControl(instruction: Instruction, out: Lowering): void {
  const { reg } = instruction;
  if (CONTROL[reg] === undefined && reg !== 8) out.fault(UD);
  else if (reg === 2) out.call(WRITE_CONTROL, { b: GPR + instruction.rm * 8, c: reg });
  else out.system(WRITE_CONTROL, { b: GPR + instruction.rm * 8, c: reg });
}

function debug(operation: typeof READ_DEBUG) {
  return (instruction: Instruction, out: Lowering): void => {
    if (instruction.reg > 7) out.fault(UD);
    else out.system(operation, { b: GPR + instruction.rm * 8, c: instruction.reg });
  };
}

/** SMSW: all of CR0 that fits a register, 16 bits of it to memory. */
function storeMachineStatus(instruction: Instruction, out: Lowering): void {
  if (instruction.memory !== undefined) {
    out.emit32(STORE[2], { a: CR0, ...linearAddress(instruction, out) });
  } else {
    const size = instruction.operandSize;
    out.emit(MOVE[size], { a: rmRegister(instruction, size), b: CR0 });
  }
}

function loadMachineStatus(instruction: Instruction, out: Lowering): void {
  let from = rmRegister(instruction, 2);
  if (instruction.memory !== undefined) {
    out.emit(REQUIRE_PRIVILEGE);
    out.emit32(LOAD_ZERO[2], { a: T0, ...linearAddress(instruction, out) });
    from = T0;
  }
  out.system(LOAD_MACHINE_STATUS, { b: from });
}

/** CLFLUSH is subject to the checks of a byte load, and has nothing to flush [SDM 2A CLFLUSH]. */
function flushLine(instruction: Instruction, out: Lowering): void {
  out.emit32(LOAD[1], { a: T0, ...linearAddress(instruction, out) });
}

function random(instruction: Instruction, out: Lowering): void {
  out.call(READ_RANDOM, { b: GPR + instruction.rm * 8, c: instruction.operandSize });
}

function readTimestamp(_: Instruction, out: Lowering): void {
  out.emit(QUICK_TIMESTAMP);
  out.orSystem(READ_TIMESTAMP);
}

/** Memory is accessed in program order anyway. */
const fence = (): void => {};
const requirePrivilege = (_: Instruction, out: Lowering): void => out.emit(REQUIRE_PRIVILEGE);
const FENCE = { prefix: 'np', operand: 'register' } as const;

export const SYSTEM_CONTROL_ROWS: readonly Row[] = [
  modrmRow(0x0f20, 'mov', readControl),
  modrmRow(0x0f22, 'mov', writeControl),
  modrmRow(0x0f21, 'mov', debug(READ_DEBUG)),
  modrmRow(0x0f23, 'mov', debug(WRITE_DEBUG)),
  modrmRow(0x0f01, 'smsw', storeMachineStatus, { digit: 4 }),
  modrmRow(0x0f01, 'lmsw', loadMachineStatus, { digit: 6 }),
  plainRow(0x0f06, 'clts', (_, out) => out.system(CLEAR_TASK_SWITCHED)),
  modrmRow(0x0f01, 'invlpg', requirePrivilege, { digit: 7, operand: 'memory' }),
  plainRow(0x0f08, 'invd', requirePrivilege),
  plainRow(0x0f09, 'wbinvd', requirePrivilege),

  plainRow(0x0f30, 'wrmsr', (_, out) => out.system(WRITE_MSR)),
  plainRow(0x0f32, 'rdmsr', (_, out) => out.system(READ_MSR)),
  plainRow(0x0f31, 'rdtsc', readTimestamp),
  // No performance counter exists, so every index is out of range.
  plainRow(0x0f33, 'rdpmc', (_, out) => out.fault(GP, 0)),
  plainRow(0x0fa2, 'cpuid', (_, out) => out.call(IDENTIFY)),
  modrmRow(0x0fc7, 'rdrand', random, { digit: 6, prefix: 'np', operand: 'register' }),
  modrmRow(0x0fc7, 'rdrand', random, { digit: 6, prefix: '66', operand: 'register' }),
  modrmRow(0x0fc7, 'rdseed', random, { digit: 7, prefix: 'np', operand: 'register' }),
  modrmRow(0x0fc7, 'rdseed', random, { digit: 7, prefix: '66', operand: 'register' }),
  plainRow(0xf4, 'hlt', (_, out) => out.system(HALT)),

  modrmRow(0x0fae, 'lfence', fence, { digit: 5, ...FENCE }),
  modrmRow(0x0fae, 'mfence', fence, { digit: 6, ...FENCE }),
  modrmRow(0x0fae, 'sfence', fence, { digit: 7, ...FENCE }),
  modrmRow(0x0fae, 'clflush', flushLine, { digit: 7, prefix: 'np', operand: 'memory' }),
];
