import { ABORTED, type Cpu, DONE, type Outcome } from '../cpu.ts';
import { CPL, type CpuState, FLAG, FLAGS_REST, RIP, RSP, SEGMENT } from '../state.ts';
import {
  accessOf,
  type Descriptor,
  markAccessed,
  OUTSIDE,
  readDescriptor,
  selectorFault,
  selectorOf,
  setNullSegment,
  setRealSegment,
  setSegment,
} from './descriptors.ts';
import { changeableFlags, keepResume, readFlags, writeFlags } from './flags.ts';
import {
  ACCESS,
  canonical,
  code64,
  dplOf,
  ioPrivilege,
  longMode,
  privilegeLevel,
  protectedMode,
  setStackPointer,
  stackAddress,
  stackMask,
} from './mode.ts';

/** Far JMP, CALL and RET, and IRET [SDM 2A CALL, JMP, IRET; 2B RET]. Call gates and tasks are not supported. */
export type OperandSize = 2 | 4 | 8;

const GP = 13;
const NP = 11;
const SS = 12;

function cut(value: bigint, size: OperandSize): bigint {
  return size === 8 ? value : size === 4 ? value & 0xffff_ffffn : value & 0xffffn;
}

/** Is `rip` an address that code of this segment may have? Raises #GP(0) when not. */
function targetAllowed(cpu: Cpu, code: Descriptor, rip: bigint): boolean {
  const is64 = longMode(cpu.state) && (code.access & ACCESS.long) !== 0;
  if (is64 ? canonical(rip) : rip <= BigInt(code.limit)) return true;
  cpu.fault(GP, 0);
  return false;
}

/** L and D together are reserved in IA-32e mode [SDM 3A 5.2.1]. */
function badLongCode(state: CpuState, code: Descriptor): boolean {
  const both = ACCESS.long | ACCESS.big;
  return longMode(state) && (code.access & both) === both;
}

/** A code segment that JMP or CALL may enter directly. undefined: a fault is pending. */
function directTarget(cpu: Cpu, selector: number): Descriptor | undefined {
  if ((selector & 0xfffc) === 0) {
    cpu.fault(GP, 0);
    return undefined;
  }
  const code = readDescriptor(cpu, selector);
  if (code === undefined) return undefined;
  const privilege = privilegeLevel(cpu.state);
  const wanted = ACCESS.user | ACCESS.code;
  if (code === OUTSIDE || (code.access & wanted) !== wanted || badLongCode(cpu.state, code)) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  const dpl = dplOf(code.access);
  const conforming = (code.access & ACCESS.conforming) !== 0;
  if (conforming ? dpl > privilege : (selector & 3) > privilege || dpl !== privilege) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  if ((code.access & ACCESS.present) === 0) {
    selectorFault(cpu, NP, selector);
    return undefined;
  }
  return code;
}

export function farJump(cpu: Cpu, selector: number, offset: bigint, size: OperandSize): Outcome {
  const state = cpu.state;
  const target = cut(offset, size);
  if (!protectedMode(state)) {
    setRealSegment(state, SEGMENT.cs, selector);
    state.set64(RIP, target);
    return DONE;
  }
  const code = directTarget(cpu, selector);
  if (code === undefined || !targetAllowed(cpu, code, target) || !markAccessed(cpu, code)) return ABORTED;
  setSegment(state, SEGMENT.cs, (selector & 0xfffc) | privilegeLevel(state), code);
  state.set64(RIP, target);
  return DONE;
}

/** RIP is the return address. */
export function farCall(cpu: Cpu, selector: number, offset: bigint, size: OperandSize): Outcome {
  const state = cpu.state;
  const target = cut(offset, size);
  const isProtected = protectedMode(state);
  const code = isProtected ? directTarget(cpu, selector) : undefined;
  if (isProtected && (code === undefined || !targetAllowed(cpu, code, target))) return ABORTED;
  const mask = stackMask(state);
  const sp = state.get64(RSP);
  const csSlot = stackAddress(state, sp - BigInt(size), mask);
  const ripSlot = stackAddress(state, sp - BigInt(size * 2), mask);
  if (!cpu.probe(csSlot, size, 'write') || !cpu.probe(ripSlot, size, 'write')) return ABORTED;
  if (code !== undefined && !markAccessed(cpu, code)) return ABORTED;
  cpu.store(size, csSlot, BigInt(selectorOf(state, SEGMENT.cs)));
  cpu.store(size, ripSlot, cut(state.get64(RIP), size));
  setStackPointer(state, sp - BigInt(size * 2), mask);
  if (code === undefined) setRealSegment(state, SEGMENT.cs, selector);
  else setSegment(state, SEGMENT.cs, (selector & 0xfffc) | privilegeLevel(state), code);
  state.set64(RIP, target);
  return DONE;
}

/** The code segment that RET or IRET goes back to. undefined: a fault is pending. */
function returnCode(cpu: Cpu, selector: number): Descriptor | undefined {
  if ((selector & 0xfffc) === 0) {
    cpu.fault(GP, 0);
    return undefined;
  }
  const code = readDescriptor(cpu, selector);
  if (code === undefined) return undefined;
  const rpl = selector & 3;
  const wanted = ACCESS.user | ACCESS.code;
  if (
    code === OUTSIDE ||
    (code.access & wanted) !== wanted ||
    rpl < privilegeLevel(cpu.state) ||
    badLongCode(cpu.state, code) ||
    ((code.access & ACCESS.conforming) !== 0 ? dplOf(code.access) > rpl : dplOf(code.access) !== rpl)
  ) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  if ((code.access & ACCESS.present) === 0) {
    selectorFault(cpu, NP, selector);
    return undefined;
  }
  return code;
}

/**
 * The stack segment that comes with a return; null is allowed only for 64-bit code below privilege 3, which
 * is how handlers are entered. undefined: a fault is pending.
 */
function returnStack(
  cpu: Cpu,
  selector: number,
  code: Descriptor,
  privilege: number,
): Descriptor | 'null' | undefined {
  if ((selector & 0xfffc) === 0) {
    const to64 = longMode(cpu.state) && (code.access & ACCESS.long) !== 0;
    if (to64 && privilege !== 3 && (selector & 3) === privilege) return 'null';
    cpu.fault(GP, 0);
    return undefined;
  }
  const stack = readDescriptor(cpu, selector);
  if (stack === undefined) return undefined;
  const wanted = ACCESS.user | ACCESS.readWrite;
  if (
    stack === OUTSIDE ||
    (selector & 3) !== privilege ||
    dplOf(stack.access) !== privilege ||
    (stack.access & (wanted | ACCESS.code)) !== wanted
  ) {
    selectorFault(cpu, GP, selector);
    return undefined;
  }
  if ((stack.access & ACCESS.present) === 0) {
    selectorFault(cpu, SS, selector);
    return undefined;
  }
  return stack;
}

/** Data segments that the outer level may not have used become null [SDM 2A IRET]. */
function dropInnerSegments(state: CpuState, privilege: number): void {
  for (const segment of [SEGMENT.es, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs]) {
    const access = accessOf(state, segment);
    if ((access & ACCESS.present) === 0 || dplOf(access) >= privilege) continue;
    const conformingCode = ACCESS.code | ACCESS.conforming;
    if ((access & conformingCode) !== conformingCode) setNullSegment(state, segment, 0);
  }
}

/** Loads `count` stack slots from `sp` on; undefined: a fault is pending. */
function loadSlots(cpu: Cpu, sp: bigint, size: OperandSize, count: number): bigint[] | undefined {
  const { state } = cpu;
  const mask = stackMask(state);
  const values: bigint[] = [];
  // In 64-bit code the slots are contiguous, and mostly in one page: one translation instead of five.
  const whole = size === 8 && code64(state) ? cpu.span(sp, size * count, 'read') : undefined;
  if (whole !== undefined) {
    const view = new DataView(whole.buffer, whole.byteOffset, whole.length);
    for (let index = 0; index < count; index += 1) values.push(view.getBigUint64(index * 8, true));
    return values;
  }
  for (let index = 0; index < count; index += 1) {
    const value = cpu.load(size, stackAddress(state, sp + BigInt(index * size), mask));
    if (value === undefined) return undefined;
    values.push(value);
  }
  return values;
}

/** Loads CS and, with a change of level, SS; everything has been checked. */
function commitReturn(
  state: CpuState,
  csSelector: number,
  code: Descriptor,
  stack:
    | { readonly selector: number; readonly descriptor: Descriptor | 'null'; readonly sp: bigint }
    | undefined,
): void {
  const privilege = csSelector & 3;
  const outward = privilege > privilegeLevel(state);
  setSegment(state, SEGMENT.cs, csSelector, code);
  state.set32(CPL, privilege);
  if (stack !== undefined) {
    if (stack.descriptor === 'null') setNullSegment(state, SEGMENT.ss, stack.selector);
    else setSegment(state, SEGMENT.ss, stack.selector, stack.descriptor);
    // A return to a stack of 16 bits changes SP alone; what comes from a narrower frame was zero-extended.
    state.set(RSP, stackMask(state) === 0xffffn ? 2 : 8, stack.sp);
  }
  if (outward) dropInnerSegments(state, privilege);
}

/** `release` bytes of parameters are dropped from the stack (RET imm16), from both stacks on a change of level. */
export function farReturn(cpu: Cpu, size: OperandSize, release: number): Outcome {
  const state = cpu.state;
  const sp = state.get64(RSP);
  const frame = loadSlots(cpu, sp, size, 2);
  if (frame === undefined) return ABORTED;
  const target = frame[0]!;
  const selector = Number(frame[1]! & 0xffffn);
  const mask = stackMask(state);
  const after = sp + BigInt(size * 2 + release);
  if (!protectedMode(state)) {
    setRealSegment(state, SEGMENT.cs, selector);
    state.set64(RIP, target);
    setStackPointer(state, after, mask);
    return DONE;
  }
  const code = returnCode(cpu, selector);
  if (code === undefined) return ABORTED;
  const rpl = selector & 3;
  if (rpl === privilegeLevel(state)) {
    if (!targetAllowed(cpu, code, target) || !markAccessed(cpu, code)) return ABORTED;
    setStackPointer(state, after, mask);
    setSegment(state, SEGMENT.cs, selector, code);
    state.set64(RIP, target);
    return DONE;
  }
  const outer = loadSlots(cpu, after, size, 2);
  if (outer === undefined) return ABORTED;
  const ssSelector = Number(outer[1]! & 0xffffn);
  const stack = returnStack(cpu, ssSelector, code, rpl);
  if (stack === undefined || !targetAllowed(cpu, code, target)) return ABORTED;
  if (!markAccessed(cpu, code) || (stack !== 'null' && !markAccessed(cpu, stack))) return ABORTED;
  commitReturn(state, selector, code, { selector: ssSelector, descriptor: stack, sp: outer[0]! });
  const outerMask = stackMask(state);
  setStackPointer(state, state.get64(RSP) + BigInt(release), outerMask);
  state.set64(RIP, target);
  return DONE;
}

export function interruptReturn(cpu: Cpu, size: OperandSize): Outcome {
  const state = cpu.state;
  const sp = state.get64(RSP);
  const privilege = privilegeLevel(state);
  const isProtected = protectedMode(state);
  // A nested task's return switches tasks, which IA-32e mode refuses and we do not support.
  if (isProtected && (state.get32(FLAGS_REST) & FLAG.nt) !== 0) return cpu.fault(GP, 0);
  const from64 = code64(state);
  const frame = loadSlots(cpu, sp, size, from64 ? 5 : 3);
  if (frame === undefined) return ABORTED;
  const target = frame[0]!;
  const selector = Number(frame[1]! & 0xffffn);
  const image = Number(frame[2]! & 0xffff_ffffn);
  const changeable = changeableFlags(privilege, isProtected ? ioPrivilege(state) : 3, size);
  const flags = (readFlags(state) & ~changeable) | (image & changeable);
  const mask = stackMask(state);
  if (!isProtected) {
    setRealSegment(state, SEGMENT.cs, selector);
    state.set64(RIP, target);
    setStackPointer(state, sp + BigInt(size * 3), mask);
    writeFlags(state, flags);
    return DONE;
  }
  if (!longMode(state) && privilege === 0 && size === 4 && (image & FLAG.vm) !== 0) return cpu.fault(GP, 0);
  const code = returnCode(cpu, selector);
  if (code === undefined) return ABORTED;
  const rpl = selector & 3;
  if (!from64 && rpl === privilege) {
    if (!targetAllowed(cpu, code, target) || !markAccessed(cpu, code)) return ABORTED;
    setStackPointer(state, sp + BigInt(size * 3), mask);
    setSegment(state, SEGMENT.cs, selector, code);
  } else {
    const outer = from64 ? frame.slice(3) : loadSlots(cpu, sp + BigInt(size * 3), size, 2);
    if (outer === undefined) return ABORTED;
    const ssSelector = Number(outer[1]! & 0xffffn);
    const stack = returnStack(cpu, ssSelector, code, rpl);
    if (stack === undefined || !targetAllowed(cpu, code, target)) return ABORTED;
    if (!markAccessed(cpu, code) || (stack !== 'null' && !markAccessed(cpu, stack))) return ABORTED;
    commitReturn(state, selector, code, { selector: ssSelector, descriptor: stack, sp: outer[0]! });
  }
  state.set64(RIP, target);
  writeFlags(state, flags);
  if (size !== 2) keepResume(state, image);
  return DONE;
}
