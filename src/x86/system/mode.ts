import {
  ACCESS_SEGMENT,
  CPL,
  type CpuState,
  CR0,
  EFER,
  FLAGS_REST,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
} from '../state.ts';

/** Control and extended-feature bits that decide how the processor runs [SDM 3A 2.5, 2.2.1]. */
export const CR0_BIT = {
  pe: 0x1,
  mp: 0x2,
  em: 0x4,
  ts: 0x8,
  et: 0x10,
  ne: 0x20,
  wp: 0x1_0000,
  am: 0x4_0000,
  nw: 0x2000_0000,
  cd: 0x4000_0000,
  pg: 0x8000_0000,
} as const;
export const CR4_BIT = {
  tsd: 0x4,
  de: 0x8,
  pse: 0x10,
  pae: 0x20,
  pge: 0x80,
  pce: 0x100,
  osfxsr: 0x200,
  osxmmexcpt: 0x400,
  fsgsbase: 0x1_0000,
} as const;
export const EFER_BIT = { sce: 0x1, lme: 0x100, lma: 0x400, nxe: 0x800 } as const;

/** Bits of a segment's access word (state.ts), which are descriptor bits 55:40. */
export const ACCESS = {
  accessed: 0x1,
  /** Writable data or readable code. */
  readWrite: 0x2,
  conforming: 0x4,
  code: 0x8,
  /** Code or data, as opposed to a system segment or gate. */
  user: 0x10,
  present: 0x80,
  long: 0x2000,
  big: 0x4000,
  granularity: 0x8000,
} as const;

export function dplOf(access: number): number {
  return (access >>> 5) & 3;
}

export function protectedMode(state: CpuState): boolean {
  return (state.get32(CR0) & CR0_BIT.pe) !== 0;
}

/** IA-32e mode: 64-bit or compatibility. */
export function longMode(state: CpuState): boolean {
  return (state.get32(EFER) & EFER_BIT.lma) !== 0;
}

export function code64(state: CpuState): boolean {
  return longMode(state) && (state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4) & ACCESS.long) !== 0;
}

export function privilegeLevel(state: CpuState): number {
  return state.get32(CPL);
}

export function ioPrivilege(state: CpuState): number {
  return (state.get32(FLAGS_REST) >>> 12) & 3;
}

/** Bits 63:47 are all equal [SDM 1 3.3.7.1]. */
export function canonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}

/** Which part of RSP addresses the stack: 64 bits in 64-bit code, else 32 or 16 by SS.B [SDM 1 6.2.3]. */
export function stackMask(state: CpuState): bigint {
  if (code64(state)) return 0xffff_ffff_ffff_ffffn;
  return (state.get32(SEGMENT_ACCESS + SEGMENT.ss * 4) & ACCESS.big) !== 0 ? 0xffff_ffffn : 0xffffn;
}

/** Linear address of stack offset `sp` under the current SS, which the next access goes through. */
export function stackAddress(state: CpuState, sp: bigint, mask: bigint): bigint {
  if (mask === 0xffff_ffff_ffff_ffffn) return BigInt.asUintN(64, sp);
  state.set32(ACCESS_SEGMENT, SEGMENT.ss);
  return (state.get64(SEGMENT_BASE + SEGMENT.ss * 8) + (sp & mask)) & 0xffff_ffffn;
}

/** Writes the part of RSP that addresses the stack; a 32-bit stack pointer clears the upper half. */
export function setStackPointer(state: CpuState, sp: bigint, mask: bigint): void {
  state.set(RSP, mask === 0xffffn ? 2 : mask === 0xffff_ffffn ? 4 : 8, sp & mask);
}
