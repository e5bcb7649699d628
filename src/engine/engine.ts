import { assert } from '../base/assert.ts';
import type { WasmMemory } from '../wasm/webassembly.ts';
import {
  ABORTED,
  AGAIN,
  type Cpu,
  type Environment,
  type Outcome,
  type PendingFault,
  type Privilege,
} from '../x86/cpu.ts';
import type { OpcodeMap } from '../x86/opcode-map.ts';
import { ACCESS_EXECUTE, ACCESS_READ, ACCESS_WRITE, type AccessKind } from '../x86/paging.ts';
import {
  BLOCK_PC,
  CPL,
  CpuState,
  CR0,
  CR4,
  EFER,
  EPOCH,
  EXIT_REASON,
  EXIT_RECORD,
  FAULT_ERROR,
  FAULT_VECTOR,
  INTERRUPT_SHADOW,
  REMAINING,
  RIP,
  SEGMENT,
  SEGMENT_ACCESS,
  type Size,
  SLOW_ADDRESS,
  SLOW_VALUE,
} from '../x86/state.ts';
import { type Block, CodeCache, MODE } from './code-cache.ts';
import { EXIT } from './interpreter.ts';
import { type EngineLayout, JUMP_ENTRY, jumpSlot, PAGE, RECORD } from './layout.ts';
import { Mmu, PAGE_FLAG } from './mmu.ts';
import type { OperationTable } from './operation-table.ts';
import type { PhysicalMap } from './physical-map.ts';
import { ACCESS } from './wasm-semantics.ts';

/** Runs records from a block header on; the contract of the generated interpreter (interpreter.ts). */
export type Execute = (cpu: number, header: number) => number;

/** What executing records calls back into. */
export interface SlowPaths {
  /** A memory access that the translation cache does not cover; nonzero: leave. */
  slow(record: number, access: number): number;
  /** A `call` record; nonzero: leave. */
  call(record: number): number;
}

/** Why a run ended: the budget is used up, something outside wants attention, or an exception is to be delivered. */
export type RunExit = 'budget' | 'attention' | 'fault';

export interface Hooks {
  /** Asked after every instruction with side effects: must the machine look at timers or interrupts now? */
  attention(): boolean;
}

const BUDGET_MAX = 1 << 30;
const RESTART = -1;

/**
 * Runs the guest's instructions, exactly as many as asked. Blocks are executed by an `Execute` (wasm or oracle);
 * what they cannot do comes back here: look-ups, slow memory, system operations, single steps.
 */
export class Engine implements Cpu, SlowPaths {
  readonly state: CpuState;
  readonly environment: Environment;
  readonly mmu: Mmu;
  readonly code: CodeCache;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  readonly #view: DataView;
  readonly #hooks: Hooks;
  #execute: Execute = () => {
    throw new Error('no engine');
  };

  /** Counts that the run may still use. */
  #left = 0;
  #budget = 0;
  #exact = true;
  /** True while one instruction runs alone, so accesses with side effects may be made. */
  #stepping = false;
  /** A pending fault's vector, or RESTART, or 0 with nothing pending. */
  #pending: number | undefined;
  /** The fault that ended the run, for takeFault. The error code is -1 when there is none. */
  #faultVector = 0;
  #faultError = -1;
  #faultLow = 0;
  #faultHigh = 0;
  #mode = 0;

  constructor(
    memory: WasmMemory,
    layout: EngineLayout,
    table: OperationTable,
    opcodes: OpcodeMap,
    map: PhysicalMap,
    environment: Environment,
    hooks: Hooks,
  ) {
    const { buffer } = memory;
    this.state = new CpuState(buffer, layout.cpu);
    this.environment = environment;
    this.#layout = layout;
    this.#map = map;
    this.#hooks = hooks;
    this.#u8 = new Uint8Array(buffer);
    this.#u16 = new Uint16Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.#view = new DataView(buffer);
    this.mmu = new Mmu(buffer, layout, this.state, map);
    this.code = new CodeCache(buffer, layout, table, opcodes, (page, code) => {
      if (code) {
        if (this.mmu.flags[page] === 0) this.mmu.dropWriteTags(page);
        this.mmu.flags[page]! |= PAGE_FLAG.code;
      } else {
        this.mmu.flags[page]! &= ~PAGE_FLAG.code;
      }
    });
    this.mmu.storedByWalker = (page, offset, length) => this.code.invalidate(page, offset, length);
  }

  useExecutor(execute: Execute): void {
    this.#execute = execute;
  }

  // ------------------------------------------------------------------------------------------ running

  /** Counts used by the present run up to (not including) the instruction that is executing. */
  retired = 0;

  /**
   * Executes at most `budget` counts from RIP on; when not `exact` it may stop earlier, but not at once. Afterwards `retired` tells how many were used; RIP and all state
   * are exact. On 'fault' RIP is the faulting instruction's; takeFault gives the exception.
   */
  run(budget: number, exact: boolean): RunExit {
    const state = this.state;
    this.#budget = Math.min(budget, BUDGET_MAX);
    this.#left = this.#budget;
    this.#exact = exact;
    this.#mode = this.#modeKey();
    this.mmu.select(this.#mode);
    state.set64(BLOCK_PC, state.get64(RIP));
    const exit = this.#run();
    this.retired = this.#budget - this.#left;
    return exit;
  }

  #run(): RunExit {
    const state = this.state;
    let header = 0;
    while (this.#left > 0) {
      state.i32[REMAINING >> 2] = this.#left;
      this.#pending = undefined;
      const reason = this.#execute(this.#layout.cpu, header);
      this.#left = state.i32[REMAINING >> 2]!;
      const record = state.i32[EXIT_RECORD >> 2]!;
      header = 0;
      switch (reason) {
        case EXIT.budget:
          this.#arrive();
          if (this.#left === 0) return 'budget';
          if (this.code.isDead(record)) {
            header = this.#resolve(0);
            if (header === 0) return 'fault';
          } else {
            if (!this.#exact && this.#left < this.#budget) return 'budget';
            const exit = this.#step();
            if (exit !== undefined) return exit;
          }
          break;
        case EXIT.lookup:
        case EXIT.link:
          this.#arrive();
          if (this.#left === 0) return 'budget';
          header = this.#resolve(reason === EXIT.link ? record : 0);
          if (header === 0) return 'fault';
          break;
        case EXIT.slow: {
          this.#abandon(record);
          if (this.#pending !== RESTART) return 'fault';
          const exit = this.#step();
          if (exit !== undefined) return exit;
          break;
        }
        case EXIT.fault:
          this.#abandon(record);
          this.#raise(state.i32[FAULT_VECTOR >> 2]!, state.i32[FAULT_ERROR >> 2]!);
          return 'fault';
        case EXIT.system: {
          const exit = this.#system(record);
          if (exit !== undefined) return exit;
          break;
        }
        default:
          assert(false, `the interpreter left with ${reason}`);
      }
    }
    return 'budget';
  }

  /** Executes exactly one instruction at RIP; accesses with side effects are made. */
  #step(): RunExit | undefined {
    const state = this.state;
    this.#stepping = true;
    this.#left -= 1;
    state.set64(BLOCK_PC, state.get64(RIP));
    this.mmu.selectEpoch(this.#mode | MODE.step);
    let header = 0;
    let exit: RunExit | undefined;
    for (let done = false; !done; ) {
      state.i32[REMAINING >> 2] = 1;
      this.#pending = undefined;
      const reason = this.#execute(this.#layout.cpu, header);
      const record = state.i32[EXIT_RECORD >> 2]!;
      done = true;
      if (reason === EXIT.system) {
        // It selects the mode and epoch anew.
        exit = this.#system(record);
        this.#stepping = false;
        return exit;
      }
      if (reason === EXIT.slow || reason === EXIT.fault) {
        this.#left += 1;
        state.set64(RIP, state.get64(BLOCK_PC));
        assert(this.#pending !== RESTART, 'a single step is never restarted');
        if (reason === EXIT.fault) this.#raise(state.i32[FAULT_VECTOR >> 2]!, state.i32[FAULT_ERROR >> 2]!);
        exit = 'fault';
      } else if (state.i32[REMAINING >> 2] === 0) {
        this.#arrive();
        exit = this.#hooks.attention() ? 'attention' : undefined;
      } else {
        assert(reason !== EXIT.link, 'single steps are not linked');
        header = this.#resolve(0, MODE.step);
        if (header === 0) {
          this.#left += 1;
          exit = 'fault';
        } else {
          done = false;
        }
      }
    }
    this.#stepping = false;
    // A store may have dropped translations, and with them the epochs.
    this.mmu.selectEpoch(this.#mode);
    return exit;
  }

  /** RIP is where the next block starts. Outside 64-bit code addresses wrap at 4 GiB: the jump cache has no other. */
  #arrive(): void {
    const state = this.state;
    if ((this.#mode & MODE.codeMask) !== MODE.code64) state.i32[(BLOCK_PC >> 2) + 1] = 0;
    state.set64(RIP, state.get64(BLOCK_PC));
  }

  /** The instruction of this record did not retire: RIP and the count go back to it. */
  #abandon(record: number): void {
    const state = this.state;
    state.set64(RIP, BigInt.asUintN(64, state.get64(BLOCK_PC) + BigInt(this.code.offset(record))));
    this.#left += this.code.refund(record);
  }

  #raise(vector: number, errorCode: number): void {
    this.#faultVector = vector;
    this.#faultError = errorCode;
  }

  takeFault(): PendingFault | undefined {
    if (this.#faultVector < 0) return undefined;
    const address = (BigInt(this.#faultHigh >>> 0) << 32n) | BigInt(this.#faultLow >>> 0);
    const fault = { vector: this.#faultVector, errorCode: Math.max(this.#faultError, 0), address };
    this.#faultVector = -1;
    this.#pending = undefined;
    return fault;
  }

  /** Lets the caller deliver an interrupt or exception: accesses are made as by a single step. */
  deliver<Result>(delivery: () => Result): Result {
    this.#stepping = true;
    this.#pending = undefined;
    this.#faultVector = -1;
    const result = delivery();
    this.#stepping = false;
    return result;
  }

  #system(record: number): RunExit | undefined {
    const state = this.state;
    const offset = this.code.offset(record);
    this.#setPc(offset + this.code.instructionLength(record));
    if ((this.#mode & MODE.codeMask) !== MODE.code64) state.i32[(RIP >> 2) + 1] = 0;
    const wasStepping = this.#stepping;
    this.#stepping = true;
    this.#pending = undefined;
    this.retired = this.#budget - this.#left - 1;
    const outcome = this.#perform(record);
    this.#stepping = wasStepping;
    if (outcome === ABORTED) {
      this.#setPc(offset);
      this.#left += 1;
      return 'fault';
    }
    if (outcome === AGAIN) this.#setPc(offset);
    this.#mode = this.#modeKey();
    this.mmu.select(this.#mode);
    state.i32[BLOCK_PC >> 2] = state.i32[RIP >> 2]!;
    state.i32[(BLOCK_PC >> 2) + 1] = state.i32[(RIP >> 2) + 1]!;
    if (this.#hooks.attention()) return 'attention';
    if (state.i32[INTERRUPT_SHADOW >> 2] === 0) return undefined;
    // The instruction behind STI or a load of SS runs alone: after it interrupts are looked at again.
    if (wasStepping || this.#left === 0) return 'attention';
    state.i32[INTERRUPT_SHADOW >> 2] = 0;
    return this.#step();
  }

  /** RIP = BLOCK_PC + offset, in halves: this runs at every system call. */
  #setPc(offset: number): void {
    const { i32 } = this.state;
    const low = (i32[BLOCK_PC >> 2]! >>> 0) + offset;
    i32[RIP >> 2] = low;
    i32[(RIP >> 2) + 1] = i32[(BLOCK_PC >> 2) + 1]! + (low > 0xffff_ffff ? 1 : 0);
  }

  #perform(record: number): Outcome {
    const half = record >>> 1;
    const operation = this.code.systemOperations[this.#u16[half + 1]!]!;
    const immediate = this.#view.getBigInt64(record + RECORD.immediate, true);
    return operation.run(this, this.#u16[half + 2]!, this.#u16[half + 3]!, immediate);
  }

  // ------------------------------------------------------------------------------------------ finding code

  #modeKey(): number {
    const state = this.state;
    const access = state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4);
    const long = (state.get32(EFER) & 0x400) !== 0;
    let mode: number = long && access & 0x2000 ? MODE.code64 : access & 0x4000 ? MODE.code32 : MODE.code16;
    const cr0 = state.get32(CR0);
    const em = (cr0 & 4) !== 0;
    const ts = (cr0 & 8) !== 0;
    if (em || (state.get32(CR4) & 0x200) === 0) mode |= MODE.sseUndefined;
    if (em) mode |= MODE.mmxUndefined;
    if (ts) mode |= MODE.sseUnavailable;
    if (em || ts) mode |= MODE.x87Unavailable;
    if (ts && cr0 & 2) mode |= MODE.waitUnavailable;
    return mode;
  }

  /** Finds or decodes the block at BLOCK_PC. 0: a fetch fault is pending. `branch`: to be linked, or 0. */
  #resolve(branch: number, step = 0): number {
    const state = this.state;
    const low = state.i32[BLOCK_PC >> 2]!;
    const high = state.i32[(BLOCK_PC >> 2) + 1]!;
    const user = state.get32(CPL) === 3;
    const page = this.mmu.translate(low, high, ACCESS_EXECUTE, user);
    if (page < 0) {
      this.#pageFault(low, high);
      return 0;
    }
    this.mmu.watchCode(low, high);
    const offset = this.#map.ramOffset(page);
    if (offset < 0) {
      // No code runs from devices or from nowhere: all such bytes read as an undefined instruction.
      this.#raise(6, -1);
      return 0;
    }
    const start = offset + (low & 0xfff);
    const mode = this.#mode | step;
    let fetchFailed = false;
    let second: { page: number; bytes: Uint8Array } | undefined;
    const secondPage = () => {
      if (second !== undefined || fetchFailed) return second;
      const nextLow = ((low & ~0xfff) + PAGE) | 0;
      const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
      const address = this.mmu.translate(nextLow, nextHigh, ACCESS_EXECUTE, user);
      if (address < 0) {
        this.#pageFault(nextLow, nextHigh);
        fetchFailed = true;
        return undefined;
      }
      this.mmu.watchCode(nextLow, nextHigh);
      const ram = this.#map.ramOffset(address);
      const bytes =
        ram < 0
          ? new Uint8Array(15).fill(0xff)
          : this.#u8.subarray(this.#layout.ram + ram, this.#layout.ram + ram + 15);
      second = { page: ram < 0 ? -2 : ram / PAGE, bytes };
      return second;
    };
    let block: Block | undefined = this.code.find(start, mode, () => secondPage()?.page ?? -3);
    if (fetchFailed) return 0;
    if (block === undefined) {
      if (this.code.full) {
        this.code.clear();
        this.mmu.forgetCode();
        this.mmu.selectEpoch(mode);
        branch = 0;
      }
      block = this.code.build(start, mode, secondPage);
      if (block === undefined) return 0;
    }
    if (branch !== 0 && block.secondPage === -1) this.code.link(branch, block.header);
    const epoch = state.i32[EPOCH >> 2]!;
    const entry = (this.#layout.jumpCache + jumpSlot(low, high, epoch) * JUMP_ENTRY.size) >>> 2;
    this.#i32[entry] = low;
    this.#i32[entry + 1] = high;
    this.#i32[entry + 2] = epoch;
    this.#i32[entry + 3] = block.header;
    return block.header;
  }

  #pageFault(low: number, high: number): void {
    this.#faultLow = low;
    this.#faultHigh = high;
    this.#raise(this.mmu.faultVector, this.mmu.faultError);
  }

  // ------------------------------------------------------------------------------------------ slow memory

  slow(record: number, access: number): number {
    const state = this.state;
    const low = state.i32[SLOW_ADDRESS >> 2]!;
    const high = state.i32[(SLOW_ADDRESS >> 2) + 1]!;
    const size = access & 0xff;
    const user = state.get32(CPL) === 3;
    const value = state.bytes.subarray(SLOW_VALUE, SLOW_VALUE + 16);
    const done =
      (access & ~0xff) === ACCESS.store
        ? this.#write(low, high, value, size, user)
        : this.#read(low, high, value, size, user, (access & ~0xff) === ACCESS.loadForWrite);
    if (done) return 0;
    state.i32[EXIT_REASON >> 2] = EXIT.slow;
    state.i32[EXIT_RECORD >> 2] = record;
    return 1;
  }

  call(record: number): number {
    this.#pending = undefined;
    const outcome = this.#perform(record);
    if (outcome !== ABORTED) return 0;
    this.state.i32[EXIT_REASON >> 2] = EXIT.slow;
    this.state.i32[EXIT_RECORD >> 2] = record;
    return 1;
  }

  /** Physical page of a linear address, or -1 with the fault pending. */
  #translate(low: number, high: number, access: AccessKind, user: boolean): number {
    const page = this.mmu.translate(low, high, access, user);
    if (page >= 0) return page;
    this.#pageFault(low, high);
    this.#pending = this.mmu.faultVector;
    return -1;
  }

  /** Reads `size` bytes at a linear address into `into`, zero-padded to 8. */
  #read(
    low: number,
    high: number,
    into: Uint8Array,
    size: number,
    user: boolean,
    forWrite: boolean,
  ): boolean {
    const kind = forWrite ? ACCESS_WRITE : ACCESS_READ;
    const inPage = low & 0xfff;
    const page = this.#translate(low, high, kind, user);
    if (page < 0) return false;
    if (inPage + size <= PAGE) {
      const offset = this.#map.ramOffset(page);
      if (offset < 0) return this.#readDevice(page + inPage, into, size);
      if (forWrite && !this.#mayStore(offset + inPage, size)) return false;
      this.mmu.fill(low, high, offset, user);
      const from = this.#layout.ram + offset + inPage;
      if (size < 8) into.fill(0, 0, 8);
      for (let index = 0; index < size; index++) into[index] = this.#u8[from + index]!;
      return true;
    }
    const head = PAGE - inPage;
    const nextLow = ((low & ~0xfff) + PAGE) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, kind, user);
    if (second < 0) return false;
    if (size < 8) into.fill(0, 0, 8);
    const first = this.#map.ramOffset(page);
    const next = this.#map.ramOffset(second);
    if (forWrite && first >= 0 && !this.#mayStore(first + inPage, head)) return false;
    if (forWrite && next >= 0 && !this.#mayStore(next, size - head)) return false;
    return this.#readPart(page + inPage, into, 0, head) && this.#readPart(second, into, head, size - head);
  }

  #readPart(address: number, into: Uint8Array, at: number, length: number): boolean {
    const offset = this.#map.ramOffset(address);
    if (offset < 0) {
      // A device access that crosses pages is made byte by byte.
      for (let index = 0; index < length; index++) {
        if (!this.#readDevice(address + index, into.subarray(at + index), 1)) return false;
      }
      return true;
    }
    const from = this.#layout.ram + offset;
    for (let index = 0; index < length; index++) into[at + index] = this.#u8[from + index]!;
    return true;
  }

  #readDevice(address: number, into: Uint8Array, size: number): boolean {
    if (!this.#stepping) {
      this.#pending = RESTART;
      return false;
    }
    if (size === 16)
      return this.#readDevice(address, into, 8) && this.#readDevice(address + 8, into.subarray(8), 8);
    this.retired = this.#budget - this.#left - 1;
    const value = this.#map.read(address, size);
    for (let index = 0; index < Math.min(8, into.length); index++) {
      into[index] = index < size ? Number((value >> BigInt(index * 8)) & 0xffn) : 0;
    }
    return true;
  }

  #write(low: number, high: number, value: Uint8Array, size: number, user: boolean): boolean {
    const inPage = low & 0xfff;
    const page = this.#translate(low, high, ACCESS_WRITE, user);
    if (page < 0) return false;
    if (inPage + size <= PAGE) {
      const offset = this.#map.ramOffset(page);
      if (offset < 0) return this.#writeDevice(page + inPage, value, size);
      if (!this.#mayStore(offset + inPage, size)) return false;
      this.mmu.fill(low, high, offset, user);
      this.#storeRam(offset + inPage, value, 0, size);
      return true;
    }
    const head = PAGE - inPage;
    const nextLow = ((low & ~0xfff) + PAGE) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, ACCESS_WRITE, user);
    if (second < 0) return false;
    const first = this.#map.ramOffset(page);
    const next = this.#map.ramOffset(second);
    if (first < 0 || next < 0) {
      if (!this.#stepping) {
        this.#pending = RESTART;
        return false;
      }
    }
    if (first >= 0 && !this.#mayStore(first + inPage, head)) return false;
    if (next >= 0 && !this.#mayStore(next, size - head)) return false;
    this.#writePart(page + inPage, value, 0, head);
    this.#writePart(second, value, head, size - head);
    return true;
  }

  #writePart(address: number, value: Uint8Array, at: number, length: number): void {
    const offset = this.#map.ramOffset(address);
    if (offset >= 0) {
      this.#storeRam(offset, value, at, length);
      return;
    }
    for (let index = 0; index < length; index++)
      this.#map.write(address + index, 1, BigInt(value[at + index]!));
  }

  #writeDevice(address: number, value: Uint8Array, size: number): boolean {
    if (!this.#stepping) {
      this.#pending = RESTART;
      return false;
    }
    this.retired = this.#budget - this.#left - 1;
    for (let at = 0; at < size; at += 8) {
      let bits = 0n;
      for (let index = Math.min(8, size - at) - 1; index >= 0; index--)
        bits = (bits << 8n) | BigInt(value[at + index]!);
      this.#map.write(address + at, Math.min(8, size), bits);
    }
    return true;
  }

  /** False: the store has an effect that only a single step may have; a restart is pending. */
  #mayStore(offset: number, size: number): boolean {
    if (this.#stepping) return true;
    const page = Math.floor(offset / PAGE);
    const flags = this.mmu.flags[page]!;
    if (flags === 0) return true;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code && this.code.touches(page, inPage, size)) {
      this.#pending = RESTART;
      return false;
    }
    if (flags & PAGE_FLAG.table && this.mmu.mayChangeTranslation(page, inPage, size)) {
      this.#pending = RESTART;
      return false;
    }
    return true;
  }

  /** Stores within one RAM page, with all that follows from it. */
  #storeRam(offset: number, value: Uint8Array, at: number, length: number): void {
    const page = Math.floor(offset / PAGE);
    const flags = this.mmu.flags[page]!;
    const to = this.#layout.ram + offset;
    this.mmu.dirty[page] = 1;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code) this.code.invalidate(page, inPage, length);
    if (flags & PAGE_FLAG.table) {
      const first = inPage & ~7;
      const before = this.#u8.slice(
        to - inPage + first,
        to - inPage + Math.min(PAGE, (inPage + length + 7) & ~7),
      );
      for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
      this.mmu.tableStored(page, before, first);
      return;
    }
    for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
  }

  /** A store by a device: within RAM, may cross pages. */
  storePhysical(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, PAGE - ((offset + at) % PAGE));
      const page = Math.floor((offset + at) / PAGE);
      if (this.mmu.flags[page] === 0) {
        this.#u8.set(bytes.subarray(at, at + length), this.#layout.ram + offset + at);
        this.mmu.dirty[page] = 1;
      } else {
        this.#storeRam(offset + at, bytes, at, length);
      }
      at += length;
    }
  }

  // ------------------------------------------------------------------------------------------ Cpu

  #user(privilege: Privilege | undefined): boolean {
    return privilege !== 'supervisor' && this.state.get32(CPL) === 3;
  }

  readonly #scratch = new Uint8Array(16);
  readonly #scratchView = new DataView(this.#scratch.buffer);

  load(size: Size, linear: bigint, privilege?: Privilege): bigint | undefined {
    const low = Number(linear & 0xffff_ffffn) | 0;
    const high = Number((linear >> 32n) & 0xffff_ffffn) | 0;
    if (!this.#read(low, high, this.#scratch, size, this.#user(privilege), false)) return undefined;
    return this.#scratchView.getBigUint64(0, true);
  }

  store(size: Size, linear: bigint, value: bigint, privilege?: Privilege): boolean {
    const low = Number(linear & 0xffff_ffffn) | 0;
    const high = Number((linear >> 32n) & 0xffff_ffffn) | 0;
    this.#scratchView.setBigUint64(0, BigInt.asUintN(64, value), true);
    return this.#write(low, high, this.#scratch, size, this.#user(privilege));
  }

  loadBytes(linear: bigint, length: number, privilege?: Privilege): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const part = Math.min(8, length - at, PAGE - Number(address & 0xfffn));
      const size: Size = part >= 8 ? 8 : part >= 4 ? 4 : part >= 2 ? 2 : 1;
      const value = this.load(size, address, privilege);
      if (value === undefined) return undefined;
      for (let index = 0; index < size; index++)
        bytes[at + index] = Number((value >> BigInt(index * 8)) & 0xffn);
      at += size;
    }
    return bytes;
  }

  storeBytes(linear: bigint, bytes: Uint8Array, privilege?: Privilege): boolean {
    if (!this.probe(linear, bytes.length, 'write', privilege)) return false;
    for (let at = 0; at < bytes.length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const part = Math.min(8, bytes.length - at, PAGE - Number(address & 0xfffn));
      const size: Size = part >= 8 ? 8 : part >= 4 ? 4 : part >= 2 ? 2 : 1;
      let value = 0n;
      for (let index = size - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[at + index]!);
      if (!this.store(size, address, value, privilege)) return false;
      at += size;
    }
    return true;
  }

  probe(linear: bigint, length: number, access: 'read' | 'write', privilege?: Privilege): boolean {
    const user = this.#user(privilege);
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    for (let at = 0; at < length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const low = Number(address & 0xffff_ffffn) | 0;
      const high = Number(address >> 32n) | 0;
      const page = this.#translate(low, high, kind, user);
      if (page < 0) return false;
      const part = Math.min(length - at, PAGE - (low & 0xfff));
      const offset = this.#map.ramOffset(page);
      if (offset < 0 && !this.#stepping) {
        this.#pending = RESTART;
        return false;
      }
      if (offset >= 0 && access === 'write' && !this.#mayStore(offset + (low & 0xfff), part)) return false;
      at += part;
    }
    return true;
  }

  fault(vector: number, errorCode?: number): Outcome {
    this.#pending = vector;
    this.#raise(vector, errorCode ?? -1);
    return ABORTED;
  }

  get budget(): number {
    return this.#left + 1;
  }

  charge(iterations: number): void {
    this.#left -= iterations;
    assert(this.#left >= 0, 'no more iterations than the budget allows');
  }

  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined {
    const low = Number(linear & 0xffff_ffffn) | 0;
    const high = Number((linear >> 32n) & 0xffff_ffffn) | 0;
    if (length === 0 || (low & 0xfff) + length > PAGE) return undefined;
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    const page = this.mmu.translate(low, high, kind, this.#user(privilege));
    if (page < 0) return undefined;
    const offset = this.#map.ramOffset(page);
    if (offset < 0) return undefined;
    const index = Math.floor(offset / PAGE);
    if (access === 'write') {
      if (this.mmu.flags[index] !== 0) return undefined;
      this.mmu.dirty[index] = 1;
    }
    const from = this.#layout.ram + offset + (low & 0xfff);
    return this.#u8.subarray(from, from + length);
  }
}
