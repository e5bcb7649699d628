import { ByteReader } from '../../src/base/bytes.ts';
import { guestNanoseconds, instructionCount } from '../../src/base/units.ts';
import type { EngineOptions, MachineConfig } from '../../src/machine/config.ts';
import type { Output } from '../../src/machine/door.ts';
import { LockstepMachine } from '../../src/machine/machine.ts';
import { restoreMachine } from '../../src/machine/restore.ts';
import { CPL, CR0, CR4, EFER, IDTR_BASE, IDTR_LIMIT } from '../../src/x86/state.ts';
import { longModeEntry } from '../../src/x86/system/reset.ts';
import { Assembler, REG } from './assembler.ts';

/**
 * A guest without a kernel, in 1 MiB: page tables, descriptor tables and handlers made here, then the code of the
 * test. Linear addresses below 1 MiB are physical addresses, for the supervisor alone; the window from 2 MiB on is
 * for the test to map.
 */

export const PAGE = 4096;
export const RAM_BYTES = 0x10_0000;
/** First tables, the second root, and the table of the window. */
export const PML4 = 0x1000;
export const PDPT = 0x2000;
export const DIRECTORY = 0x3000;
export const LOW_TABLE = 0x4000;
export const WINDOW_TABLE = 0x5000;
export const DEVICE_DIRECTORY = 0x6000;
/** A second address space: same low memory, another window. */
export const PML4_B = 0x7000;
export const PDPT_B = 0x8000;
export const DIRECTORY_B = 0x9000;
export const WINDOW_TABLE_B = 0xa000;
export const GDT = 0xb000;
export const TSS = 0xb100;
export const IDT = 0xc000;
export const HANDLERS = 0xd000;
/** Handlers note what they saw: a pointer, where to resume, then the entries. */
export const LOG_POINTER = 0xe000;
export const RESUME = 0xe008;
export const TICKS = 0xe010;
export const LOG = 0xe100;
export const STACK_TOP = 0x1_0000;
export const CODE = 0x1_0000;
export const DATA = 0x2_0000;
export const USER_STACK = 0x3_0000;
/** Stacks of the TSS: privilege 0, IST1, IST2. */
export const STACKS = [0x4_1000, 0x4_2000, 0x4_3000] as const;

export const WINDOW = 0x20_0000;
/** The first 2 MiB once more, through one large page. */
export const LARGE = 0x40_0000;
export const APIC = 0xfee0_0000;

/** So often a HLT is given another timer's time. */
const WAKES_MAX = 4;

export const P = 1n;
export const W = 2n;
export const U = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const NX = 1n << 63n;

export const KERNEL_CS = 0x08;
export const KERNEL_SS = 0x10;
export const USER_SS = 0x1b;
export const USER_CS = 0x23;

export const CONFIG: MachineConfig = {
  memoryBytes: RAM_BYTES,
  disks: [{ capacity: 1 << 16, readOnly: false, serial: 'test' }],
  nics: [],
  startEpochSeconds: 1_700_000_000,
  seed: '5a'.repeat(32),
  debugExit: true,
};

export class GuestImage {
  readonly ram = new Uint8Array(RAM_BYTES);
  readonly view = new DataView(this.ram.buffer);
  entry = CODE;

  constructor() {
    this.entry64(PML4, 0, BigInt(PDPT) | P | W | U);
    this.entry64(PDPT, 0, BigInt(DIRECTORY) | P | W | U);
    this.entry64(PDPT, 3, BigInt(DEVICE_DIRECTORY) | P | W | U);
    this.entry64(DEVICE_DIRECTORY, 0x1f7, BigInt(APIC) | P | W | PS);
    for (const directory of [DIRECTORY, DIRECTORY_B]) {
      this.entry64(directory, 0, BigInt(LOW_TABLE) | P | W | U);
      this.entry64(directory, 2, P | W | PS);
    }
    for (let page = 0; page < RAM_BYTES / PAGE; page++)
      this.entry64(LOW_TABLE, page, BigInt(page * PAGE) | P | W);
    this.entry64(DIRECTORY, 1, BigInt(WINDOW_TABLE) | P | W | U);
    this.entry64(PML4_B, 0, BigInt(PDPT_B) | P | W | U);
    this.entry64(PDPT_B, 0, BigInt(DIRECTORY_B) | P | W | U);
    this.entry64(PDPT_B, 3, BigInt(DEVICE_DIRECTORY) | P | W | U);
    this.entry64(DIRECTORY_B, 1, BigInt(WINDOW_TABLE_B) | P | W | U);
    // Null, code, data, user data, user code, TSS.
    const descriptors = [
      0n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x00cf_f300_0000_ffffn,
      0x00af_fb00_0000_ffffn,
    ];
    descriptors.push(0x0000_8900_0000_0067n | (BigInt(TSS) << 16n), 0n);
    for (const [index, value] of descriptors.entries()) this.view.setBigUint64(GDT + index * 8, value, true);
    this.view.setBigUint64(TSS + 4, BigInt(STACKS[0]), true);
    this.view.setBigUint64(TSS + 0x24, BigInt(STACKS[1]), true);
    this.view.setBigUint64(TSS + 0x2c, BigInt(STACKS[2]), true);
    this.view.setBigUint64(LOG_POINTER, BigInt(LOG), true);
  }

  entry64(table: number, index: number, value: bigint): void {
    this.view.setBigUint64(table + index * 8, value, true);
  }

  /** Maps a page of the window of the first address space. */
  window(page: number, physical: number, flags: bigint): void {
    this.entry64(WINDOW_TABLE, page, BigInt(physical) | flags);
  }

  put(address: number, bytes: Uint8Array): void {
    this.ram.set(bytes, address);
  }

  code(address: number, write: (out: Assembler) => void): Assembler {
    const out = new Assembler(address);
    write(out);
    this.put(address, out.finish());
    return out;
  }

  gate(vector: number, target: number, options: { ist?: number; user?: boolean; trap?: boolean } = {}): void {
    const low = (BigInt(target) & 0xffffn) | (BigInt(KERNEL_CS) << 16n);
    const type = BigInt((options.trap ? 0x8f : 0x8e) | (options.user ? 0x60 : 0));
    const word =
      low | (BigInt(options.ist ?? 0) << 32n) | (type << 40n) | ((BigInt(target) & 0xffff_0000n) << 32n);
    this.view.setBigUint64(IDT + vector * 16, word, true);
    this.view.setBigUint64(IDT + vector * 16 + 8, BigInt(target) >> 32n, true);
  }

  /**
   * Every exception notes vector, error code, RIP and CR2, and goes on at RESUME (or where it was, with zero
   * there); interrupts 0x30 to 0x3f count in TICKS and are acknowledged.
   */
  loggingHandlers(ist = 1): void {
    const { rax, rcx, rsp } = REG;
    this.code(HANDLERS, (out) => {
      for (let vector = 0; vector < 32; vector++) {
        out.align(16);
        this.gate(vector, out.here, { ist, user: vector === 3 });
        if (![8, 10, 11, 12, 13, 14, 17].includes(vector)) out.raw(0x6a, 0);
        out.raw(0x6a, vector).jump('common');
      }
      out.label('common').push(rax).push(rcx).load(rcx, { displacement: LOG_POINTER });
      for (const [slot, from] of [16, 24, 32].entries()) {
        out.load(rax, { base: rsp, displacement: from }).store({ base: rcx, displacement: slot * 8 }, rax);
      }
      out.raw(0x0f, 0x20, 0xd0).store({ base: rcx, displacement: 24 }, rax); // mov rax, cr2
      out.aluImmediate(0, rcx, 32).store({ displacement: LOG_POINTER }, rcx);
      out.load(rax, { displacement: RESUME }).op([0x85], rax, rax).jumpIf(4, 'same');
      out.store({ base: rsp, displacement: 32 }, rax);
      out.label('same').pop(rcx).pop(rax).aluImmediate(0, rsp, 16).iretq();
      out.align(16);
      for (let vector = 0x30; vector < 0x40; vector++) this.gate(vector, out.here);
      out
        .push(rax)
        .inc({ displacement: TICKS })
        .set(rax, APIC)
        .storeImmediate({ base: rax, displacement: 0xb0 }, 0, 4);
      out.pop(rax).iretq();
    });
  }
}

/** Code at CODE, and the handlers that note what they saw; a fault goes on at the label `resume`. */
export function guestWith(write: (out: Assembler) => void): { image: GuestImage; code: Assembler } {
  const image = new GuestImage();
  image.loggingHandlers();
  const code = image.code(CODE, write);
  if (code.has('resume')) image.view.setUint32(RESUME, code.addressOf('resume'), true);
  return { image, code };
}

/** A machine that runs one image after another, with caches as hot as the last one left them. */
export class GuestMachine {
  machine: LockstepMachine;
  readonly options: EngineOptions;
  readonly outputs: Output[] = [];
  readonly #blank: Uint8Array;

  constructor(options: EngineOptions = {}, config = CONFIG) {
    this.options = options;
    this.machine = new LockstepMachine(config, { output: (output) => this.outputs.push(output) }, options);
    this.#blank = this.machine.snapshot();
  }

  /** Registers, devices and count as after power-on; RAM as in the image; guest time running. */
  load(image: GuestImage): void {
    const reader = new ByteReader(this.#blank);
    reader.u32();
    reader.u32();
    reader.bytes();
    reader.raw(16);
    const restored = this.machine.restore(reader);
    if (!restored.ok) throw new Error(restored.error);
    this.outputs.length = 0;
    const now = this.machine.memory.read(0, RAM_BYTES)!;
    for (let at = 0; at < RAM_BYTES; at += PAGE) {
      const wanted = image.ram.subarray(at, at + PAGE);
      if (Buffer.compare(now.subarray(at, at + PAGE), wanted) !== 0) this.machine.memory.write(at, wanted);
    }
    const state = this.machine.processor;
    longModeEntry(state, {
      entry: BigInt(image.entry),
      rsi: 0n,
      rsp: BigInt(STACK_TOP),
      cr3: BigInt(PML4),
      gdt: { base: BigInt(GDT), limit: 7 * 8 - 1 },
      codeSelector: KERNEL_CS,
      dataSelector: KERNEL_SS,
    });
    state.set64(IDTR_BASE, BigInt(IDT));
    state.set32(IDTR_LIMIT, 0xfff);
    state.set64(EFER, 0xd01n);
    state.set64(CR4, 0x6a0n);
    state.set64(CR0, state.get64(CR0) | 2n);
    // TR: a busy 64-bit TSS [SDM 3A 8.2.3].
    state.set32(0x130 + 7 * 4, 0x28);
    state.set64(0x0f0 + 7 * 8, BigInt(TSS));
    state.set32(0x150 + 7 * 4, 0x67);
    state.set32(0x170 + 7 * 4, 0x8b);
    this.clock(0n, 1n << 40n);
  }

  /** Everything is overwritten by a device and written anew: nothing that was cached of it is left. */
  forget(): void {
    const { memory } = this.machine;
    const blank = new Uint8Array(PAGE);
    for (let at = 0; at < RAM_BYTES; at += PAGE) {
      const page = memory.read(at, PAGE)!.slice();
      if (page.every((byte) => byte === 0)) continue;
      memory.write(at, blank);
      memory.write(at, page);
    }
  }

  clock(guestTime: bigint, cap: bigint, rate = 10n << 32n): void {
    this.machine.apply({
      kind: 'clock',
      guestTime: guestNanoseconds(guestTime),
      rate,
      cap: guestNanoseconds(cap),
    });
  }

  /**
   * Runs to a count. A HLT that a timer can end is ended by a clock entry at its count, as a live machine would;
   * false: the guest cannot get there.
   */
  runTo(count: bigint | number): boolean {
    const until = instructionCount(BigInt(count));
    let halted = -1n;
    let wakes = 0;
    for (;;) {
      const reason = this.machine.runUntil(until);
      if (this.machine.count > until) throw new Error(`${this.machine.count} instead of ${until}`);
      if (reason === 'count') return true;
      if (reason !== 'halted') return false;
      if (this.machine.count !== halted) wakes = 0;
      halted = this.machine.count;
      const deadline = this.machine.nextDeadline;
      // A timer that is masked never ends a HLT.
      if (deadline === undefined || !this.interruptible || ++wakes > WAKES_MAX) return false;
      this.clock(deadline, deadline + (1n << 40n));
    }
  }

  get interruptible(): boolean {
    return (this.machine.processor.rflags & 0x200n) !== 0n;
  }

  get count(): bigint {
    return this.machine.count;
  }

  digest(): string {
    return this.machine.digest();
  }

  /** Goes on in a machine restored from a snapshot of this one. */
  moveThroughSnapshot(): void {
    const restored = restoreMachine(
      this.machine.snapshot(),
      { output: (output) => this.outputs.push(output) },
      this.options,
    );
    if (!restored.ok) throw new Error(restored.error);
    this.machine = restored.value;
  }

  read64(address: number): bigint {
    return this.machine.memory.readU64(address)!;
  }

  register(register: number): bigint {
    return this.machine.processor.get64(register * 8);
  }

  get privilege(): number {
    return this.machine.processor.get32(CPL);
  }

  /** What loggingHandlers noted. */
  get log(): { vector: number; errorCode: number; rip: number; cr2: bigint }[] {
    const entries = [];
    for (let at = LOG; at < Number(this.read64(LOG_POINTER)); at += 32) {
      entries.push({
        vector: Number(this.read64(at)),
        errorCode: Number(this.read64(at + 8)),
        rip: Number(this.read64(at + 16)),
        cr2: this.read64(at + 24),
      });
    }
    return entries;
  }
}
