import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import { PHYSICAL_ADDRESS_BITS } from '../paging.ts';
import { type CpuState, CR0, CR2, CR3, CR4, DR0, DR6, DR7, EFER, SEGMENT, SEGMENT_ACCESS } from '../state.ts';
import { ACCESS, CR0_BIT, CR4_BIT, code64, EFER_BIT, longMode, privilegeLevel } from './mode.ts';

/** MOV to control and debug registers, LMSW, CLTS [SDM 2B MOV; 3A 2.5]. */

const GP = 13;
const DB = 1;
const UD = 6;

const CR0_WRITABLE =
  CR0_BIT.pe |
  CR0_BIT.mp |
  CR0_BIT.em |
  CR0_BIT.ts |
  CR0_BIT.ne |
  CR0_BIT.wp |
  CR0_BIT.am |
  CR0_BIT.nw |
  CR0_BIT.cd |
  CR0_BIT.pg;

/** What CPUID offers; any other bit is reserved, and setting it is #GP(0). */
const CR4_WRITABLE =
  CR4_BIT.tsd |
  CR4_BIT.de |
  CR4_BIT.pse |
  CR4_BIT.pae |
  CR4_BIT.pge |
  CR4_BIT.pce |
  CR4_BIT.osfxsr |
  CR4_BIT.osxmmexcpt |
  CR4_BIT.fsgsbase;

const PHYSICAL_MASK = (1n << BigInt(PHYSICAL_ADDRESS_BITS)) - 1n;

/** Switching paging on with EFER.LME enters IA-32e mode, switching it off leaves it [SDM 3A 9.8.5]. */
export function writeCr0(cpu: Cpu, value: bigint): Outcome {
  const state = cpu.state;
  if (value >> 32n !== 0n) return cpu.fault(GP, 0);
  // Reserved bits are ignored, ET reads as one.
  const next = ((Number(value) & CR0_WRITABLE) | CR0_BIT.et) >>> 0;
  const previous = state.get32(CR0);
  const paging = (next & CR0_BIT.pg) !== 0;
  if (paging && (next & CR0_BIT.pe) === 0) return cpu.fault(GP, 0);
  if ((next & (CR0_BIT.nw | CR0_BIT.cd)) === CR0_BIT.nw) return cpu.fault(GP, 0);
  const efer = state.get32(EFER);
  if (paging && (previous & CR0_BIT.pg) === 0 && (efer & EFER_BIT.lme) !== 0) {
    if ((state.get32(CR4) & CR4_BIT.pae) === 0) return cpu.fault(GP, 0);
    if ((state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4) & ACCESS.long) !== 0) return cpu.fault(GP, 0);
    state.set64(EFER, BigInt(efer | EFER_BIT.lma));
  }
  if (!paging && (efer & EFER_BIT.lma) !== 0) {
    if (code64(state)) return cpu.fault(GP, 0);
    state.set64(EFER, BigInt(efer & ~EFER_BIT.lma));
  }
  state.set64(CR0, BigInt(next));
  return DONE;
}

/**
 * Cached translations are always what a walk would give now (design 3), so the engine need not forget any; it
 * only has to use those of the new root.
 */
function writeCr3(cpu: Cpu, value: bigint): Outcome {
  if (longMode(cpu.state) && (value & ~PHYSICAL_MASK) !== 0n) return cpu.fault(GP, 0);
  cpu.state.set64(CR3, value);
  return DONE;
}

function writeCr4(cpu: Cpu, value: bigint): Outcome {
  const state = cpu.state;
  if ((value & ~BigInt(CR4_WRITABLE)) !== 0n) return cpu.fault(GP, 0);
  if (longMode(state) && (value & BigInt(CR4_BIT.pae)) === 0n) return cpu.fault(GP, 0);
  state.set64(CR4, value);
  return DONE;
}

function operand(state: CpuState, offset: number): bigint {
  return code64(state) ? state.get64(offset) : BigInt(state.get32(offset));
}

/** MOV CRn, r: b is the register's offset, c is n (0, 2, 3, 4, 8). */
export const WRITE_CONTROL = systemOperation('write-control', (cpu, b, c) => {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const value = operand(state, b);
  switch (c) {
    case 0:
      return writeCr0(cpu, value);
    case 2:
      state.set64(CR2, value);
      return DONE;
    case 3:
      return writeCr3(cpu, value);
    case 4:
      return writeCr4(cpu, value);
    case 8:
      if (value > 15n) return cpu.fault(GP, 0);
      cpu.environment.setTaskPriority(Number(value));
      return DONE;
    default:
      return cpu.fault(UD);
  }
});

/** MOV r, CR8: b is the register's offset. */
export const READ_TASK_PRIORITY = systemOperation('read-task-priority', (cpu, b) => {
  if (privilegeLevel(cpu.state) !== 0) return cpu.fault(GP, 0);
  cpu.state.set64(b, BigInt(cpu.environment.taskPriority()));
  return DONE;
});

/** LMSW: b is the offset of the 16-bit operand. It sets PE but cannot clear it [SDM 2A LMSW]. */
export const LOAD_MACHINE_STATUS = systemOperation('load-machine-status', (cpu, b) => {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const previous = state.get32(CR0);
  const low = state.view.getUint16(b, true) & 0xf;
  return writeCr0(cpu, BigInt(((previous & ~0xe) | low) >>> 0));
});

export const CLEAR_TASK_SWITCHED = systemOperation('clear-task-switched', (cpu) => {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  state.u32[CR0 >>> 2] = state.u32[CR0 >>> 2]! & ~CR0_BIT.ts;
  return DONE;
});

/** State offset of a debug register; DR4 and DR5 are DR6 and DR7 unless CR4.DE is set [SDM 3B 17.2.2]. */
function debugRegister(state: CpuState, index: number): number | undefined {
  if (index === 4 || index === 5) {
    if ((state.get32(CR4) & CR4_BIT.de) !== 0) return undefined;
    index += 2;
  }
  return index < 4 ? DR0 + index * 8 : index === 6 ? DR6 : DR7;
}

const DR6_FIXED = 0xffff_0ff0n;
const DR6_WRITABLE = 0xe00fn;
const DR7_FIXED = 0x400n;
const DR7_WRITABLE = 0xffff_23ffn;
/** DR7.GD: any access to a debug register is #DB. */
const GENERAL_DETECT = 0x2000n;
/** DR6.BD says so. */
const DEBUG_ACCESS = 0x2000n;

/** #GP, #UD or #DB before a debug register is touched; else its offset. */
function accessDebug(cpu: Cpu, index: number): number | undefined {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) {
    cpu.fault(GP, 0);
    return undefined;
  }
  const offset = debugRegister(state, index);
  if (offset === undefined) {
    cpu.fault(UD);
    return undefined;
  }
  if ((state.get64(DR7) & GENERAL_DETECT) !== 0n) {
    state.set64(DR6, state.get64(DR6) | DEBUG_ACCESS);
    state.set64(DR7, state.get64(DR7) & ~GENERAL_DETECT);
    cpu.fault(DB);
    return undefined;
  }
  return offset;
}

/** MOV r, DRn: b is the register's offset, c is n. */
export const READ_DEBUG = systemOperation('read-debug', (cpu, b, c) => {
  const offset = accessDebug(cpu, c);
  if (offset === undefined) return ABORTED;
  cpu.state.set(b, code64(cpu.state) ? 8 : 4, cpu.state.get64(offset));
  return DONE;
});

/** MOV DRn, r. */
export const WRITE_DEBUG = systemOperation('write-debug', (cpu, b, c) => {
  const state = cpu.state;
  const offset = accessDebug(cpu, c);
  if (offset === undefined) return ABORTED;
  const value = operand(state, b);
  if (offset === DR6 || offset === DR7) {
    if (value >> 32n !== 0n) return cpu.fault(GP, 0);
    const status = offset === DR6;
    state.set64(offset, status ? (value & DR6_WRITABLE) | DR6_FIXED : (value & DR7_WRITABLE) | DR7_FIXED);
  } else {
    state.set64(offset, value);
  }
  return DONE;
});

export const CONTROL_REGISTER_OPERATIONS: readonly SystemOperation[] = [
  WRITE_CONTROL,
  READ_TASK_PRIORITY,
  LOAD_MACHINE_STATUS,
  CLEAR_TASK_SWITCHED,
  READ_DEBUG,
  WRITE_DEBUG,
];
