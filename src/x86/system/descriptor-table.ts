import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import {
  type CpuState,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
} from '../state.ts';
import {
  type Descriptor,
  descriptorAddress,
  OUTSIDE,
  parseDescriptor,
  readDescriptor,
  selectorFault,
  setNullSegment,
} from './descriptors.ts';
import { readFlags, setZeroFlag, writeFlags } from './flags.ts';
import { ACCESS, canonical, code64, dplOf, longMode, privilegeLevel, protectedMode } from './mode.ts';
import { wrap } from './segment-load.ts';

/** Descriptor-table registers, and the instructions that look into the tables [SDM 2A LGDT, LLDT, LAR; 2B LTR]. */

const GP = 13;
const NP = 11;
const UD = 6;

/** LGDT, LIDT: b is the state offset of the linear address, c the operand size (2: 24 bits of base). */
function loadTable(cpu: Cpu, b: number, c: number, base: number, limit: number): Outcome {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const at = state.get64(b);
  const newLimit = cpu.load(2, at);
  if (newLimit === undefined) return ABORTED;
  const wide = code64(state);
  let newBase = cpu.load(wide ? 8 : 4, wrap(cpu, at + 2n));
  if (newBase === undefined) return ABORTED;
  if (wide && !canonical(newBase)) return cpu.fault(GP, 0);
  if (!wide && c === 2) newBase &= 0xff_ffffn;
  state.set64(base, newBase);
  state.set32(limit, Number(newLimit));
  return DONE;
}

function storeTable(cpu: Cpu, b: number, base: number, limit: number): Outcome {
  const state = cpu.state;
  const at = state.get64(b);
  const wide = code64(state);
  const second = wrap(cpu, at + 2n);
  if (!cpu.probe(at, 2, 'write') || !cpu.probe(second, wide ? 8 : 4, 'write')) return ABORTED;
  cpu.store(2, at, BigInt(state.get32(limit) & 0xffff));
  if (wide) cpu.store(8, second, state.get64(base));
  else cpu.store(4, second, state.get64(base) & 0xffff_ffffn);
  return DONE;
}

export const LOAD_GDT = systemOperation('lgdt', (cpu, b, c) => loadTable(cpu, b, c, GDTR_BASE, GDTR_LIMIT));
export const LOAD_IDT = systemOperation('lidt', (cpu, b, c) => loadTable(cpu, b, c, IDTR_BASE, IDTR_LIMIT));
export const STORE_GDT = systemOperation('sgdt', (cpu, b) => storeTable(cpu, b, GDTR_BASE, GDTR_LIMIT));
export const STORE_IDT = systemOperation('sidt', (cpu, b) => storeTable(cpu, b, IDTR_BASE, IDTR_LIMIT));

/** A system descriptor of the GDT, 16 bytes in IA-32e mode. undefined: a fault is pending. */
function systemDescriptor(cpu: Cpu, selector: number, types: readonly number[]): Descriptor | undefined {
  const state = cpu.state;
  const long = longMode(state);
  const at = (selector & 4) !== 0 ? OUTSIDE : descriptorAddress(state, selector, long ? 16 : 8);
  if (at === OUTSIDE) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  const low = cpu.load(8, at, 'supervisor');
  if (low === undefined) return undefined;
  const high = long ? cpu.load(8, BigInt.asUintN(64, at + 8n), 'supervisor') : 0n;
  if (high === undefined) return undefined;
  const short = parseDescriptor(at, low);
  const base = short.base | ((high & 0xffff_ffffn) << 32n);
  // A 64-bit base must be canonical; the type field of the upper half must be zero.
  if (!types.includes(short.access & 0x1f) || !canonical(base) || ((high >> 40n) & 0x1fn) !== 0n) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  if ((short.access & ACCESS.present) === 0) {
    selectorFault(cpu, NP, selector);
    return undefined;
  }
  return { ...short, base };
}

function setSystemSegment(state: CpuState, segment: number, selector: number, descriptor: Descriptor): void {
  state.set32(SEGMENT_SELECTOR + segment * 4, selector);
  state.set32(SEGMENT_LIMIT + segment * 4, descriptor.limit);
  state.set32(SEGMENT_ACCESS + segment * 4, descriptor.access);
  state.set64(SEGMENT_BASE + segment * 8, descriptor.base);
}

/** LLDT: b is the state offset of the selector. */
export const LOAD_LDT = systemOperation('lldt', (cpu, b) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const selector = state.view.getUint16(b, true);
  if ((selector & 0xfffc) === 0) {
    setNullSegment(state, SEGMENT.ldtr, selector);
    return DONE;
  }
  const descriptor = systemDescriptor(cpu, selector, [2]);
  if (descriptor === undefined) return ABORTED;
  setSystemSegment(state, SEGMENT.ldtr, selector, descriptor);
  return DONE;
});

/** LTR: marks the task state segment busy, in the table too. */
export const LOAD_TASK = systemOperation('ltr', (cpu, b) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const selector = state.view.getUint16(b, true);
  if ((selector & 0xfffc) === 0) return cpu.fault(GP, 0);
  const descriptor = systemDescriptor(cpu, selector, longMode(state) ? [9] : [1, 9]);
  if (descriptor === undefined) return ABORTED;
  const access = descriptor.access | 2;
  if (!cpu.store(1, descriptor.at + 5n, BigInt(access & 0xff), 'supervisor')) return ABORTED;
  setSystemSegment(state, SEGMENT.tr, selector, { ...descriptor, access });
  return DONE;
});

/** System segment types that LAR and LSL accept [SDM 2A LAR table 3-53, LSL table 3-56]; bit n is type n. */
const LAR_LEGACY = 0b1_1010_0011_1110;
const LAR_LONG = 0b1_1010_0000_0100;
const LSL_LEGACY = 0b0_1010_0000_1110;
const LSL_LONG = 0b0_1010_0000_0100;

/**
 * The descriptor, when the current level and the selector's RPL may see it. 'hidden': not, which is no fault.
 * undefined: reading it faulted.
 */
function visibleDescriptor(cpu: Cpu, selector: number, types: number): Descriptor | 'hidden' | undefined {
  if ((selector & 0xfffc) === 0) return 'hidden';
  const descriptor = readDescriptor(cpu, selector);
  if (descriptor === undefined) return undefined;
  if (descriptor === OUTSIDE) return 'hidden';
  const { access } = descriptor;
  if ((access & ACCESS.user) === 0 && ((types >>> (access & 0xf)) & 1) === 0) return 'hidden';
  const conformingCode = ACCESS.user | ACCESS.code | ACCESS.conforming;
  if ((access & conformingCode) === conformingCode) return descriptor;
  return dplOf(access) >= Math.max(privilegeLevel(cpu.state), selector & 3) ? descriptor : 'hidden';
}

/** LAR: b is the state offset of the selector, c the destination's, the immediate the operand size. */
export const LOAD_ACCESS_RIGHTS = systemOperation('lar', (cpu, b, c, imm) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  const selector = state.view.getUint16(b, true);
  const found = visibleDescriptor(cpu, selector, longMode(state) ? LAR_LONG : LAR_LEGACY);
  if (found === undefined) return ABORTED;
  if (found !== 'hidden') {
    const size = Number(imm) as 2 | 4 | 8;
    const rights = (found.access & 0xf0ff) << 8;
    state.set(c, size, BigInt(size === 2 ? rights & 0xff00 : rights & 0x00f0_ff00));
  }
  setZeroFlag(state, found !== 'hidden');
  return DONE;
});

/** LSL: operands as LAR. */
export const LOAD_SEGMENT_LIMIT = systemOperation('lsl', (cpu, b, c, imm) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  const selector = state.view.getUint16(b, true);
  const found = visibleDescriptor(cpu, selector, longMode(state) ? LSL_LONG : LSL_LEGACY);
  if (found === undefined) return ABORTED;
  if (found !== 'hidden') state.set(c, Number(imm) as 2 | 4 | 8, BigInt(found.limit));
  setZeroFlag(state, found !== 'hidden');
  return DONE;
});

/** VERR (c = 0), VERW (c = 1): b is the state offset of the selector. */
export const VERIFY_SEGMENT = systemOperation('verify-segment', (cpu, b, c) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  const found = visibleDescriptor(cpu, state.view.getUint16(b, true), 0);
  if (found === undefined) return ABORTED;
  let usable = false;
  if (found !== 'hidden') {
    const isCode = (found.access & ACCESS.code) !== 0;
    const readWrite = (found.access & ACCESS.readWrite) !== 0;
    usable = c === 1 ? !isCode && readWrite : !isCode || readWrite;
  }
  setZeroFlag(state, usable);
  return DONE;
});

/** ARPL: b is the state offset of the destination's 16-bit value, which it changes, c the source's. */
export const ADJUST_PRIVILEGE = systemOperation('arpl', (cpu, b, c) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  const destination = state.view.getUint16(b, true);
  const rpl = state.view.getUint16(c, true) & 3;
  const lower = (destination & 3) < rpl;
  if (lower) state.view.setUint16(b, (destination & ~3) | rpl, true);
  setZero(state, lower);
  return DONE;
});

/** The same for an operand in memory at the address in b: it is written when it changes only. */
export const ADJUST_PRIVILEGE_IN_MEMORY = systemOperation('arpl-memory', (cpu, b, c) => {
  const state = cpu.state;
  if (!protectedMode(state)) return cpu.fault(UD);
  const address = state.get64(b);
  const destination = cpu.load(2, address);
  if (destination === undefined) return ABORTED;
  const rpl = BigInt(state.view.getUint16(c, true) & 3);
  const lower = (destination & 3n) < rpl;
  if (lower && !cpu.store(2, address, (destination & ~3n) | rpl)) return ABORTED;
  setZero(state, lower);
  return DONE;
});

function setZero(state: CpuState, zero: boolean): void {
  const flags = readFlags(state);
  writeFlags(state, zero ? flags | 0x40 : flags & ~0x40);
}

export const DESCRIPTOR_TABLE_OPERATIONS: readonly SystemOperation[] = [
  LOAD_GDT,
  LOAD_IDT,
  STORE_GDT,
  STORE_IDT,
  LOAD_LDT,
  LOAD_TASK,
  LOAD_ACCESS_RIGHTS,
  LOAD_SEGMENT_LIMIT,
  VERIFY_SEGMENT,
  ADJUST_PRIVILEGE,
  ADJUST_PRIVILEGE_IN_MEMORY,
];
