import { ABORTED, type Cpu, DONE, type Outcome, type Privilege } from '../cpu.ts';
import {
  CPL,
  type CpuState,
  FLAG,
  IDTR_BASE,
  IDTR_LIMIT,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
} from '../state.ts';
import {
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
import { readFlags, writeFlags } from './flags.ts';
import {
  ACCESS,
  canonical,
  dplOf,
  longMode,
  privilegeLevel,
  protectedMode,
  setStackPointer,
  stackAddress,
  stackMask,
} from './mode.ts';

/**
 * Through the interrupt table into a handler [SDM 3A 6.12, 6.14]. Everything that can fault (tables, the new
 * stack) is read or probed before anything is written, so a fault leaves the state as it was.
 *
 * 'software' is INT n, INT3 and INTO: the gate's DPL is checked, and errors do not carry the EXT bit.
 */
export type InterruptKind = 'external' | 'exception' | 'software';

const GP = 13;
const NP = 11;
const TS = 10;
const SS = 12;

/**
 * Delivers. RIP and RSP are those that the handler will return to. ABORTED: a fault is pending, and nothing was
 * changed.
 */
export function enterInterrupt(
  cpu: Cpu,
  vector: number,
  kind: InterruptKind,
  errorCode: number | undefined,
): Outcome {
  if (!protectedMode(cpu.state)) return enterReal(cpu, vector);
  if (longMode(cpu.state)) return enterLong(cpu, vector, kind, errorCode);
  return enterProtected(cpu, vector, kind, errorCode);
}

/** Faults push RF so that their instruction's breakpoint does not hit again [SDM 3B 17.3.1.1]. */
function savedFlags(state: CpuState, vector: number, kind: InterruptKind): number {
  const flags = readFlags(state);
  const isFault = kind === 'exception' && vector !== 1 && vector !== 2 && vector !== 8 && vector !== 18;
  return isFault ? flags | FLAG.rf : flags;
}

/** Flags inside the handler: an interrupt gate also closes the interrupt window [SDM 3A 6.12.1.3]. */
function enteredFlags(flags: number, interruptGate: boolean): number {
  flags &= ~(FLAG.tf | FLAG.nt | FLAG.rf | FLAG.vm);
  return interruptGate ? flags & ~FLAG.if : flags;
}

/** Checks the handler's code segment [SDM 2A INT]. undefined: a fault is pending. */
function handlerSegment(cpu: Cpu, selector: number, external: number): Descriptor | undefined {
  if ((selector & 0xfffc) === 0) {
    cpu.fault(GP, external);
    return undefined;
  }
  const code = readDescriptor(cpu, selector);
  if (code === undefined) return undefined;
  const wanted = ACCESS.user | ACCESS.code;
  if (
    code === OUTSIDE ||
    (code.access & wanted) !== wanted ||
    dplOf(code.access) > privilegeLevel(cpu.state)
  ) {
    selectorFault(cpu, GP, selector, external);
    return undefined;
  }
  if ((code.access & ACCESS.present) === 0) {
    selectorFault(cpu, NP, selector, external);
    return undefined;
  }
  return code;
}

/** The first three words of a 64-bit gate; undefined: a fault is pending. */
function readWords(cpu: Cpu, at: bigint): readonly [number, number, number] | undefined {
  const bytes = cpu.span(at, 16, 'read', 'supervisor') ?? cpu.loadBytes(at, 16, 'supervisor');
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true)];
}

function enterLong(cpu: Cpu, vector: number, kind: InterruptKind, errorCode: number | undefined): Outcome {
  const state = cpu.state;
  const external = kind === 'software' ? 0 : 1;
  const gateError = vector * 8 + 2 + external;
  if (vector * 16 + 15 > state.get32(IDTR_LIMIT)) return cpu.fault(GP, gateError);
  const at = state.get64(IDTR_BASE) + BigInt(vector * 16);
  const gate = readWords(cpu, BigInt.asUintN(64, at));
  if (gate === undefined) return ABORTED;
  const [word0, word1, word2] = gate;
  const type = (word1 >>> 8) & 0x1f;
  if (type !== 0xe && type !== 0xf) return cpu.fault(GP, gateError);
  const privilege = privilegeLevel(state);
  if (kind === 'software' && ((word1 >>> 13) & 3) < privilege) return cpu.fault(GP, gateError);
  if ((word1 & 0x8000) === 0) return cpu.fault(NP, gateError);
  const selector = word0 >>> 16;
  const code = handlerSegment(cpu, selector, external);
  if (code === undefined) return ABORTED;
  if ((code.access & (ACCESS.long | ACCESS.big)) !== ACCESS.long) {
    return selectorFault(cpu, GP, selector, external);
  }
  const target = (BigInt(word2) << 32n) | BigInt(((word1 & 0xffff_0000) | (word0 & 0xffff)) >>> 0);
  const newPrivilege = (code.access & ACCESS.conforming) !== 0 ? privilege : dplOf(code.access);
  const stackTable = word1 & 7;

  let top = state.get64(RSP);
  if (stackTable !== 0 || newPrivilege < privilege) {
    // RSP0..2 at offset 4, IST1..7 at offset 0x24 of the 64-bit TSS [SDM 3A 7.7].
    const offset = stackTable !== 0 ? 0x1c + stackTable * 8 : 4 + newPrivilege * 8;
    if (offset + 7 > state.get32(SEGMENT_LIMIT + SEGMENT.tr * 4)) {
      return selectorFault(cpu, TS, selectorOf(state, SEGMENT.tr), external);
    }
    const loaded = cpu.load(
      8,
      BigInt.asUintN(64, state.get64(SEGMENT_BASE + SEGMENT.tr * 8) + BigInt(offset)),
      'supervisor',
    );
    if (loaded === undefined) return ABORTED;
    top = loaded;
  }
  if (!canonical(top)) return cpu.fault(SS, external);
  if (!canonical(target)) return cpu.fault(GP, external);
  top &= ~0xfn;
  const bytes = errorCode === undefined ? 40 : 48;
  const bottom = BigInt.asUintN(64, top - BigInt(bytes));
  const who: Privilege = newPrivilege === 3 ? 'current' : 'supervisor';
  const frame = cpu.span(bottom, bytes, 'write', who);
  if (frame === undefined && !cpu.probe(bottom, bytes, 'write', who)) return ABORTED;
  if (!markAccessed(cpu, code)) return ABORTED;

  const flags = savedFlags(state, vector, kind);
  const words = [
    state.get64(RIP),
    BigInt(selectorOf(state, SEGMENT.cs)),
    BigInt(flags),
    state.get64(RSP),
    BigInt(selectorOf(state, SEGMENT.ss)),
  ];
  if (errorCode !== undefined) words.unshift(BigInt(errorCode));
  const view = frame && new DataView(frame.buffer, frame.byteOffset, frame.length);
  for (let index = 0; index < words.length; index += 1) {
    if (view !== undefined) view.setBigUint64(index * 8, words[index]!, true);
    else cpu.store(8, bottom + BigInt(index * 8), words[index]!, who);
  }

  state.set64(RSP, bottom);
  state.set64(RIP, target);
  setSegment(state, SEGMENT.cs, (selector & 0xfffc) | newPrivilege, code);
  if (newPrivilege !== privilege) {
    setNullSegment(state, SEGMENT.ss, newPrivilege);
    state.set32(CPL, newPrivilege);
  }
  writeFlags(state, enteredFlags(flags, type === 0xe));
  return DONE;
}

function enterProtected(
  cpu: Cpu,
  vector: number,
  kind: InterruptKind,
  errorCode: number | undefined,
): Outcome {
  const state = cpu.state;
  const external = kind === 'software' ? 0 : 1;
  const gateError = vector * 8 + 2 + external;
  if (vector * 8 + 7 > state.get32(IDTR_LIMIT)) return cpu.fault(GP, gateError);
  const gate = cpu.load(8, (state.get64(IDTR_BASE) + BigInt(vector * 8)) & 0xffff_ffffn, 'supervisor');
  if (gate === undefined) return ABORTED;
  const word0 = Number(gate & 0xffff_ffffn);
  const word1 = Number(gate >> 32n);
  const type = (word1 >>> 8) & 0x1f;
  // 16- and 32-bit interrupt and trap gates. Task gates are not supported.
  if (type !== 6 && type !== 7 && type !== 0xe && type !== 0xf) return cpu.fault(GP, gateError);
  const size = type >= 0xe ? 4 : 2;
  const privilege = privilegeLevel(state);
  if (kind === 'software' && ((word1 >>> 13) & 3) < privilege) return cpu.fault(GP, gateError);
  if ((word1 & 0x8000) === 0) return cpu.fault(NP, gateError);
  const selector = word0 >>> 16;
  const code = handlerSegment(cpu, selector, external);
  if (code === undefined) return ABORTED;
  const target = size === 4 ? ((word1 & 0xffff_0000) | (word0 & 0xffff)) >>> 0 : word0 & 0xffff;
  if (target > code.limit) return cpu.fault(GP, external);
  const newPrivilege = (code.access & ACCESS.conforming) !== 0 ? privilege : dplOf(code.access);

  const flags = savedFlags(state, vector, kind);
  const values = [flags, selectorOf(state, SEGMENT.cs), state.get32(RIP)];
  if (errorCode !== undefined) values.push(errorCode);
  let mask = stackMask(state);
  let top = state.get64(RSP);
  let stack: { readonly selector: number; readonly descriptor: Descriptor } | undefined;
  let base = state.get64(SEGMENT_BASE + SEGMENT.ss * 8);
  if (newPrivilege < privilege) {
    values.unshift(selectorOf(state, SEGMENT.ss), state.get32(RSP));
    const loaded = innerStack(cpu, newPrivilege, external);
    if (loaded === undefined) return ABORTED;
    stack = loaded;
    top = loaded.pointer;
    base = loaded.descriptor.base;
    mask = (loaded.descriptor.access & ACCESS.big) !== 0 ? 0xffff_ffffn : 0xffffn;
  }
  const slotAt = (index: number) => (base + ((top - BigInt((index + 1) * size)) & mask)) & 0xffff_ffffn;
  const who: Privilege = newPrivilege === 3 ? 'current' : 'supervisor';
  for (let index = 0; index < values.length; index += 1) {
    if (!cpu.probe(slotAt(index), size, 'write', who)) return ABORTED;
  }
  if (!markAccessed(cpu, code)) return ABORTED;
  if (stack !== undefined && !markAccessed(cpu, stack.descriptor)) return ABORTED;
  for (const [index, value] of values.entries()) {
    cpu.store(size, slotAt(index), BigInt(size === 2 ? value & 0xffff : value >>> 0), who);
  }
  if (stack !== undefined) setSegment(state, SEGMENT.ss, stack.selector, stack.descriptor);
  setStackPointer(state, top - BigInt(values.length * size), mask);
  setSegment(state, SEGMENT.cs, (selector & 0xfffc) | newPrivilege, code);
  state.set32(CPL, newPrivilege);
  state.set64(RIP, BigInt(target));
  writeFlags(state, enteredFlags(flags, (type & 1) === 0));
  return DONE;
}

/** SS and ESP of a more privileged level from the TSS [SDM 3A 6.12.1]; undefined: a fault is pending. */
function innerStack(
  cpu: Cpu,
  privilege: number,
  external: number,
): { selector: number; descriptor: Descriptor; pointer: bigint } | undefined {
  const state = cpu.state;
  const wide = (state.get32(SEGMENT_ACCESS + SEGMENT.tr * 4) & 8) !== 0;
  const size = wide ? 4 : 2;
  const offset = wide ? 4 + privilege * 8 : 2 + privilege * 4;
  if (offset + size + 1 > state.get32(SEGMENT_LIMIT + SEGMENT.tr * 4)) {
    selectorFault(cpu, TS, selectorOf(state, SEGMENT.tr), external);
    return undefined;
  }
  const at = state.get64(SEGMENT_BASE + SEGMENT.tr * 8) + BigInt(offset);
  const pointer = cpu.load(size, at & 0xffff_ffffn, 'supervisor');
  if (pointer === undefined) return undefined;
  const loaded = cpu.load(2, (at + BigInt(size)) & 0xffff_ffffn, 'supervisor');
  if (loaded === undefined) return undefined;
  const selector = Number(loaded);
  if ((selector & 0xfffc) === 0) {
    cpu.fault(TS, external);
    return undefined;
  }
  const descriptor = readDescriptor(cpu, selector);
  if (descriptor === undefined) return undefined;
  const wanted = ACCESS.user | ACCESS.readWrite;
  if (
    descriptor === OUTSIDE ||
    (selector & 3) !== privilege ||
    dplOf(descriptor.access) !== privilege ||
    (descriptor.access & (wanted | ACCESS.code)) !== wanted
  ) {
    selectorFault(cpu, TS, selector, external);
    return undefined;
  }
  if ((descriptor.access & ACCESS.present) === 0) {
    selectorFault(cpu, SS, selector, external);
    return undefined;
  }
  return { selector, descriptor, pointer };
}

/** Real mode: FLAGS, CS and IP, and a far pointer from the vector table [SDM 3A 20.1.4]. */
function enterReal(cpu: Cpu, vector: number): Outcome {
  const state = cpu.state;
  if (vector * 4 + 3 > state.get32(IDTR_LIMIT)) return cpu.fault(GP, 0);
  const entry = cpu.load(4, (state.get64(IDTR_BASE) + BigInt(vector * 4)) & 0xffff_ffffn);
  if (entry === undefined) return ABORTED;
  const flags = readFlags(state);
  const values = [flags, selectorOf(state, SEGMENT.cs), state.get32(RIP)];
  const sp = state.get64(RSP);
  const mask = stackMask(state);
  const slotAt = (index: number) => stackAddress(state, sp - BigInt((index + 1) * 2), mask);
  for (let index = 0; index < 3; index += 1) {
    if (!cpu.probe(slotAt(index), 2, 'write')) return ABORTED;
  }
  for (const [index, value] of values.entries()) cpu.store(2, slotAt(index), BigInt(value & 0xffff));
  setStackPointer(state, sp - 6n, mask);
  setRealSegment(state, SEGMENT.cs, Number(entry >> 16n));
  state.set64(RIP, entry & 0xffffn);
  writeFlags(state, flags & ~(FLAG.if | FLAG.tf | FLAG.ac));
  return DONE;
}
