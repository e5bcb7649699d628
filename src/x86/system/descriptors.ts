import { ABORTED, type Cpu } from '../cpu.ts';
import {
  type CpuState,
  GDTR_BASE,
  GDTR_LIMIT,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
} from '../state.ts';
import { ACCESS } from './mode.ts';

/** Segment descriptors [SDM 3A 3.4.5] and the hidden parts of segment registers. */
export interface Descriptor {
  /** Linear address of the descriptor itself. */
  readonly at: bigint;
  readonly base: bigint;
  /** In bytes. */
  readonly limit: number;
  /** As in state.ts: descriptor bits 55:40 without limit<19:16>. */
  readonly access: number;
}

/** Why a selector's descriptor could not be read. */
export const OUTSIDE = 'outside';

/** Linear address of the descriptor, or OUTSIDE when `bytes` of it do not lie within the table. */
export function descriptorAddress(state: CpuState, selector: number, bytes = 8): bigint | typeof OUTSIDE {
  const offset = selector & 0xfff8;
  if ((selector & 4) === 0) {
    if (offset + bytes - 1 > state.get32(GDTR_LIMIT)) return OUTSIDE;
    return BigInt.asUintN(64, state.get64(GDTR_BASE) + BigInt(offset));
  }
  if ((state.get32(SEGMENT_ACCESS + SEGMENT.ldtr * 4) & ACCESS.present) === 0) return OUTSIDE;
  if (offset + bytes - 1 > state.get32(SEGMENT_LIMIT + SEGMENT.ldtr * 4)) return OUTSIDE;
  return BigInt.asUintN(64, state.get64(SEGMENT_BASE + SEGMENT.ldtr * 8) + BigInt(offset));
}

/** OUTSIDE: beyond the table. undefined: reading it faulted, and that fault is pending. */
export function readDescriptor(cpu: Cpu, selector: number): Descriptor | typeof OUTSIDE | undefined {
  const at = descriptorAddress(cpu.state, selector);
  if (at === OUTSIDE) return OUTSIDE;
  const raw = cpu.load(8, at, 'supervisor');
  if (raw === undefined) return undefined;
  return parseDescriptor(at, raw);
}

export function parseDescriptor(at: bigint, raw: bigint): Descriptor {
  const low = Number(raw & 0xffff_ffffn);
  const high = Number(raw >> 32n);
  const base = ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0;
  const rawLimit = (low & 0xffff) | (high & 0xf_0000);
  const limit = (high & 0x80_0000) !== 0 ? ((rawLimit << 12) | 0xfff) >>> 0 : rawLimit;
  return { at, base: BigInt(base), limit, access: (high >>> 8) & 0xf0ff };
}

/** Sets the accessed flag in memory as loading a segment register does; false: that write faulted. */
export function markAccessed(cpu: Cpu, descriptor: Descriptor): boolean {
  if ((descriptor.access & ACCESS.accessed) !== 0) return true;
  return cpu.store(1, descriptor.at + 5n, BigInt((descriptor.access & 0xff) | ACCESS.accessed), 'supervisor');
}

export function setSegment(state: CpuState, segment: number, selector: number, descriptor: Descriptor): void {
  state.set32(SEGMENT_SELECTOR + segment * 4, selector & 0xffff);
  state.set32(SEGMENT_LIMIT + segment * 4, descriptor.limit);
  state.set32(SEGMENT_ACCESS + segment * 4, descriptor.access | ACCESS.accessed);
  // In 64-bit mode the base of CS counts as zero [SDM 3A 3.2.4].
  const flat = segment === SEGMENT.cs && (descriptor.access & ACCESS.long) !== 0;
  state.set64(SEGMENT_BASE + segment * 8, flat ? 0n : descriptor.base);
}

/** A null selector: the segment is unusable. */
export function setNullSegment(state: CpuState, segment: number, selector: number): void {
  state.set32(SEGMENT_SELECTOR + segment * 4, selector & 0xffff);
  state.set32(SEGMENT_LIMIT + segment * 4, 0);
  state.set32(SEGMENT_ACCESS + segment * 4, 0);
  state.set64(SEGMENT_BASE + segment * 8, 0n);
}

/** A flat segment as SYSCALL, SYSENTER and their returns make it, without reading a table. */
export function setFlatSegment(state: CpuState, segment: number, selector: number, access: number): void {
  state.u32[(SEGMENT_SELECTOR >>> 2) + segment] = selector;
  state.u32[(SEGMENT_LIMIT >>> 2) + segment] = 0xffff_ffff;
  state.u32[(SEGMENT_ACCESS >>> 2) + segment] = access;
  state.u32[(SEGMENT_BASE >>> 2) + segment * 2] = 0;
  state.u32[(SEGMENT_BASE >>> 2) + segment * 2 + 1] = 0;
}

/** Real mode: the base is the selector times 16; limit and rights stay as they are [SDM 3A 20.1.1]. */
export function setRealSegment(state: CpuState, segment: number, selector: number): void {
  state.set32(SEGMENT_SELECTOR + segment * 4, selector & 0xffff);
  state.set64(SEGMENT_BASE + segment * 8, BigInt((selector & 0xffff) * 16));
}

export function selectorOf(state: CpuState, segment: number): number {
  return state.get32(SEGMENT_SELECTOR + segment * 4);
}

export function accessOf(state: CpuState, segment: number): number {
  return state.get32(SEGMENT_ACCESS + segment * 4);
}

/** #GP(selector) and the like: the error code of a selector has RPL cut off [SDM 3A 6.13]. */
export function selectorFault(cpu: Cpu, vector: number, selector: number, external = 0): typeof ABORTED {
  cpu.fault(vector, (selector & 0xfffc) | external);
  return ABORTED;
}
