import { assert } from '../base/assert.ts';
import type { WasmMemory } from '../wasm/webassembly.ts';
import { STACK_ADDRESS_TEMP } from '../x86/address.ts';
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
import {
  ACCESS_SEGMENT,
  BLOCK_PC,
  CPL,
  CpuState,
  EXIT_REASON,
  EXIT_RECORD,
  FAULT_ERROR,
  FAULT_VECTOR,
  FLAG,
  FLAGS_REST,
  INTERRUPT_SHADOW,
  REMAINING,
  RIP,
  SEGMENT_UNNAMED,
  type Size,
  SLOW_ADDRESS,
  SLOW_VALUE,
} from '../x86/state.ts';
import { instructionBreakpointsAt } from '../x86/system/debug-register.ts';
import { BlockFinder } from './block-finder.ts';
import { CodeCache } from './code-cache.ts';
import { MODE } from './code-mode.ts';
import { EXIT } from './interpreter.ts';
import { type EngineLayout, PAGE_FLAG, RECORD } from './layout.ts';
import { LinearMemory } from './linear-memory.ts';
import { Mmu } from './mmu.ts';
import type { OperationTable } from './operation-table.ts';
import { Pending } from './pending.ts';
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

/** What makes the executor faster without changing what it does. */
export interface Compiler {
  /** A run begins; nothing executes. */
  begin(): void;
  /** A run is over, which used so many counts. */
  end(retired: number): void;
  /** The block of this header, at BLOCK_PC, has been interpreted often. */
  hot(header: number): void;
  /** Finds out whether the compiled block of this header may be entered at BLOCK_PC. */
  permit(header: number): void;
}

/** Why a run ended: the budget is used up, something outside wants attention, or an exception is to be delivered. */
export type RunExit = 'budget' | 'attention' | 'fault';

export interface Hooks {
  /** Asked after every instruction with side effects: must the machine look at timers or interrupts now? */
  attention(): boolean;
}

const BUDGET_MAX = 1 << 30;

/**
 * Runs the guest's instructions, exactly as many as asked. Blocks are executed by an `Execute` (wasm or oracle);
 * what they cannot do comes back here: look-ups, slow memory, system operations, single steps.
 */
export class Engine implements Cpu, SlowPaths {
  readonly state: CpuState;
  readonly environment: Environment;
  readonly mmu: Mmu;
  readonly code: CodeCache;
  readonly memory: LinearMemory;
  /** What keeps the instruction that executes from going on. */
  readonly pending: Pending;
  readonly #layout: EngineLayout;
  readonly #table: OperationTable;
  readonly #u16: Uint16Array;
  readonly #view: DataView;
  readonly #hooks: Hooks;
  readonly #finder: BlockFinder;
  #compiler: Compiler | undefined;
  #execute: Execute = () => {
    throw new Error('no engine');
  };

  /** Counts that the run may still use. */
  #left = 0;
  #budget = 0;
  #exact = true;

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
    this.#table = table;
    this.#hooks = hooks;
    this.#u16 = new Uint16Array(buffer);
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
    const { state, mmu, code } = this;
    const pending = new Pending(mmu);
    this.pending = pending;
    this.memory = new LinearMemory(buffer, layout, state, map, mmu, code, pending, () => {
      this.retired = this.#budget - this.#left - 1;
    });
    this.#finder = new BlockFinder({ buffer, layout, state, map, mmu, code, pending });
    this.mmu.storedByWalker = (page, offset, length, fetches) => {
      if (!fetches && !this.pending.stepping && this.code.touches(page, offset, length)) return false;
      this.code.invalidate(page, offset, length);
      return true;
    };
  }

  useExecutor(execute: Execute, compiler?: Compiler): void {
    this.#execute = execute;
    this.#compiler = compiler;
  }

  /** The next instruction meets no breakpoint on it. */
  set resumes(resumes: boolean) {
    this.#finder.resumes = resumes;
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
    this.#finder.selectMode();
    this.#compiler?.begin();
    state.set64(BLOCK_PC, state.get64(RIP));
    const exit = this.#run();
    this.retired = this.#budget - this.#left;
    this.#compiler?.end(this.retired);
    return exit;
  }

  #run(): RunExit {
    const state = this.state;
    let header = 0;
    while (this.#left > 0) {
      state.i32[REMAINING >> 2] = this.#left;
      this.pending.begin();
      const reason = this.#execute(this.#layout.cpu, header);
      this.#left = state.i32[REMAINING >> 2]!;
      const record = state.i32[EXIT_RECORD >> 2]!;
      header = 0;
      switch (reason) {
        case EXIT.budget:
          this.#arrive();
          if (this.#left === 0) return 'budget';
          if (this.code.isDead(record)) {
            const { clears } = this.code;
            header = this.#finder.resolve(0);
            if (header === 0) return 'fault';
            // A block that crosses pages hangs on a second translation.
            if (this.code.clears === clears && this.code.blockAt(header)?.secondPage === -1)
              this.code.forward(record, header);
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
          header = this.#finder.resolve(reason === EXIT.link ? record : 0);
          if (header === 0) return 'fault';
          break;
        case EXIT.hot:
          this.#compiler?.hot(record);
          this.#arrive();
          header = record;
          break;
        case EXIT.permit:
          this.#compiler?.permit(record);
          this.#arrive();
          header = record;
          break;
        case EXIT.slow: {
          this.#abandon(record);
          if (!this.pending.restartWanted) return 'fault';
          const exit = this.#step();
          if (exit !== undefined) return exit;
          break;
        }
        case EXIT.fault:
          this.#abandon(record);
          this.pending.raise(state.i32[FAULT_VECTOR >> 2]!, state.i32[FAULT_ERROR >> 2]!);
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
    this.pending.stepping = true;
    this.pending.breakpointsMet = 0;
    this.#left -= 1;
    state.set64(BLOCK_PC, state.get64(RIP));
    this.mmu.selectEpoch(this.#finder.mode | MODE.step, this.#finder.codeBase);
    let header = 0;
    let exit: RunExit | undefined;
    for (let done = false; !done; ) {
      state.i32[REMAINING >> 2] = 1;
      this.pending.begin();
      const reason = this.#execute(this.#layout.cpu, header);
      const record = state.i32[EXIT_RECORD >> 2]!;
      done = true;
      if (reason === EXIT.system) {
        // It selects the mode and epoch anew.
        exit = this.#system(record);
        this.pending.stepping = false;
        return exit;
      }
      if (reason === EXIT.slow || reason === EXIT.fault) {
        this.#left += 1;
        state.set64(RIP, state.get64(BLOCK_PC));
        assert(!this.pending.restartWanted, 'a single step is never restarted');
        if (reason === EXIT.fault)
          this.pending.raise(state.i32[FAULT_VECTOR >> 2]!, state.i32[FAULT_ERROR >> 2]!);
        exit = 'fault';
      } else if (state.i32[REMAINING >> 2] === 0) {
        this.#arrive();
        exit = this.#hooks.attention() ? 'attention' : undefined;
      } else {
        assert(reason !== EXIT.link, 'single steps are not linked');
        header = this.#finder.resolve(0, MODE.step);
        if (header === 0) {
          this.#left += 1;
          exit = 'fault';
        } else {
          done = false;
        }
      }
    }
    this.pending.stepping = false;
    // A store may have dropped translations, and with them the epochs.
    this.mmu.selectEpoch(this.#finder.mode, this.#finder.codeBase);
    return exit;
  }

  /** RIP is where the next block starts. Outside 64-bit code addresses wrap at 4 GiB: the jump cache has no other. */
  #arrive(): void {
    const state = this.state;
    if ((this.#finder.mode & MODE.codeMask) !== MODE.code64) state.i32[(BLOCK_PC >> 2) + 1] = 0;
    state.set64(RIP, state.get64(BLOCK_PC));
  }

  /** The instruction of this record did not retire: RIP and the count go back to it. */
  #abandon(record: number): void {
    const state = this.state;
    state.set64(RIP, BigInt.asUintN(64, state.get64(BLOCK_PC) + BigInt(this.code.offset(record))));
    this.#left += this.code.refund(record);
  }

  /** Lets the caller deliver an interrupt or exception: accesses are made as by a single step. */
  deliver<Result>(delivery: () => Result): Result {
    this.pending.stepping = true;
    this.pending.begin();
    this.state.i32[ACCESS_SEGMENT >> 2] = SEGMENT_UNNAMED;
    const result = delivery();
    this.pending.breakpointsMet = 0;
    this.pending.stepping = false;
    return result;
  }

  #system(record: number): RunExit | undefined {
    const state = this.state;
    // Behind a quick way that did not succeed there may be more of the block.
    this.#left += this.code.refund(record) - 1;
    const offset = this.code.offset(record);
    this.#setPc(offset + this.code.instructionLength(record));
    if ((this.#finder.mode & MODE.codeMask) !== MODE.code64) state.i32[(RIP >> 2) + 1] = 0;
    const wasStepping = this.pending.stepping;
    if (!wasStepping) this.pending.breakpointsMet = 0;
    this.pending.stepping = true;
    this.pending.begin();
    this.retired = this.#budget - this.#left - 1;
    const outcome = this.#perform(record);
    this.pending.stepping = wasStepping;
    if (outcome === ABORTED) {
      this.#setPc(offset);
      this.#left += 1;
      return 'fault';
    }
    if (outcome === AGAIN) this.#goOn(offset);
    this.#finder.selectMode();
    state.i32[BLOCK_PC >> 2] = state.i32[RIP >> 2]!;
    state.i32[(BLOCK_PC >> 2) + 1] = state.i32[(RIP >> 2) + 1]!;
    if (this.#hooks.attention()) return 'attention';
    if (state.i32[INTERRUPT_SHADOW >> 2] === 0) return undefined;
    // The instruction behind STI or a load of SS runs alone: after it interrupts are looked at again.
    if (wasStepping || this.#left === 0) return 'attention';
    this.#finder.resumes = state.i32[INTERRUPT_SHADOW >> 2] === 1;
    state.i32[INTERRUPT_SHADOW >> 2] = 0;
    const exit = this.#step();
    this.#finder.resumes = false;
    return exit;
  }

  /** A repeated string is not over. Its breakpoint has been met before the first iteration: RF is set between them. */
  #goOn(offset: number): void {
    this.#setPc(offset);
    if ((this.#finder.mode & MODE.breakpoints) === 0) return;
    const { state } = this;
    const low = (state.i32[RIP >> 2]! + this.#finder.codeBase) | 0;
    if (instructionBreakpointsAt(state, low, state.i32[(RIP >> 2) + 1]!) !== 0)
      state.i32[FLAGS_REST >> 2]! |= FLAG.rf;
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
    const b = this.#u16[half + 2]!;
    const outcome = operation.run(this, b, this.#u16[half + 3]!, immediate);
    if (outcome === ABORTED && b === STACK_ADDRESS_TEMP) this.pending.stackFault();
    return outcome;
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
      this.memory.permitted(low, high, size, user, (access & ~0xff) !== ACCESS.load) &&
      ((access & ~0xff) === ACCESS.store
        ? this.memory.write(low, high, value, size, user)
        : this.memory.read(low, high, value, size, user, (access & ~0xff) === ACCESS.loadForWrite));
    if (done) return 0;
    const half = record >>> 1;
    if (this.#table.accessesStack(this.#u16[half]!, this.#u16[half + 2]!)) this.pending.stackFault();
    state.i32[EXIT_REASON >> 2] = EXIT.slow;
    state.i32[EXIT_RECORD >> 2] = record;
    return 1;
  }

  call(record: number): number {
    this.pending.begin();
    const outcome = this.#perform(record);
    if (outcome !== ABORTED) return 0;
    this.state.i32[EXIT_REASON >> 2] = EXIT.slow;
    this.state.i32[EXIT_RECORD >> 2] = record;
    return 1;
  }

  // ------------------------------------------------------------------------------------------ Cpu

  load(size: Size, linear: bigint, privilege?: Privilege): bigint | undefined {
    return this.memory.load(size, linear, privilege);
  }

  store(size: Size, linear: bigint, value: bigint, privilege?: Privilege): boolean {
    return this.memory.store(size, linear, value, privilege);
  }

  loadBytes(linear: bigint, length: number, privilege?: Privilege): Uint8Array | undefined {
    return this.memory.loadBytes(linear, length, privilege);
  }

  storeBytes(linear: bigint, bytes: Uint8Array, privilege?: Privilege): boolean {
    return this.memory.storeBytes(linear, bytes, privilege);
  }

  probe(linear: bigint, length: number, access: 'read' | 'write', privilege?: Privilege): boolean {
    return this.memory.probe(linear, length, access, privilege);
  }

  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined {
    return this.memory.span(linear, length, access, privilege);
  }

  fault(vector: number, errorCode?: number): Outcome {
    return this.pending.fault(vector, errorCode);
  }

  takeFault(): PendingFault | undefined {
    return this.pending.takeFault();
  }

  meet(breakpoints: number): void {
    this.pending.breakpointsMet |= breakpoints;
  }

  get budget(): number {
    return this.#left + 1;
  }

  charge(iterations: number): void {
    this.#left -= iterations;
    assert(this.#left >= 0, 'no more iterations than the budget allows');
  }
}
