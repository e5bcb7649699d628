import { assert } from '../base/assert.ts';
import { type GuestNanoseconds, type InstructionCount, instructionCount } from '../base/units.ts';
import type { Interrupts } from '../device/interrupts.ts';
import type { Engine } from '../engine/engine.ts';
import type { Jit } from '../engine/jit/jit.ts';
import {
  deliverFault,
  deliverInterrupt,
  deliverSingleStep,
  singleStepDue,
  singleStepping,
} from '../x86/faults.ts';
import {
  CPL,
  FLAG,
  FLAGS_REST,
  HALTED,
  INTERRUPT_SHADOW,
  NMI_BLOCKED,
  QUIET,
  SINGLE_STEP_TRAP,
} from '../x86/state.ts';
import type { PowerOutput, StopReason } from './door.ts';
import type { GuestTime } from './guest-time.ts';
import type { Timers } from './timers.ts';

/** The stop word is looked at this often, in counts. */
const STOP_CHECK = 65_536n;
const FLAG_IF = 0x200;

export interface ProcessorParts {
  readonly engine: Engine;
  readonly jit: Jit | undefined;
  readonly time: GuestTime;
  readonly timers: Timers;
  readonly interrupts: Interrupts;
  readonly onPower: (output: PowerOutput) => void;
}

/**
 * The vCPU between its inputs: the engine runs up to what is due at an exact count, a timer, a trap or an interrupt, and
 * that is delivered there.
 */
export class Processor {
  readonly #parts: ProcessorParts;
  #count = 0n;
  #running = false;
  #attention = false;
  #interpretedUntil: bigint | undefined;
  /** Nothing runs any more. */
  power: PowerOutput | undefined;
  /** Set to nonzero (by anyone) to make runUntil return soon. */
  readonly stopWord = new Int32Array(new SharedArrayBuffer(4));

  constructor(parts: ProcessorParts) {
    this.#parts = parts;
    parts.interrupts.onChange = () => {
      this.#attention = true;
      parts.engine.state.set32(QUIET, 0);
    };
  }

  /** Exact at every moment, also while the engine runs. */
  get count(): InstructionCount {
    return instructionCount(this.#running ? this.#count + BigInt(this.#parts.engine.retired) : this.#count);
  }

  /** As of a saved state. */
  startAt(count: bigint, power: PowerOutput | undefined): void {
    this.#count = count;
    this.power = power;
  }

  get guestTime(): GuestNanoseconds {
    return this.#parts.time.now(this.count);
  }

  /** The machine is off: for the first reason that there is. */
  powered(output: PowerOutput): void {
    if (this.power !== undefined) return;
    this.power = output;
    this.#parts.onPower(output);
  }

  /** A timer's deadline moved, or much was put out: the engine must stop and look, at the stop word too. */
  notice(): void {
    this.#attention = true;
  }

  runUntil(until: InstructionCount): StopReason {
    const { engine, time, timers } = this.#parts;
    const { state } = engine;
    for (;;) {
      if (this.power !== undefined) return 'powered-off';
      if (this.#count >= until) return 'count';
      if (this.#interpretedUntil !== undefined) this.#leaveInterpreter();
      if (Atomics.load(this.stopWord, 0) !== 0) return 'stop-requested';
      this.#attention = false;
      const now = time.now(instructionCount(this.#count));
      while (timers.fireOne(now)) if (this.power !== undefined) return 'powered-off';
      if (this.#deliverTrap() || this.#deliverInterrupt()) continue;
      if (state.get32(HALTED) !== 0) return 'halted';
      let budget = until - this.#count;
      // Looking at the stop word is due about now, not at an exact count.
      let exact = budget <= STOP_CHECK;
      if (!exact) budget = STOP_CHECK;
      const deadline = timers.nextDeadline;
      if (deadline !== undefined) {
        const due = time.countAt(deadline);
        if (due !== undefined && due - this.#count <= budget) {
          budget = due - this.#count;
          exact = true;
        }
      }
      this.#runEngine(Number(budget), exact);
    }
  }

  /** Uses no compiled code until about this count. */
  interpretUntil(count: InstructionCount): void {
    this.#interpretedUntil = count;
    const { jit } = this.#parts;
    if (jit) jit.suspended = true;
  }

  /** What the engine asks behind every instruction with side effects: must timers or interrupts be looked at now? */
  wantsAttention(): boolean {
    const { engine } = this.#parts;
    const { state } = engine;
    const pending = this.#lookForInterrupts();
    return (
      this.#attention ||
      this.power !== undefined ||
      engine.pending.breakpointsMet !== 0 ||
      state.get32(HALTED) !== 0 ||
      (state.get32(FLAGS_REST) & (FLAG.tf | FLAG.rf)) !== 0 ||
      this.#nmiDeliverable() ||
      ((state.get32(FLAGS_REST) & FLAG_IF) !== 0 && pending)
    );
  }

  #leaveInterpreter(): void {
    if (this.#interpretedUntil === undefined || this.#count < this.#interpretedUntil) return;
    this.#interpretedUntil = undefined;
    const { jit } = this.#parts;
    if (jit) jit.suspended = false;
  }

  #runEngine(budget: number, exact: boolean): void {
    const { engine, time } = this.#parts;
    const { pending, state } = engine;
    // The instruction behind STI or a load of SS runs alone; then interrupts are looked at again.
    const shadow = state.get32(INTERRUPT_SHADOW) !== 0;
    const afterStackLoad = state.get32(INTERRUPT_SHADOW) === 1;
    const single = singleStepping(engine);
    // RF holds for one instruction, which runs alone.
    const resumes = (state.get32(FLAGS_REST) & FLAG.rf) !== 0;
    const privilege = state.get32(CPL);
    if (shadow) state.set32(INTERRUPT_SHADOW, 0);
    if (single) state.set32(SINGLE_STEP_TRAP, 1);
    if (resumes) state.set32(FLAGS_REST, state.get32(FLAGS_REST) & ~FLAG.rf);
    engine.resumes = resumes || afterStackLoad;
    if (shadow || single || resumes) budget = 1;
    time.publish(state, this.#count + BigInt(budget));
    this.#lookForInterrupts();
    engine.retired = 0;
    this.#running = true;
    const exit = engine.run(budget, exact);
    this.#running = false;
    engine.resumes = false;
    this.#count += BigInt(engine.retired);
    if (single && (exit === 'fault' || engine.retired === 0 || !singleStepDue(engine, privilege)))
      state.set32(SINGLE_STEP_TRAP, 0);
    // A fault is taken instead of the trap: the instruction will run once more.
    if (exit !== 'fault')
      state.set32(SINGLE_STEP_TRAP, state.get32(SINGLE_STEP_TRAP) | (pending.breakpointsMet << 1));
    pending.breakpointsMet = 0;
    if (exit === 'fault') {
      const fault = engine.takeFault();
      assert(fault !== undefined, 'a fault ended the run');
      this.#deliver(() => deliverFault(engine, fault));
    }
  }

  /** Delivers the trap of TF and of data breakpoints, at a count of its own: a run may end between the instruction and its trap. */
  #deliverTrap(): boolean {
    const { engine } = this.#parts;
    const causes = engine.state.get32(SINGLE_STEP_TRAP);
    if (causes === 0) return false;
    engine.state.set32(SINGLE_STEP_TRAP, 0);
    this.#deliver(() => deliverSingleStep(engine, causes));
    return true;
  }

  /** Delivers a pending interrupt when the guest can take it. */
  #deliverInterrupt(): boolean {
    const { engine, interrupts } = this.#parts;
    const { state } = engine;
    if (state.get32(INTERRUPT_SHADOW) !== 0) return false;
    if (this.#nmiDeliverable()) {
      interrupts.acknowledgeNmi();
      state.set32(HALTED, 0);
      state.set32(NMI_BLOCKED, 1);
      this.#deliver(() => deliverInterrupt(engine, 2));
      return true;
    }
    if ((state.get32(FLAGS_REST) & FLAG_IF) === 0 || !interrupts.pending()) return false;
    const vector = interrupts.acknowledge();
    state.set32(HALTED, 0);
    this.#deliver(() => deliverInterrupt(engine, vector));
    return true;
  }

  #nmiDeliverable(): boolean {
    const { engine, interrupts } = this.#parts;
    return interrupts.nmiPending() && engine.state.get32(NMI_BLOCKED) === 0;
  }

  #deliver(delivery: () => 'delivered' | 'triple-fault'): void {
    // A delivery counts: an endless loop of exceptions makes progress [design 2].
    const result = this.#parts.engine.deliver(delivery);
    this.#count += 1n;
    if (result === 'triple-fault') this.powered({ kind: 'power', state: 'triple-fault', value: 0 });
  }

  /** Is an interrupt pending? What asks, after everything that may have made it so, tells the quick STI and POPF. */
  #lookForInterrupts(): boolean {
    const { engine, interrupts } = this.#parts;
    const pending = interrupts.pending();
    engine.state.set32(QUIET, pending || interrupts.nmiPending() ? 0 : 1);
    return pending;
  }
}
