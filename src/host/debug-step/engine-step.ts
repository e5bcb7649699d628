import { Engine } from '../../engine/engine.ts';
import { createInterpreter } from '../../engine/interpreter.ts';
import { Jit } from '../../engine/jit/jit.ts';
import { JIT_DEFAULTS, type JitOptions } from '../../engine/jit/jit-options.ts';
import { engineLayout, PAGE } from '../../engine/layout.ts';
import { OperationTable } from '../../engine/operation-table.ts';
import { createOracle } from '../../engine/oracle.ts';
import { PhysicalMap } from '../../engine/physical-map.ts';
import { sharedMemory } from '../../wasm/webassembly.ts';
import type { Environment } from '../../x86/cpu.ts';
import { decode } from '../../x86/decoder.ts';
import { OPCODES } from '../../x86/instructions/all.ts';
import { MICRO_OPERATIONS } from '../../x86/micro-operations/all.ts';
import {
  COMPILED_COUNT,
  CPL,
  type CpuState,
  CR0,
  CR3,
  CR4,
  EFER,
  FCW,
  FSW,
  FTW,
  GPR,
  MXCSR,
  RIP,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_LIMIT,
  SEGMENT_SELECTOR,
  X87,
  XMM,
} from '../../x86/state.ts';
import type { StepCase, StepEngine, StepOutcome } from './stepped-state.ts';

/**
 * Runs one user instruction in an engine of its own. `step` stops behind it by budget. `block` lets the engine
 * run on into an instruction that faults, so that the instruction is one of several in its block and a repeated
 * one does many iterations at once. `pieces` does so in small budgets, for code of several instructions.
 */
export type StepMode = 'step' | 'block' | 'pieces';

/** Which engine runs it (`--engine`). */
export const STEP_EXECUTORS = ['interpreter', 'oracle', 'jit'] as const;
export type StepExecutor = (typeof STEP_EXECUTORS)[number];

const RAM_BYTES = 4 * 1024 * 1024;
const TABLES = 0x1000;
const FIRST_FRAME = 0x10_0000;
const FRAMES = (RAM_BYTES - FIRST_FRAME) / PAGE;
/** Present, writable, user. */
const ENTRY = 7n;
const ITERATIONS_MAX = 1_000_000;
const BLOCK_BUDGET = 100_000;
const PIECE_MAX = 4;
const CODE_MAX = 15;
/** What debuggers put there, and a case may read; it ends in #GP because there is no interrupt table. */
const BREAKPOINT = Uint8Array.of(0xcc);
/** HLT: one byte, and #GP in user mode. */
const ZEROS = new Uint8Array(PAGE);
const SENTINELS = new Uint8Array(PAGE).fill(0xf4);

const CR0_USER = 0x8005_0033;
/** PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE. */
const CR4_USER = 0x1_06a0;
/** SCE, LME, LMA, NXE. */
const EFER_USER = 0xd01;
const DATA_ACCESS = 0xc0f3;
/** The stack is as wide as the code. */
const STACK_ACCESS = { 64: DATA_ACCESS, 32: DATA_ACCESS, 16: 0x80f3 } as const;
const FLAT_SEGMENTS = [SEGMENT.es, SEGMENT.cs, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const;
/** As Linux names its segments. */
const CODE_SELECTOR = { 64: 0x33, 32: 0x23, 16: 0x23 } as const;
const CODE_ACCESS = { 64: 0xa0fb, 32: 0xc0fb, 16: 0x80fb } as const;

/** What has been interpreted once is compiled, together with what else has. */
const COMPILE_AT_ONCE: JitOptions = { ...JIT_DEFAULTS, threshold: 2, batch: 1, patience: 0 };

export class EngineStep implements StepEngine {
  readonly #engine: Engine;
  readonly #state: CpuState;
  readonly #ram: Uint8Array;
  readonly #mode: StepMode;
  /** Code runs a first time so that it is compiled when it counts. */
  readonly #warmsUp: boolean;
  /** Linear page number -> RAM offset of its frame. */
  #frames = new Map<number, number>();

  constructor(mode: StepMode = 'step', which: StepExecutor = 'interpreter', tlbEntries = 256) {
    this.#warmsUp = which === 'jit';
    // Budgets that end inside of a block are the interpreter's.
    this.#mode = which === 'jit' ? 'block' : mode;
    const layout = engineLayout(RAM_BYTES, tlbEntries, 1 << 14);
    const memory = sharedMemory(layout.pages);
    const table = new OperationTable(MICRO_OPERATIONS);
    const map = new PhysicalMap(RAM_BYTES);
    const engine = new Engine(memory, layout, table, OPCODES, map, NO_ENVIRONMENT, {
      attention: () => false,
    });
    if (which === 'oracle') {
      engine.useExecutor(createOracle(memory.buffer, layout, engine.state, table, engine));
    } else {
      const { run, regions } = createInterpreter(memory, layout, table, engine);
      if (which === 'jit') {
        const { code, mmu, state } = engine;
        engine.useExecutor(run, new Jit(memory, layout, table, code, mmu, state, regions, COMPILE_AT_ONCE));
      } else {
        engine.useExecutor(run);
      }
    }
    this.#engine = engine;
    this.#state = engine.state;
    this.#ram = new Uint8Array(memory.buffer, layout.ram, RAM_BYTES);
  }

  /** Instructions that retired in compiled code, so far. */
  get compiledCount(): bigint {
    return this.#state.get64(COMPILED_COUNT);
  }

  step(given: StepCase): StepOutcome {
    const repeated = isRepeated(given.code);
    this.#prepare(given);
    if (this.#warmsUp) {
      this.#run(given, repeated);
      this.#engine.takeFault();
      this.#clearData(given);
      this.#fill(given);
    }
    let { faulted, retired } = this.#run(given, repeated);
    const several = given.code.length > CODE_MAX;
    if (!repeated && !several && this.#ranOn(given, retired)) {
      this.#prepare(given);
      ({ faulted, retired } = this.#runSingly(given, false));
    }
    let exception: StepOutcome['exception'] = null;
    if (faulted) {
      const fault = this.#engine.takeFault()!;
      const rip = this.#state.get64(RIP);
      const behind = several ? rip === given.at + BigInt(given.code.length) : rip !== given.at;
      const sentinel = this.#mode !== 'step' && behind;
      if (!sentinel) {
        const trap = softwareInterrupt(given, fault);
        if (trap === undefined) {
          const cr2 = fault.vector === 14 ? fault.address : 0n;
          exception = { vector: fault.vector, errorCode: fault.errorCode, cr2 };
        } else {
          exception = { vector: trap.vector, errorCode: 0, cr2: 0n };
          this.#state.set64(RIP, given.at + BigInt(trap.length));
        }
      }
    }
    return { ...this.#leave(given), exception, retired };
  }

  /** Did the instruction jump to where something else than a sentinel stands, itself perhaps? */
  #ranOn(given: StepCase, retired: number): boolean {
    if (this.#mode === 'step' || retired === 0) return false;
    const rip = this.#state.get64(RIP);
    // Behind an instruction that is shorter than its bytes (66 before a near branch), the rest of them stands.
    const amidst = rip >= given.at && rip < given.at + BigInt(given.code.length);
    return retired > 1 || amidst || pageOf(rip) !== pageOf(given.at);
  }

  #prepare(given: StepCase): void {
    this.#map(given);
    if (this.#mode !== 'step') {
      // Code of several instructions ends at the one behind it; a single one may jump anywhere.
      const several = given.code.length > CODE_MAX;
      this.#engine.memory.storePhysical(this.#frames.get(pageOf(given.at))!, several ? ZEROS : SENTINELS);
      if (several) this.#store(given.at + BigInt(given.code.length), BREAKPOINT, true);
    }
    this.#store(given.at, given.code, true);
    this.#fill(given);
  }

  #fill(given: StepCase): void {
    for (const chunk of given.memory) this.#store(chunk.address, chunk.bytes, false);
    this.#enter(given);
  }

  #run(given: StepCase, repeated: boolean): { faulted: boolean; retired: number } {
    if (this.#mode === 'step') return this.#runSingly(given, repeated);
    let retired = 0;
    for (let piece = 0; ; piece += 1) {
      const budget = this.#mode === 'block' ? BLOCK_BUDGET : 1 + (piece % PIECE_MAX);
      const faulted = this.#engine.run(budget, true) === 'fault';
      retired += this.#engine.retired;
      if (faulted || retired >= BLOCK_BUDGET) return { faulted, retired };
    }
  }

  #runSingly(given: StepCase, repeated: boolean): { faulted: boolean; retired: number } {
    let retired = 0;
    for (;;) {
      const faulted = this.#engine.run(1, true) === 'fault';
      retired += this.#engine.retired;
      const again = repeated && this.#state.get64(RIP) === given.at && retired < ITERATIONS_MAX;
      if (faulted || !again) return { faulted, retired };
    }
  }

  /** Page tables for the pages that the case names. */
  #map(given: StepCase): void {
    const code = pageOf(given.at);
    const pages = new Set<number>([code]);
    for (const { address, bytes } of given.memory) {
      const last = pageOf(address + BigInt(Math.max(bytes.length, 1) - 1));
      for (let page = pageOf(address); page <= last; page += 1) pages.add(page);
    }
    if (pages.size === this.#frames.size && [...pages].every((page) => this.#frames.has(page))) {
      this.#clearData(given);
      return;
    }
    const wanted = [...pages].sort((one, other) => one - other);
    if (wanted.length > FRAMES) throw new RangeError(`a step takes at most ${FRAMES} pages of memory`);
    this.#frames = new Map();
    const tables = new Uint8Array(FIRST_FRAME - TABLES);
    const view = new DataView(tables.buffer);
    let free = PAGE;
    let frame = FIRST_FRAME;
    for (const page of wanted) {
      let table = 0;
      for (const level of [2 ** 27, 2 ** 18, 2 ** 9]) {
        const at = table + (Math.floor(page / level) & 0x1ff) * 8;
        if (view.getBigUint64(at, true) === 0n) {
          if (free + PAGE > tables.length) throw new RangeError('the pages of a step are too far apart');
          view.setBigUint64(at, BigInt(TABLES + free) | ENTRY, true);
          free += PAGE;
        }
        table = Number(view.getBigUint64(at, true) & ~0xfffn) - TABLES;
      }
      view.setBigUint64(table + (page & 0x1ff) * 8, BigInt(frame) | ENTRY, true);
      this.#frames.set(page, frame);
      frame += PAGE;
    }
    this.#engine.memory.storePhysical(TABLES, tables);
    this.#engine.memory.storePhysical(FIRST_FRAME, new Uint8Array(frame - FIRST_FRAME));
    this.#engine.mmu.flush();
  }

  #clearData(given: StepCase): void {
    const code = pageOf(given.at);
    for (const [page, frame] of this.#frames) if (page !== code) this.#ram.fill(0, frame, frame + PAGE);
  }

  /** Code goes through the engine, which must notice that it changed; bytes on unmapped pages are dropped. */
  #store(address: bigint, bytes: Uint8Array, code: boolean): void {
    for (let at = 0; at < bytes.length; ) {
      const linear = address + BigInt(at);
      const inPage = Number(linear & 0xfffn);
      const part = bytes.subarray(at, at + PAGE - inPage);
      const frame = this.#frames.get(pageOf(linear));
      if (frame !== undefined) {
        if (code) this.#engine.memory.storePhysical(frame + inPage, part);
        else this.#ram.set(part, frame + inPage);
      }
      at += part.length;
    }
  }

  #enter(given: StepCase): void {
    const state = this.#state;
    state.bytes.fill(0, 0, 0x500);
    for (let index = 0; index < 16; index += 1) state.set64(GPR + index * 8, given.gpr[index]!);
    state.set64(RIP, given.at);
    state.rflags = given.rflags;
    state.set32(CR0, CR0_USER);
    state.set64(CR3, BigInt(TABLES));
    state.set32(CR4, CR4_USER);
    state.set32(EFER, EFER_USER);
    state.set32(CPL, 3);
    for (const index of FLAT_SEGMENTS) {
      const code = index === SEGMENT.cs;
      const unnamed = index === SEGMENT.fs || index === SEGMENT.gs;
      state.set32(SEGMENT_SELECTOR + index * 4, unnamed ? 0 : code ? CODE_SELECTOR[given.mode] : 0x2b);
      state.set32(SEGMENT_LIMIT + index * 4, 0xffff_ffff);
      const data = index === SEGMENT.ss ? STACK_ACCESS[given.mode] : DATA_ACCESS;
      state.set32(SEGMENT_ACCESS + index * 4, code ? CODE_ACCESS[given.mode] : data);
    }
    const { x87 } = given;
    state.view.setUint16(FCW, x87.fcw, true);
    state.view.setUint16(FSW, x87.fsw, true);
    state.view.setUint8(FTW, x87.ftw);
    for (let index = 0; index < 8; index += 1) {
      const at = X87 + physicalRegister(x87.fsw, index) * 16;
      state.view.setBigUint64(at, BigInt.asUintN(64, x87.st[index]!), true);
      state.view.setUint16(at + 8, Number(x87.st[index]! >> 64n), true);
    }
    for (let index = 0; index < 16; index += 1) {
      state.set64(XMM + index * 16, BigInt.asUintN(64, given.xmm[index]!));
      state.set64(XMM + index * 16 + 8, given.xmm[index]! >> 64n);
    }
    state.set32(MXCSR, given.mxcsr);
  }

  #leave(given: StepCase): Omit<StepOutcome, 'exception' | 'retired'> {
    const state = this.#state;
    const fsw = state.view.getUint16(FSW, true);
    return {
      gpr: Array.from({ length: 16 }, (_, index) => state.get64(GPR + index * 8)),
      rip: state.get64(RIP),
      rflags: state.rflags,
      xmm: Array.from(
        { length: 16 },
        (_, index) => (state.get64(XMM + index * 16 + 8) << 64n) | state.get64(XMM + index * 16),
      ),
      mxcsr: state.get32(MXCSR),
      x87: {
        fcw: state.view.getUint16(FCW, true),
        fsw,
        ftw: state.view.getUint8(FTW),
        st: Array.from({ length: 8 }, (_, index) => {
          const at = X87 + physicalRegister(fsw, index) * 16;
          return (BigInt(state.view.getUint16(at + 8, true)) << 64n) | state.view.getBigUint64(at, true);
        }),
      },
      memory: given.memory.map(({ address, bytes }) => ({
        address,
        bytes: this.#load(address, bytes.length),
      })),
    };
  }

  #load(address: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const linear = address + BigInt(at);
      const inPage = Number(linear & 0xfffn);
      const frame = this.#frames.get(pageOf(linear))!;
      const part = this.#ram.subarray(frame + inPage, frame + Math.min(PAGE, inPage + length - at));
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

/** Number of a linear page. */
function pageOf(address: bigint): number {
  return Number(BigInt.asUintN(64, address) >> 12n);
}

const GENERAL_PROTECTION = 13;
/** Interrupts whose gates user mode may use under every operating system. */
const USER_GATES = new Set([3, 4]);

/**
 * There is no interrupt table here, so an interrupt instruction ends in #GP with the gate's error code. For those
 * that any system lets through, this is the trap that they are.
 */
function softwareInterrupt(
  given: StepCase,
  fault: { vector: number; errorCode: number },
): { vector: number; length: number } | undefined {
  if (fault.vector !== GENERAL_PROTECTION) return undefined;
  const decoded = decode(given.code, given.mode, OPCODES);
  if (typeof decoded === 'string') return undefined;
  const { opcode, immediate, length } = decoded.instruction;
  const gate = opcode === 0xcd ? Number(immediate & 0xffn) : opcode === 0xce ? 4 : opcode === 0xcc ? 3 : -1;
  return USER_GATES.has(gate) ? { vector: gate, length } : undefined;
}

/** ST(index) in the stack whose top the status word holds [SDM 1 8.1.2]. */
function physicalRegister(fsw: number, index: number): number {
  return ((fsw >> 11) + index) & 7;
}

/** A string instruction behind a repeat prefix. */
export function isRepeated(code: Uint8Array): boolean {
  let repeated = false;
  for (const byte of code) {
    if (byte === 0xf2 || byte === 0xf3) repeated = true;
    else if ((byte >= 0xa4 && byte <= 0xa7) || (byte >= 0xaa && byte <= 0xaf)) return repeated;
    else if (byte >= 0x6c && byte <= 0x6f) return repeated;
    else if ((byte & 0xf0) !== 0x40 && !PREFIXES.has(byte)) return false;
  }
  return false;
}
const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0]);

/** A processor alone: no ports, no device registers, a clock that stands still. */
const NO_ENVIRONMENT: Environment = {
  readPort: (_port, size) => (size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1),
  writePort: () => undefined,
  readMsr: () => undefined,
  writeMsr: () => false,
  taskPriority: () => 0,
  setTaskPriority: () => undefined,
  timestamp: () => 0n,
  random: () => 0n,
  cpuid: () => [0, 0, 0, 0],
};
