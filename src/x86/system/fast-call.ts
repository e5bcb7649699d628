import { type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import {
  CPL,
  type CpuState,
  EFER,
  FLAG,
  LSTAR,
  R11,
  RCX,
  RDX,
  RIP,
  RSP,
  SEGMENT,
  SFMASK,
  STAR,
  SYSENTER_CS,
  SYSENTER_EIP,
  SYSENTER_ESP,
} from '../state.ts';
import { setFlatSegment } from './descriptors.ts';
import { readFlags, writeFlags } from './flags.ts';
import { canonical, code64, EFER_BIT, longMode, privilegeLevel, protectedMode } from './mode.ts';

/**
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT [SDM 2B]. They are hot: every system call of the guest is two of them. So
 * they copy 32-bit halves and make flat segments without reading a table.
 */

/** Present, accessed, 4 GiB: 64-bit code, 32-bit code and data; privilege 3 adds 0x60. */
const CODE64 = 0xa09b;
const CODE32 = 0xc09b;
const DATA = 0xc093;
const USER = 0x60;

const GP = 13;
const UD = 6;

function copy64(state: CpuState, to: number, from: number): void {
  state.u32[to >>> 2] = state.u32[from >>> 2]!;
  state.u32[(to >>> 2) + 1] = state.u32[(from >>> 2) + 1]!;
}

function set32(state: CpuState, to: number, value: number): void {
  state.u32[to >>> 2] = value;
  state.u32[(to >>> 2) + 1] = 0;
}

function enter(state: CpuState, codeAccess: number, selector: number): void {
  setFlatSegment(state, SEGMENT.cs, selector, codeAccess);
  setFlatSegment(state, SEGMENT.ss, selector + 8, DATA);
  state.u32[CPL >>> 2] = 0;
}

function leave(state: CpuState, codeAccess: number, csSelector: number, ssSelector: number): void {
  setFlatSegment(state, SEGMENT.cs, (csSelector & 0xffff) | 3, codeAccess | USER);
  setFlatSegment(state, SEGMENT.ss, (ssSelector & 0xffff) | 3, DATA | USER);
  state.u32[CPL >>> 2] = 3;
}

/** Only from 64-bit code, as Intel's processors do it: in compatibility mode it is #UD. */
function syscall(cpu: Cpu): Outcome {
  const state = cpu.state;
  if (!code64(state) || (state.u32[EFER >>> 2]! & EFER_BIT.sce) === 0) return cpu.fault(UD);
  const flags = readFlags(state);
  copy64(state, RCX, RIP);
  set32(state, R11, flags);
  copy64(state, RIP, LSTAR);
  writeFlags(state, flags & ~state.u32[SFMASK >>> 2]!);
  enter(state, CODE64, state.u32[(STAR >>> 2) + 1]! & 0xfffc);
  return DONE;
}

/** c is the operand size: 8 returns to 64-bit code, 4 to compatibility mode. */
function sysret(cpu: Cpu, _b: number, c: number): Outcome {
  const state = cpu.state;
  if (!code64(state) || (state.u32[EFER >>> 2]! & EFER_BIT.sce) === 0) return cpu.fault(UD);
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const high = state.u32[(RCX >>> 2) + 1]!;
  if (c === 8 && (high << 16) >> 16 !== (high | 0)) return cpu.fault(GP, 0);
  const base = state.u32[(STAR >>> 2) + 1]! >>> 16;
  if (c === 8) {
    copy64(state, RIP, RCX);
    leave(state, CODE64, base + 16, base + 8);
  } else {
    set32(state, RIP, state.u32[RCX >>> 2]!);
    leave(state, CODE32, base, base + 8);
  }
  writeFlags(state, state.u32[R11 >>> 2]!);
  return DONE;
}

function sysenter(cpu: Cpu): Outcome {
  const state = cpu.state;
  const selector = state.u32[SYSENTER_CS >>> 2]! & 0xfffc;
  if (!protectedMode(state) || selector === 0) return cpu.fault(GP, 0);
  const long = longMode(state);
  if (long) {
    copy64(state, RSP, SYSENTER_ESP);
    copy64(state, RIP, SYSENTER_EIP);
  } else {
    set32(state, RSP, state.u32[SYSENTER_ESP >>> 2]!);
    set32(state, RIP, state.u32[SYSENTER_EIP >>> 2]!);
  }
  writeFlags(state, readFlags(state) & ~(FLAG.if | FLAG.vm));
  enter(state, long ? CODE64 : CODE32, selector);
  return DONE;
}

/** c is the operand size: 8 returns to 64-bit code. */
function sysexit(cpu: Cpu, _b: number, c: number): Outcome {
  const state = cpu.state;
  const selector = state.u32[SYSENTER_CS >>> 2]! & 0xfffc;
  if (!protectedMode(state) || selector === 0 || privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  if (c === 8) {
    if (!canonical(state.get64(RCX)) || !canonical(state.get64(RDX))) return cpu.fault(GP, 0);
    copy64(state, RSP, RCX);
    copy64(state, RIP, RDX);
    leave(state, CODE64, selector + 32, selector + 40);
  } else {
    set32(state, RSP, state.u32[RCX >>> 2]!);
    set32(state, RIP, state.u32[RDX >>> 2]!);
    leave(state, CODE32, selector + 16, selector + 24);
  }
  return DONE;
}

export const SYSCALL = systemOperation('syscall', syscall);
export const SYSRET = systemOperation('sysret', sysret);
export const SYSENTER = systemOperation('sysenter', sysenter);
export const SYSEXIT = systemOperation('sysexit', sysexit);
export const FAST_CALL_OPERATIONS: readonly SystemOperation[] = [SYSCALL, SYSRET, SYSENTER, SYSEXIT];
