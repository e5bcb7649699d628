import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import {
  type CpuState,
  CR0,
  CR4,
  CSTAR,
  EFER,
  KERNEL_GS_BASE,
  LSTAR,
  MISC_ENABLE,
  PAT,
  RAX,
  RCX,
  RDX,
  SEGMENT,
  SEGMENT_BASE,
  SFMASK,
  STAR,
  SYSENTER_CS,
  SYSENTER_EIP,
  SYSENTER_ESP,
  TSC_AUX,
  TSC_OFFSET,
} from '../state.ts';
import { CR0_BIT, CR4_BIT, EFER_BIT, privilegeLevel } from './mode.ts';

/**
 * Model-specific registers and the timestamp counter [SDM 4]. Only what CPUID promises and what kernels read
 * without asking exists; any other index is #GP(0), which kernels expect and survive.
 */

const GP = 13;

export const MSR = {
  tsc: 0x10,
  platformId: 0x17,
  apicBase: 0x1b,
  tscAdjust: 0x3b,
  microcodeRevision: 0x8b,
  sysenterCs: 0x174,
  sysenterEsp: 0x175,
  sysenterEip: 0x176,
  miscEnable: 0x1a0,
  debugControl: 0x1d9,
  pat: 0x277,
  tscDeadline: 0x6e0,
  x2apicFirst: 0x800,
  x2apicLast: 0x8ff,
  efer: 0xc000_0080,
  star: 0xc000_0081,
  lstar: 0xc000_0082,
  cstar: 0xc000_0083,
  sfmask: 0xc000_0084,
  fsBase: 0xc000_0100,
  gsBase: 0xc000_0101,
  kernelGsBase: 0xc000_0102,
  tscAux: 0xc000_0103,
} as const;

const FS_BASE = SEGMENT_BASE + SEGMENT.fs * 8;
const GS_BASE = SEGMENT_BASE + SEGMENT.gs * 8;

/** How a register that is plain storage is checked. */
type StorageRule = 'any' | 'canonical' | 'low32' | 'pat';
interface Storage {
  readonly offset: number;
  readonly rule: StorageRule;
}
const STORAGE: ReadonlyMap<number, Storage> = new Map<number, Storage>([
  [MSR.fsBase, { offset: FS_BASE, rule: 'canonical' }],
  [MSR.gsBase, { offset: GS_BASE, rule: 'canonical' }],
  [MSR.kernelGsBase, { offset: KERNEL_GS_BASE, rule: 'canonical' }],
  [MSR.star, { offset: STAR, rule: 'any' }],
  [MSR.lstar, { offset: LSTAR, rule: 'canonical' }],
  [MSR.cstar, { offset: CSTAR, rule: 'canonical' }],
  [MSR.sfmask, { offset: SFMASK, rule: 'low32' }],
  [MSR.tscAux, { offset: TSC_AUX, rule: 'low32' }],
  [MSR.sysenterCs, { offset: SYSENTER_CS, rule: 'low32' }],
  [MSR.sysenterEsp, { offset: SYSENTER_ESP, rule: 'canonical' }],
  [MSR.sysenterEip, { offset: SYSENTER_EIP, rule: 'canonical' }],
  [MSR.pat, { offset: PAT, rule: 'pat' }],
]);

/** Fast strings; the kernel clears what it relies on when this is off. The other bits are not writable. */
export const MISC_ENABLE_RESET = 0x1n;
const MICROCODE_REVISION = 0x1_0000_0000n;

/** The guest's timestamp counter at the exact count. */
export function timestamp(cpu: Cpu): bigint {
  return BigInt.asUintN(64, cpu.environment.timestamp() + cpu.state.get64(TSC_OFFSET));
}

function isDeviceRegister(index: number): boolean {
  return (
    index === MSR.apicBase ||
    index === MSR.tscDeadline ||
    (index >= MSR.x2apicFirst && index <= MSR.x2apicLast)
  );
}

/** undefined: no such register. */
export function readMsr(cpu: Cpu, index: number): bigint | undefined {
  const state = cpu.state;
  const storage = STORAGE.get(index);
  if (storage !== undefined) return state.get64(storage.offset);
  if (isDeviceRegister(index)) return cpu.environment.readMsr(index);
  switch (index) {
    case MSR.tsc:
      return timestamp(cpu);
    case MSR.tscAdjust:
      return state.get64(TSC_OFFSET);
    case MSR.efer:
      return state.get64(EFER);
    case MSR.miscEnable:
      return state.get64(MISC_ENABLE);
    case MSR.microcodeRevision:
      return MICROCODE_REVISION;
    case MSR.platformId:
    case MSR.debugControl:
      return 0n;
    default:
      return undefined;
  }
}

/** False: no such register, or it refuses the value; #GP(0) then. */
export function writeMsr(cpu: Cpu, index: number, value: bigint): boolean {
  const state = cpu.state;
  const storage = STORAGE.get(index);
  if (storage !== undefined) {
    if (!obeys(storage.rule, value)) return false;
    state.set64(storage.offset, value);
    return true;
  }
  if (isDeviceRegister(index)) return cpu.environment.writeMsr(index, value);
  switch (index) {
    case MSR.tsc:
      // Writing the counter moves IA32_TSC_ADJUST by as much [SDM 3B 17.17.3].
      state.set64(TSC_OFFSET, BigInt.asUintN(64, value - cpu.environment.timestamp()));
      return true;
    case MSR.tscAdjust:
      state.set64(TSC_OFFSET, value);
      return true;
    case MSR.efer:
      return writeEfer(state, value);
    case MSR.miscEnable:
    case MSR.microcodeRevision:
    case MSR.debugControl:
      return true;
    default:
      return false;
  }
}

function obeys(rule: StorageRule, value: bigint): boolean {
  switch (rule) {
    case 'any':
      return true;
    case 'canonical':
      return BigInt.asUintN(64, BigInt.asIntN(48, value)) === value;
    case 'low32':
      return value >> 32n === 0n;
    case 'pat':
      // Each byte is a memory type: 0, 1, 4, 5, 6 or 7 [SDM 3A 11.12.2].
      for (let shift = 0n; shift < 64n; shift += 8n) {
        const type = Number((value >> shift) & 0xffn);
        if (type > 7 || type === 2 || type === 3) return false;
      }
      return true;
  }
}

/** LMA is read-only here; LME cannot change while paging is on [SDM 3A 9.8.5]. */
function writeEfer(state: CpuState, value: bigint): boolean {
  const writable = BigInt(EFER_BIT.sce | EFER_BIT.lme | EFER_BIT.nxe);
  const lma = BigInt(EFER_BIT.lma);
  if ((value & ~(writable | lma)) !== 0n) return false;
  const previous = state.get64(EFER);
  const paging = (state.get32(CR0) & CR0_BIT.pg) !== 0;
  if (paging && ((value ^ previous) & BigInt(EFER_BIT.lme)) !== 0n) return false;
  state.set64(EFER, (value & writable) | (previous & lma));
  return true;
}

export const READ_MSR = systemOperation('rdmsr', (cpu): Outcome => {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const value = readMsr(cpu, state.u32[RCX >>> 2]!);
  if (value === undefined) return cpu.fault(GP, 0);
  setPair(state, value);
  return DONE;
});

export const WRITE_MSR = systemOperation('wrmsr', (cpu): Outcome => {
  const state = cpu.state;
  if (privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  const value = (BigInt(state.u32[RDX >>> 2]!) << 32n) | BigInt(state.u32[RAX >>> 2]!);
  return writeMsr(cpu, state.u32[RCX >>> 2]!, value) ? DONE : cpu.fault(GP, 0);
});

/** EDX:EAX, upper halves cleared. */
function setPair(state: CpuState, value: bigint): void {
  state.set64(RAX, value & 0xffff_ffffn);
  state.set64(RDX, value >> 32n);
}

function readTimestamp(cpu: Cpu): Outcome {
  const state = cpu.state;
  if ((state.get32(CR4) & CR4_BIT.tsd) !== 0 && privilegeLevel(state) !== 0) return cpu.fault(GP, 0);
  setPair(state, timestamp(cpu));
  return DONE;
}

export const READ_TIMESTAMP = systemOperation('rdtsc', readTimestamp);
export const READ_TIMESTAMP_AUX = systemOperation('rdtscp', (cpu) => {
  if (readTimestamp(cpu) !== DONE) return ABORTED;
  cpu.state.set64(RCX, cpu.state.get64(TSC_AUX) & 0xffff_ffffn);
  return DONE;
});

export const MSR_OPERATIONS: readonly SystemOperation[] = [
  READ_MSR,
  WRITE_MSR,
  READ_TIMESTAMP,
  READ_TIMESTAMP_AUX,
];
