import {
  ARCHITECTURAL_END,
  CPL,
  CpuState,
  CR0,
  CR3,
  CR4,
  CSTAR,
  DR0,
  DR7,
  EFER,
  FCW,
  FLAGS_REST,
  FSW,
  FTW,
  GDTR_BASE,
  GDTR_LIMIT,
  HALTED,
  IDTR_BASE,
  IDTR_LIMIT,
  INTERRUPT_SHADOW,
  KERNEL_GS_BASE,
  LSTAR,
  MSR_STORAGE,
  MXCSR,
  RIP,
  RSP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
  SFMASK,
  SINGLE_STEP_TRAP,
  STAR,
  STATE_SIZE,
  SYSENTER_CS,
  TSC_OFFSET,
  X87,
  XMM,
} from '../../src/x86/state.ts';
import { powerOn } from '../../src/x86/system/reset.ts';
import { Random } from '../silicon/random.ts';
import { randomCode } from './random-code.ts';
import {
  type HandlerKind,
  PLACE,
  RAM_BYTES,
  SELECTOR,
  SLOT,
  StartMemory,
  type Width,
} from './start-memory.ts';

/**
 * A machine that starts anywhere: first as a system could be, in one of the processor's modes, then with a few
 * things broken, legal or not. Numbered: the same number is the same state.
 */
export const START_MODES = [
  'real',
  'protected',
  'paged32',
  'pae',
  'compatibility',
  'user64',
  'kernel64',
] as const;
export type StartMode = (typeof START_MODES)[number];

const WIDTH: Record<StartMode, Width> = {
  real: 16,
  protected: 32,
  paged32: 32,
  pae: 32,
  compatibility: 64,
  user64: 64,
  kernel64: 64,
};

export class StartState {
  readonly memory = new StartMemory();
  readonly cpu = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  mode: StartMode = 'real';
  handler: HandlerKind = 'skip';
  /** The names of what was broken. */
  broken: string[] = [];
  #random = new Random(0);

  generate(number: number): void {
    const random = new Random(number, 0x57a7);
    this.#random = random;
    this.mode = START_MODES[number % START_MODES.length]!;
    this.handler = random.pick(['skip', 'skip', 'skip', 'skip', 'again', 'halt', 'random']);
    this.memory.plain(random, WIDTH[this.mode], this.handler);
    this.memory.bytes.set(this.#code(), PLACE.code);
    this.#plainProcessor();
    this.broken = [];
    for (let times = random.pick([0, 1, 1, 2, 3, 6]); times > 0; times--) {
      const [name, spoil] = random.pick(SPOILERS);
      this.broken.push(name);
      spoil(this, random);
    }
  }

  #code(): Uint8Array {
    const random = this.#random;
    const code = randomCode(random, PLACE.codeBytes, () => Number(this.#linear() & 0xffff_ffffn));
    if (random.chance(20)) return code;
    for (let at = SLOT - 2; at < code.length; at += SLOT) code.set([0xeb, 0], at);
    // Round and round.
    const back = -code.length;
    code.set([0xe9, back & 0xff, (back >> 8) & 0xff, 0xff, 0xff], code.length - 5);
    return code;
  }

  #plainProcessor(): void {
    const { cpu, mode } = this;
    const random = this.#random;
    powerOn(cpu);
    for (let register = 0; register < 16; register++) cpu.set64(register * 8, this.#linear());
    cpu.set64(RSP, BigInt(PLACE.stack));
    cpu.set64(RIP, BigInt(PLACE.code + (random.chance(50) ? 0 : random.below(PLACE.codeBytes))));
    cpu.rflags = BigInt(2 | (random.chance(50) ? 0x200 : 0) | (random.u32() & 0x8d5));
    if (mode === 'real') {
      for (let segment = 0; segment < 6; segment++) this.#segment(segment, 0, 0x93, 0xffff, 0n);
      this.#segment(SEGMENT.cs, 0x1000, 0x9b, 0xffff, 0x1_0000n);
      cpu.set64(RIP, cpu.get64(RIP) & 0xffffn);
      cpu.set64(RSP, 0xf000n);
      return;
    }
    cpu.set64(GDTR_BASE, BigInt(PLACE.gdt));
    cpu.set32(GDTR_LIMIT, 0x7f);
    cpu.set64(IDTR_BASE, BigInt(PLACE.idt));
    cpu.set32(IDTR_LIMIT, 0xfff);
    const user = mode === 'user64' || mode === 'compatibility' || (mode !== 'kernel64' && random.chance(30));
    const long = WIDTH[mode] === 64;
    const dpl = user ? 0x60 : 0;
    const data = user ? SELECTOR.userData : SELECTOR.data;
    for (let segment = 0; segment < 6; segment++) this.#segment(segment, data, 0xc093 | dpl, 0xffff_ffff, 0n);
    if (long && mode !== 'compatibility')
      this.#segment(SEGMENT.cs, user ? SELECTOR.userCode64 : SELECTOR.code64, 0xa09b | dpl, 0xffff_ffff, 0n);
    else
      this.#segment(SEGMENT.cs, user ? SELECTOR.userCode32 : SELECTOR.code32, 0xc09b | dpl, 0xffff_ffff, 0n);
    this.#segment(SEGMENT.tr, SELECTOR.tss, 0x8b, 0x67, BigInt(PLACE.tss));
    this.#segment(SEGMENT.ldtr, SELECTOR.ldt, 0x82, 0xff, BigInt(PLACE.ldt));
    cpu.set32(CPL, user ? 3 : 0);
    cpu.set64(CR0, mode === 'protected' ? 0x31n : 0x8001_0031n);
    cpu.set64(CR4, mode === 'paged32' || mode === 'protected' ? 0x610n : 0x6a0n);
    cpu.set64(CR3, BigInt(long ? PLACE.pml4 : mode === 'pae' ? PLACE.pdptPae : PLACE.directory32));
    cpu.set64(EFER, long ? 0xd01n : 1n);
    cpu.set64(STAR, (0x13n << 48n) | (0x08n << 32n));
    cpu.set64(LSTAR, BigInt(PLACE.code));
    cpu.set64(CSTAR, BigInt(PLACE.code));
    cpu.set64(SFMASK, 0x300n);
    cpu.set64(SYSENTER_CS, 8n);
    cpu.set64(SYSENTER_CS + 8, BigInt(PLACE.stack));
    cpu.set64(SYSENTER_CS + 16, BigInt(PLACE.code));
  }

  #segment(index: number, selector: number, access: number, limit: number, base: bigint): void {
    this.cpu.set32(SEGMENT_SELECTOR + index * 4, selector);
    this.cpu.set32(SEGMENT_ACCESS + index * 4, access);
    this.cpu.set32(SEGMENT_LIMIT + index * 4, limit);
    this.cpu.set64(SEGMENT_BASE + index * 8, base);
  }

  /** A physical address, mostly of something. */
  physical(): bigint {
    const random = this.#random;
    switch (random.below(8)) {
      case 0:
        return BigInt(random.pick(DEVICES));
      case 1:
        return random.pick(NOWHERE);
      case 2:
      case 3:
        return BigInt(random.pick(Object.values(PLACE)));
      default:
        return BigInt(random.below(RAM_BYTES));
    }
  }

  /** A linear address: the physical one that it is mapped to at first, or any. */
  #linear(): bigint {
    const random = this.#random;
    if (random.chance(80)) return this.physical();
    return random.pick([
      0xffff_8000_0000_0000n,
      0x7fff_ffff_fff8n,
      0x8000_0000_0000n,
      0xffff_ffff_ffff_fff8n,
      random.u64(),
    ]);
  }

  linear(): bigint {
    return this.#linear();
  }

  get registers(): Uint8Array {
    return this.cpu.bytes.subarray(0, ARCHITECTURAL_END);
  }
}

const DEVICES = [
  ...[0xe000_0000, 0xe000_0014, 0xe000_3000, 0xe000_4000, 0xe001_0000, 0xe000_2000],
  ...[0xfec0_0000, 0xfec0_0010, 0xfee0_0000, 0xfee0_0080, 0xfee0_00b0, 0xfee0_0300, 0xfee0_0320, 0xfee0_0380],
];
const NOWHERE = [
  ...[
    0x10_0000n,
    0xf_ffffn,
    0x10_0ff8n,
    0xc000_0000n,
    0xffff_f000n,
    0xffff_fff0n,
    0x1_0000_0000n,
    0x1_0000_0ff8n,
  ],
  ...[0xff_ffff_f000n, 0x100_0000_0000n, 0xf_ffff_ffff_f000n, 0xdfff_f000n],
];

type Spoiler = readonly [string, (state: StartState, random: Random) => void];

function flip(value: bigint, random: Random, bits: number): bigint {
  for (let times = 1 + random.below(4); times > 0; times--) value ^= 1n << BigInt(random.below(bits));
  return value;
}

/** A page-table entry: mostly present, of any level. */
function tableEntry(state: StartState, random: Random): bigint {
  const flags = BigInt(random.u32() & 0xfff) | (random.chance(85) ? 1n : 0n);
  const high = random.chance(15) ? random.u64() & 0xfff0_0000_0000_0000n : 0n;
  return (state.physical() & 0xf_ffff_ffff_f000n) | flags | high;
}

const TABLES = [
  ...[PLACE.pml4, PLACE.pdpt, PLACE.directory, PLACE.table, PLACE.deviceDirectory],
  ...[PLACE.pdptPae, PLACE.directory32, PLACE.table32],
];

const SPOILERS: readonly Spoiler[] = [
  ['cr0', ({ cpu }, random) => cpu.set64(CR0, flip(cpu.get64(CR0), random, 32))],
  ['cr0', ({ cpu }, random) => cpu.set64(CR0, random.u64())],
  ['cr4', ({ cpu }, random) => cpu.set64(CR4, flip(cpu.get64(CR4), random, 22))],
  ['cr4', ({ cpu }, random) => cpu.set64(CR4, random.u64())],
  ['efer', ({ cpu }, random) => cpu.set64(EFER, flip(cpu.get64(EFER), random, 16))],
  [
    'efer',
    ({ cpu }, random) => cpu.set64(EFER, random.pick([0n, 0x400n, 0x100n, 0x500n, 0xd01n, random.u64()])),
  ],
  ['cr3', (state) => state.cpu.set64(CR3, state.physical())],
  [
    'cr3',
    (state, random) => state.cpu.set64(CR3, (state.physical() & ~0xfffn) | BigInt(random.u32() & 0xfff)),
  ],
  ['rip', (state) => state.cpu.set64(RIP, state.linear())],
  [
    'rip',
    ({ cpu }, random) =>
      cpu.set64(
        RIP,
        random.pick([0xfff0n, 0xfff_fff8n, 0xffff_fffcn, 0x7fff_ffff_fffen, ~0n & 0xffff_ffff_ffff_ffffn]),
      ),
  ],
  ['rsp', (state) => state.cpu.set64(RSP, state.linear())],
  ['gdtr', ({ cpu }, random) => cpu.set32(GDTR_LIMIT, random.pick([0, 7, 0x1f, 0xfff, 0xffff, 0xffff_ffff]))],
  ['gdtr', (state) => state.cpu.set64(GDTR_BASE, state.linear())],
  [
    'idtr',
    ({ cpu }, random) => cpu.set32(IDTR_LIMIT, random.pick([0, 0x1f, 0xdf, 0xff, 0xffff, 0xffff_ffff])),
  ],
  ['idtr', (state) => state.cpu.set64(IDTR_BASE, state.linear())],
  ['flags', ({ cpu }) => (cpu.rflags |= 0x100n)],
  ['flags', ({ cpu }) => (cpu.rflags |= 0x2_0000n)],
  ['flags', ({ cpu }, random) => (cpu.rflags = flip(cpu.rflags, random, 22))],
  ['flags', ({ cpu }, random) => cpu.set64(FLAGS_REST, random.u64())],
  ['cpl', ({ cpu }, random) => cpu.set32(CPL, random.below(4))],
  ['halted', ({ cpu }) => cpu.set32(HALTED, 1)],
  ['shadow', ({ cpu }) => cpu.set32(INTERRUPT_SHADOW, 1)],
  ['trap', ({ cpu }) => cpu.set32(SINGLE_STEP_TRAP, 1)],
  [
    'debug',
    (state, random) => {
      for (let register = 0; register < 4; register++) state.cpu.set64(DR0 + register * 8, state.linear());
      state.cpu.set64(DR7, random.u64());
    },
  ],
  [
    'msr',
    (state, random) =>
      state.cpu.set64(
        random.pick([
          STAR,
          LSTAR,
          CSTAR,
          SFMASK,
          KERNEL_GS_BASE,
          SYSENTER_CS,
          SYSENTER_CS + 8,
          SYSENTER_CS + 16,
        ]),
        state.linear(),
      ),
  ],
  [
    'msr',
    ({ cpu }, random) =>
      cpu.set64(random.pick([TSC_OFFSET, MSR_STORAGE, MSR_STORAGE + 8 * random.below(16)]), random.u64()),
  ],
  [
    'float',
    ({ cpu }, random) => {
      cpu.bytes.set(random.bytes(0x100), XMM);
      cpu.bytes.set(random.bytes(0x80), X87);
      for (const at of [FCW, FSW, FTW, MXCSR]) cpu.set32(at, random.u32());
    },
  ],
  [
    'segment',
    (state, random) => {
      const segment = random.below(8);
      const { cpu } = state;
      cpu.set64(SEGMENT_BASE + segment * 8, state.linear());
      if (random.chance(50))
        cpu.set32(SEGMENT_LIMIT + segment * 4, random.pick([0, 0xff, 0xffff, 0xf_ffff, random.u32()]));
      if (random.chance(50))
        cpu.set32(SEGMENT_ACCESS + segment * 4, random.u32() & (random.chance(80) ? 0xf0ff : 0xffff_ffff));
      if (random.chance(50))
        cpu.set32(SEGMENT_SELECTOR + segment * 4, random.u32() & (random.chance(80) ? 0xffff : 0xffff_ffff));
    },
  ],
  [
    'code size',
    ({ cpu }, random) => {
      const at = SEGMENT_ACCESS + SEGMENT.cs * 4;
      cpu.set32(at, (cpu.get32(at) & ~0x6000) | random.pick([0, 0x2000, 0x4000, 0x6000]));
    },
  ],
  ['task', ({ memory }, random) => memory.bytes.set(random.bytes(0x68), PLACE.tss)],
  ['task', (state, random) => state.memory.word64(PLACE.tss + 4 + 8 * random.below(12), state.linear())],
  [
    'tables',
    (state, random) => {
      for (let times = 1 + random.below(8); times > 0; times--)
        state.memory.word64(
          random.pick(TABLES) + 8 * random.pick([0, 0, 0, 1, 2, 3, 511, random.below(512)]),
          tableEntry(state, random),
        );
    },
  ],
  [
    'own tables',
    ({ memory }, random) => {
      // A table that maps itself, and one that stands where the data are.
      const table = random.pick(TABLES);
      memory.word64(
        table + 8 * random.below(4),
        BigInt(random.pick([table, table, PLACE.data, PLACE.code])) | 7n,
      );
    },
  ],
  [
    'descriptors',
    ({ memory }, random) => {
      for (let times = 1 + random.below(6); times > 0; times--)
        memory.word64(PLACE.gdt + 8 * random.below(16), random.u64());
    },
  ],
  [
    'descriptors',
    ({ memory }, random) => {
      const at = PLACE.gdt + 8 * random.below(16) + 5;
      memory.bytes[at]! ^= 1 << random.below(8);
    },
  ],
  [
    'gates',
    (state, random) => {
      for (let times = 1 + random.below(6); times > 0; times--) {
        const at = PLACE.idt + 8 * random.pick([random.below(64), 12, 13, 16, 26, 28, 14, 8]);
        state.memory.word64(at, random.chance(50) ? random.u64() : state.linear());
      }
    },
  ],
  [
    'gates',
    ({ memory }, random) => {
      for (let times = 1 + random.below(6); times > 0; times--)
        memory.bytes[PLACE.idt + random.below(0x200)]! ^= 1 << random.below(8);
    },
  ],
  [
    'stack tables',
    ({ memory }, random) => {
      for (let vector = 0; vector < 64; vector++) memory.bytes[PLACE.idt + vector * 16 + 4] = random.below(8);
    },
  ],
  [
    'memory',
    ({ memory }, random) => {
      for (let times = 1 + random.below(4); times > 0; times--)
        memory.bytes.set(random.bytes(0x200), random.below(RAM_BYTES / 0x200) * 0x200);
    },
  ],
  [
    'registers',
    (state, random) => {
      for (let register = 0; register < 16; register++) state.cpu.set64(register * 8, random.u64());
    },
  ],
  ['code', ({ memory }, random) => memory.bytes.set(random.bytes(PLACE.codeBytes), PLACE.code)],
];
