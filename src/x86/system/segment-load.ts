import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import { INTERRUPT_SHADOW, RSP, SEGMENT, SEGMENT_SELECTOR, type Size } from '../state.ts';
import {
  type Descriptor,
  markAccessed,
  OUTSIDE,
  readDescriptor,
  selectorFault,
  setNullSegment,
  setRealSegment,
  setSegment,
} from './descriptors.ts';
import {
  ACCESS,
  code64,
  dplOf,
  privilegeLevel,
  protectedMode,
  setStackPointer,
  stackAddress,
  stackMask,
} from './mode.ts';

/** Loads of segment registers [SDM 2B MOV, POP; 2A LDS]. */

const GP = 13;
const NP = 11;
const SS = 12;

/**
 * Checks and loads ES, SS, DS, FS or GS. Nothing is changed unless the outcome is DONE.
 */
export function loadSegment(cpu: Cpu, segment: number, selector: number): Outcome {
  const state = cpu.state;
  if (!protectedMode(state)) {
    setRealSegment(state, segment, selector);
    return DONE;
  }
  const isStack = segment === SEGMENT.ss;
  const privilege = privilegeLevel(state);
  if ((selector & 0xfffc) === 0) {
    if (isStack && (!code64(state) || privilege === 3 || (selector & 3) !== privilege)) {
      return cpu.fault(GP, 0);
    }
    setNullSegment(state, segment, selector);
    return DONE;
  }
  const descriptor = readDescriptor(cpu, selector);
  if (descriptor === undefined) return ABORTED;
  if (descriptor === OUTSIDE) return selectorFault(cpu, GP, selector);
  const allowed = isStack
    ? isStackSegment(descriptor, selector, privilege)
    : isDataSegment(descriptor, selector, privilege);
  if (!allowed) return selectorFault(cpu, GP, selector);
  if ((descriptor.access & ACCESS.present) === 0) return selectorFault(cpu, isStack ? SS : NP, selector);
  if (!markAccessed(cpu, descriptor)) return ABORTED;
  setSegment(state, segment, selector, descriptor);
  return DONE;
}

function isStackSegment(descriptor: Descriptor, selector: number, privilege: number): boolean {
  const wanted = ACCESS.user | ACCESS.readWrite;
  return (
    (selector & 3) === privilege &&
    dplOf(descriptor.access) === privilege &&
    (descriptor.access & (wanted | ACCESS.code)) === wanted
  );
}

/** Data, or code that may be read; conforming code may be read from any level. */
function isDataSegment(descriptor: Descriptor, selector: number, privilege: number): boolean {
  const { access } = descriptor;
  if ((access & ACCESS.user) === 0) return false;
  const isCode = (access & ACCESS.code) !== 0;
  if (isCode && (access & ACCESS.readWrite) === 0) return false;
  if (isCode && (access & ACCESS.conforming) !== 0) return true;
  return dplOf(access) >= Math.max(privilege, selector & 3);
}

/** MOV to DS, ES, FS, GS: b is the state offset of the 16-bit selector, c the segment. */
export const LOAD_SEGMENT = systemOperation('load-segment', (cpu, b, c) =>
  loadSegment(cpu, c, cpu.state.view.getUint16(b, true)),
);

/** MOV to SS: as LOAD_SEGMENT, and holds interrupts for one instruction [SDM 2B MOV]. */
export const LOAD_STACK_SEGMENT = systemOperation('load-stack-segment', (cpu, b) => {
  const outcome = loadSegment(cpu, SEGMENT.ss, cpu.state.view.getUint16(b, true));
  if (outcome === DONE) cpu.state.set32(INTERRUPT_SHADOW, 1);
  return outcome;
});

/** PUSH Sreg outside 64-bit code: c is the segment, imm the operand size. The selector is zero-extended. */
export const PUSH_SEGMENT = systemOperation('push-segment', (cpu, _b, c, imm) => {
  const state = cpu.state;
  const mask = stackMask(state);
  const sp = state.get64(RSP) - imm;
  const value = BigInt(state.get32(SEGMENT_SELECTOR + c * 4));
  if (!cpu.store(Number(imm) as Size, stackAddress(state, sp, mask), value)) return ABORTED;
  setStackPointer(state, sp, mask);
  return DONE;
});

/** POP Sreg: c is the segment, size that of the operand. */
function popSegment(cpu: Cpu, c: number, size: bigint): Outcome {
  const state = cpu.state;
  const mask = stackMask(state);
  const sp = state.get64(RSP);
  const value = cpu.load(2, stackAddress(state, sp, mask));
  if (value === undefined) return ABORTED;
  const outcome = loadSegment(cpu, c, Number(value));
  if (outcome !== DONE) return outcome;
  // The old stack's width counts: SS may just have been replaced.
  setStackPointer(state, sp + size, mask);
  return DONE;
}

/** c is the segment, imm the operand size. */
export const POP_SEGMENT = systemOperation('pop-segment', (cpu, _b, c, imm) => popSegment(cpu, c, imm));

export const POP_STACK_SEGMENT = systemOperation('pop-stack-segment', (cpu, _b, _c, imm) => {
  const outcome = popSegment(cpu, SEGMENT.ss, imm);
  if (outcome === DONE) cpu.state.set32(INTERRUPT_SHADOW, 1);
  return outcome;
});

/**
 * LDS, LES, LSS, LFS, LGS: b is the state offset of the linear address of the far pointer, c the destination
 * register's; the immediate is the operand size, and the segment times 16.
 */
export const LOAD_FAR_POINTER = systemOperation('load-far-pointer', (cpu, b, c, imm) => {
  const size = Number(imm & 0xfn) as 2 | 4 | 8;
  const segment = Number(imm >> 4n);
  const at = cpu.state.get64(b);
  const offset = cpu.load(size, at);
  if (offset === undefined) return ABORTED;
  const selector = cpu.load(2, wrap(cpu, at + BigInt(size)));
  if (selector === undefined) return ABORTED;
  const outcome = loadSegment(cpu, segment, Number(selector));
  if (outcome === DONE) cpu.state.set(c, size, offset);
  return outcome;
});

/** A linear address just past another wraps at 32 or 64 bits. */
export function wrap(cpu: Cpu, linear: bigint): bigint {
  return code64(cpu.state) ? BigInt.asUintN(64, linear) : linear & 0xffff_ffffn;
}

export const SEGMENT_LOAD_OPERATIONS: readonly SystemOperation[] = [
  LOAD_SEGMENT,
  LOAD_STACK_SEGMENT,
  PUSH_SEGMENT,
  POP_SEGMENT,
  POP_STACK_SEGMENT,
  LOAD_FAR_POINTER,
];
