import {
  CPL,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
} from '../state.ts';
import { longModeEntry } from './reset.ts';
import { TestCpu } from './test-cpu.ts';

/** Where the small kernel of the tests keeps its tables; all of it is mapped onto itself. */
export const AT = {
  pml4: 0x1000,
  pdpt: 0x2000,
  directory: 0x3000,
  table: 0x4000,
  gdt: 0x5000,
  idt: 0x6000,
  tss: 0x7000,
  code: 0x8000,
  userCode: 0x9000,
  stack: 0xa000,
  userStack: 0xb000,
  interruptStack: 0xc000,
} as const;

/** Laid out as Linux does, so that SYSCALL and SYSRET find theirs. */
export const SELECTOR = {
  code32: 0x08,
  kernelCode: 0x10,
  kernelData: 0x18,
  userCode32: 0x23,
  userData: 0x2b,
  userCode: 0x33,
  tss: 0x40,
  absent: 0x50,
  conforming: 0x58,
} as const;

const DESCRIPTORS: readonly (readonly [number, bigint])[] = [
  [SELECTOR.code32, 0x00cf_9b00_0000_ffffn],
  [SELECTOR.kernelCode, 0x00af_9b00_0000_ffffn],
  [SELECTOR.kernelData, 0x00cf_9300_0000_ffffn],
  [SELECTOR.userCode32, 0x00cf_fb00_0000_ffffn],
  [SELECTOR.userData, 0x00cf_f300_0000_ffffn],
  [SELECTOR.userCode, 0x00af_fb00_0000_ffffn],
  [SELECTOR.tss, 0x0000_8900_7000_0067n],
  [SELECTOR.absent, 0x00cf_7300_0000_ffffn],
  [SELECTOR.conforming, 0x00af_9f00_0000_ffffn],
];

/** Page-table entry bits. */
export const PAGE = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, large: 0x80 } as const;

/** Kernel code in long mode with paging: 1 MiB in 4 KiB pages, for user code too except the kernel's tables. */
export function longModeCpu(): TestCpu {
  const cpu = new TestCpu();
  const { view, state } = cpu;
  const all = BigInt(PAGE.present | PAGE.writable | PAGE.user);
  view.setBigUint64(AT.pml4, BigInt(AT.pdpt) | all, true);
  view.setBigUint64(AT.pdpt, BigInt(AT.directory) | all, true);
  view.setBigUint64(AT.directory, BigInt(AT.table) | all, true);
  for (let page = 0; page < 256; page += 1) {
    const kernelOnly = page * 0x1000 < AT.userCode || page * 0x1000 === AT.stack;
    view.setBigUint64(AT.table + page * 8, BigInt(page * 0x1000) | (kernelOnly ? 3n : all), true);
  }
  for (const [selector, raw] of DESCRIPTORS) view.setBigUint64(AT.gdt + (selector & ~7), raw, true);
  longModeEntry(state, {
    entry: BigInt(AT.code),
    rsi: 0n,
    rsp: BigInt(AT.stack + 0x800),
    cr3: BigInt(AT.pml4),
    gdt: { base: BigInt(AT.gdt), limit: 0x7f },
    codeSelector: SELECTOR.kernelCode,
    dataSelector: SELECTOR.kernelData,
  });
  state.set64(GDTR_BASE, BigInt(AT.gdt));
  state.set32(GDTR_LIMIT, 0x7f);
  state.set64(IDTR_BASE, BigInt(AT.idt));
  state.set32(IDTR_LIMIT, 0xfff);
  state.set32(SEGMENT_SELECTOR + SEGMENT.tr * 4, SELECTOR.tss);
  state.set64(SEGMENT_BASE + SEGMENT.tr * 8, BigInt(AT.tss));
  state.set32(SEGMENT_LIMIT + SEGMENT.tr * 4, 0x67);
  state.set32(SEGMENT_ACCESS + SEGMENT.tr * 4, 0x8b);
  view.setBigUint64(AT.tss + 4, BigInt(AT.stack + 0xff8), true); // RSP0, misaligned on purpose
  view.setBigUint64(AT.tss + 0x24, BigInt(AT.interruptStack + 0x1000), true); // IST1
  return cpu;
}

/** Moves the processor to user code at AT.userCode. */
export function enterUser(cpu: TestCpu, flags = 0x202n): void {
  const { state } = cpu;
  const set = (segment: number, selector: number, access: number) => {
    state.set32(SEGMENT_SELECTOR + segment * 4, selector);
    state.set32(SEGMENT_ACCESS + segment * 4, access);
    state.set32(SEGMENT_LIMIT + segment * 4, 0xffff_ffff);
    state.set64(SEGMENT_BASE + segment * 8, 0n);
  };
  set(SEGMENT.cs, SELECTOR.userCode, 0xa0fb);
  for (const segment of [SEGMENT.ss, SEGMENT.ds, SEGMENT.es, SEGMENT.fs, SEGMENT.gs]) {
    set(segment, SELECTOR.userData, 0xc0f3);
  }
  state.set32(CPL, 3);
  state.set64(RIP, BigInt(AT.userCode));
  state.set64(RSP, BigInt(AT.userStack + 0x808));
  state.rflags = flags;
}

/** A 64-bit gate: type 0xe interrupt, 0xf trap. */
export function setGate(
  cpu: TestCpu,
  vector: number,
  target: bigint,
  { type = 0xe, dpl = 0, stackTable = 0, selector = SELECTOR.kernelCode as number, present = true } = {},
): void {
  const low =
    (target & 0xffffn) |
    (BigInt(selector) << 16n) |
    (BigInt(stackTable) << 32n) |
    (BigInt((present ? 0x80 : 0) | (dpl << 5) | type) << 40n) |
    (((target >> 16n) & 0xffffn) << 48n);
  cpu.view.setBigUint64(AT.idt + vector * 16, low, true);
  cpu.view.setBigUint64(AT.idt + vector * 16 + 8, target >> 32n, true);
}

/** 64-bit words from the top of the stack on. */
export function stackWords(cpu: TestCpu, count: number): bigint[] {
  const top = Number(cpu.state.get64(RSP));
  return Array.from({ length: count }, (_, index) => cpu.view.getBigUint64(top + index * 8, true));
}
