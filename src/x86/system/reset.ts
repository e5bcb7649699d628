import {
  BLOCK_PC,
  CPL,
  type CpuState,
  CR0,
  CR3,
  CR4,
  DR6,
  DR7,
  EFER,
  FCW,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  MISC_ENABLE,
  MXCSR,
  PAT,
  RDX,
  RIP,
  RSI,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
} from '../state.ts';
import { setFlatSegment } from './descriptors.ts';
import { writeFlags } from './flags.ts';
import { CR0_BIT, CR4_BIT, EFER_BIT } from './mode.ts';
import { MISC_ENABLE_RESET } from './msr.ts';

/** The processor at power-on [SDM 3A table 9-1], and as a 64-bit Linux kernel wants to be entered. */

/** Present, accessed: readable code; writable data; the two system segments. */
const REAL_CODE = 0x9b;
const REAL_DATA = 0x93;
const LDT = 0x82;
const BUSY_TSS = 0x8b;
/** As a flat descriptor with G = 1: 64-bit code; 32-bit data. */
const FLAT_CODE64 = 0xa09b;
const FLAT_DATA = 0xc093;

/** Family, model and stepping, which power-on leaves in EDX. */
const SIGNATURE = 0x0001_06can;
/** WB, WT, UC-, UC, twice [SDM 3A 11.12.4]. */
const PAT_RESET = 0x0007_0406_0007_0406n;

export function powerOn(state: CpuState): void {
  const { bytes } = state;
  bytes.fill(0, 0, BLOCK_PC + 8);
  bytes.fill(0, GDTR_BASE, 0x500);
  writeFlags(state, 2);
  for (let segment = 0; segment < 8; segment += 1) {
    state.set32(SEGMENT_SELECTOR + segment * 4, 0);
    state.set64(SEGMENT_BASE + segment * 8, 0n);
    state.set32(SEGMENT_LIMIT + segment * 4, 0xffff);
    state.set32(SEGMENT_ACCESS + segment * 4, REAL_DATA);
  }
  state.set32(SEGMENT_SELECTOR + SEGMENT.cs * 4, 0xf000);
  state.set64(SEGMENT_BASE + SEGMENT.cs * 8, 0xffff_0000n);
  state.set32(SEGMENT_ACCESS + SEGMENT.cs * 4, REAL_CODE);
  state.set32(SEGMENT_ACCESS + SEGMENT.ldtr * 4, LDT);
  state.set32(SEGMENT_ACCESS + SEGMENT.tr * 4, BUSY_TSS);
  state.set64(RIP, 0xfff0n);
  state.set64(RDX, SIGNATURE);
  state.set32(GDTR_LIMIT, 0xffff);
  state.set32(IDTR_LIMIT, 0xffff);
  state.set64(CR0, BigInt(CR0_BIT.cd | CR0_BIT.nw | CR0_BIT.et));
  state.set64(DR6, 0xffff_0ff0n);
  state.set64(DR7, 0x400n);
  state.set64(PAT, PAT_RESET);
  state.set64(MISC_ENABLE, MISC_ENABLE_RESET);
  state.view.setUint16(FCW, 0x37f, true);
  state.set32(MXCSR, 0x1f80);
}

/** What a boot loader has put into memory, and where the kernel starts. */
export interface LongModeEntry {
  readonly entry: bigint;
  /** Address of the zero page. */
  readonly rsi: bigint;
  readonly rsp: bigint;
  readonly cr3: bigint;
  readonly gdt: { readonly base: bigint; readonly limit: number };
  readonly codeSelector: number;
  readonly dataSelector: number;
}

/**
 * The 64-bit boot protocol [Linux/x86 Boot Protocol, "64-bit Boot Protocol"]: long mode with the start of memory
 * mapped onto itself, flat segments, interrupts off, RSI at the zero page. There is no IDT: a fault before the
 * kernel loads one is a triple fault.
 */
export function longModeEntry(state: CpuState, boot: LongModeEntry): void {
  powerOn(state);
  state.set64(RDX, 0n);
  state.set64(CR0, BigInt(CR0_BIT.pe | CR0_BIT.et | CR0_BIT.ne | CR0_BIT.wp) | BigInt(CR0_BIT.pg));
  state.set64(CR3, boot.cr3);
  state.set64(CR4, BigInt(CR4_BIT.pae));
  state.set64(EFER, BigInt(EFER_BIT.lme | EFER_BIT.lma));
  state.set64(GDTR_BASE, boot.gdt.base);
  state.set32(GDTR_LIMIT, boot.gdt.limit);
  state.set64(IDTR_BASE, 0n);
  state.set32(IDTR_LIMIT, 0);
  setFlatSegment(state, SEGMENT.cs, boot.codeSelector, FLAT_CODE64);
  for (const segment of [SEGMENT.ds, SEGMENT.es, SEGMENT.ss, SEGMENT.fs, SEGMENT.gs]) {
    setFlatSegment(state, segment, boot.dataSelector, FLAT_DATA);
  }
  state.set32(CPL, 0);
  state.set64(RIP, boot.entry);
  state.set64(RSI, boot.rsi);
  state.set64(RSP, boot.rsp);
}
