import {
  type HostMilliseconds,
  hostMilliseconds,
  type InstructionCount,
  instructionCount,
} from '../base/units.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { CopiedPages } from '../machine/copied-pages.ts';
import type { Input, Machine, Output, OutputSink } from '../machine/door.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import { LOG_START } from '../replay/position.ts';
import { Recorder } from '../replay/recorder.ts';
import { Replayer } from '../replay/replayer.ts';
import { GuestClock } from './guest-clock.ts';
import type { MachineFactory } from './machine-factory.ts';
import type { CopyFigures, VcpuEvents, VcpuPort } from './ports.ts';
import { RunningCopy } from './running-copy.ts';

export type VcpuStep =
  | { readonly kind: 'busy' }
  /**
   * Nothing to do until then, or until a method is called. `heldBack`: the guest could run and may not (paused or
   * slowed); otherwise it waits by itself.
   */
  | { readonly kind: 'idle'; readonly until: HostMilliseconds | undefined; readonly heldBack: boolean };

export interface VcpuOptions {
  /** How often a live machine logs its digest; undefined: never. */
  readonly digestEveryMs: number | undefined;
  /** In replay every disk request is told, whether it is known to have left or not. */
  readonly tellsDiskRequests?: boolean;
}

/** Counts that a replaying vCPU executes before it looks for orders again. */
const REPLAY_STEP_COUNTS = 400_000n;
const REPLAY_STEP_ENTRIES = 256;
/**
 * Interpreted by a survivor from the end of the log on: as much as a primary of 200 MIPS executes between two
 * entries, which are 5 ms apart at most. Much more would be felt by clients.
 */
const INTERPRETED_COUNTS = 1_000_000n;
const QUEUED_FRAMES_MAX = 1024;
/** An entry that nobody waits for waits so long for company, since each crossing costs both hosts: of a busy guest, */
const COMPANY_MS = 12;
/** and of one that is halted. */
const HALTED_COMPANY_MS = 4;
/** How far it has replayed a busy vCPU tells this often, and one that has nothing left at once. */
const TELL_REPLAYED_MS = 10;
/** A slowed vCPU rests for so long at once: a host's timers are not exact, and each rest costs it what its caches hold. */
const REST_MIN_MS = 2;

const BUSY: VcpuStep = { kind: 'busy' };
const IDLE: VcpuStep = { kind: 'idle', until: undefined, heldBack: false };

/**
 * The body of the vCPU's loop over a machine: live, it makes entries and outputs; replaying, it consumes entries.
 * A caller steps it: a worker thread in production, the simulator in tests. Host time comes as data.
 */
export class VcpuLoop implements VcpuPort {
  readonly #factory: MachineFactory;
  readonly #options: VcpuOptions;
  #events!: VcpuEvents;
  #machine: Machine | undefined;
  #sink: OutputSink = { output: () => {} };
  #recorder: Recorder | undefined;
  #replayer: Replayer | undefined;
  #clock: GuestClock | undefined;
  #running = false;
  #inputs: Input[] = [];
  #share = 1;
  #notBefore = Number.NEGATIVE_INFINITY;
  /** Rest that a slowed vCPU owes. */
  #restMs = 0;
  #slice: { readonly since: HostMilliseconds; readonly count: InstructionCount } | undefined;
  #digestAt = Number.NEGATIVE_INFINITY;
  /** When the first entry came that was told and not flushed. */
  #unflushedSince: HostMilliseconds | undefined;
  #now = hostMilliseconds(0);
  #snapshotWanted = false;
  #copyWanted: { readonly number: number; readonly standStill: boolean } | undefined;
  #copy: RunningCopy | undefined;
  /** After the end of its copy the guest executes nothing; and it stands still now. */
  #standStill = false;
  #standsStill = false;
  #staged: CopiedPages | undefined;
  #stagedWrongly: string | undefined;
  #ending = false;
  #released = 0n;
  #told = 0n;
  #toldAt = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(factory: MachineFactory, options: VcpuOptions) {
    this.#factory = factory;
    this.#options = options;
  }

  listen(events: VcpuEvents): void {
    this.#events = events;
  }

  /** The word that makes a running machine return soon. */
  get stopWord(): Int32Array | undefined {
    return this.#machine?.stopWord;
  }

  /** A primary's beginning: the initial image, paused. */
  create(): void {
    const made = this.#factory.create({ output: (output: Output) => this.#sink.output(output) });
    if (!made.ok) {
      this.#fail(made.error);
      return;
    }
    this.#machine = made.value;
    this.#beLive(made.value, LOG_START);
  }

  // ------------------------------------------------------------------------------------------ orders

  run(): void {
    this.#leaveReplay();
    this.#running = true;
  }

  pause(): void {
    this.#leaveReplay();
    this.#running = false;
  }

  /** Go-live: the same machine, and from here on its own history. */
  #leaveReplay(): void {
    const replayer = this.#replayer;
    if (!replayer || !this.#machine) return;
    this.#replayer = undefined;
    // What ended the partner may have been its compiled code, a little further on than its log got.
    this.#machine.interpretUntil?.(instructionCount(this.#machine.count + INTERPRETED_COUNTS));
    this.#beLive(this.#machine, replayer.position);
  }

  input(input: Input): void {
    // A network may drop; nothing else may. So a stopped vCPU's queue does not grow without bound (rule 9).
    if (input.kind === 'frame' && this.#inputs.length >= QUEUED_FRAMES_MAX) return;
    this.#inputs.push(input);
  }

  replay(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      if (entry.kind === 'released' && entry.output > this.#released) this.#released = entry.output;
      this.#replayer?.feed(entry);
    }
  }

  endReplay(): void {
    this.#ending = true;
  }

  setShare(share: number): void {
    this.#share = share;
  }

  snapshot(): void {
    this.#snapshotWanted = true;
  }

  copy(number: number, standStill: boolean): void {
    this.letGo();
    this.#copyWanted = { number, standStill };
  }

  letGo(): void {
    this.#copy = undefined;
    this.#copyWanted = undefined;
    this.#standStill = false;
    this.#standsStill = false;
  }

  copied(parts: number): void {
    this.#copy?.arrived(parts);
  }

  /** A copy may come: where it goes is made now, since a guest that is moved here will stand still meanwhile. */
  prepare(): void {
    this.#staged ??= this.#factory.stage?.();
  }

  forgetStaged(): void {
    this.#staged?.clear();
    this.#stagedWrongly = undefined;
    this.prepare();
  }

  stage(pages: Uint8Array): void {
    this.prepare();
    this.#stagedWrongly ??= this.#staged ? this.#staged.add(pages) : 'this machine is not copied in parts';
  }

  load(snapshot: MachineSnapshot): void {
    const staged = this.#staged;
    const wrong = this.#stagedWrongly;
    this.#staged = undefined;
    this.#stagedWrongly = undefined;
    if (wrong !== undefined) {
      this.#fail(wrong);
      return;
    }
    this.letGo();
    this.#recorder = undefined;
    this.#running = false;
    this.#machine = undefined;
    this.#released = 0n;
    this.#told = 0n;
    this.#ending = false;
    const made = this.#factory.restore(
      snapshot.machine,
      { output: (output) => this.#sink.output(output) },
      staged,
    );
    if (!made.ok) {
      this.#fail(made.error);
      return;
    }
    this.#machine = made.value;
    const replayer = new Replayer(made.value, snapshot.position, {
      onOutput: (output) => {
        // What is known to have left is of no more use to anyone.
        const told = output.output.kind === 'disk-request' && this.#options.tellsDiskRequests === true;
        if (told || output.number > this.#released) this.#events.output(output);
      },
    });
    this.#replayer = replayer;
    this.#sink = replayer;
    this.#events.loaded(made.value.digest(), made.value.pendingDiskRequests());
  }

  stop(): void {
    this.#stopped = true;
  }

  // ------------------------------------------------------------------------------------------ steps

  step(now: HostMilliseconds): VcpuStep {
    const machine = this.#machine;
    this.#now = now;
    if (this.#stopped || !machine) return IDLE;
    try {
      if (this.#replayer) return this.#replayStep(machine, this.#replayer, now);
      if (!this.#recorder) return IDLE;
      this.#copyOn(machine, this.#recorder);
      const step = this.#liveStep(machine, this.#recorder, now);
      return this.#copy?.ready ? BUSY : step;
    } catch (error) {
      // A trap, a failed allocation or a broken invariant stops this side; the guest never sees it (design 3).
      this.#fail(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
      return IDLE;
    }
  }

  #replayStep(machine: Machine, replayer: Replayer, now: HostMilliseconds): VcpuStep {
    const end = machine.count + REPLAY_STEP_COUNTS;
    for (let entries = 0; entries < REPLAY_STEP_ENTRIES && machine.count < end; entries++) {
      const step = replayer.step(REPLAY_STEP_COUNTS);
      if (step.kind === 'busy') continue;
      this.#tellReplayed(machine, replayer, now);
      if (step.kind === 'diverged') {
        this.#stopped = true;
        this.#events.diverged(step.reason);
      } else if (step.kind === 'starved' && this.#ending) {
        this.#ending = false;
        this.#events.replayedToEnd(machine.count, machine.pendingDiskRequests());
      }
      return IDLE;
    }
    if (now - this.#toldAt >= TELL_REPLAYED_MS) this.#tellReplayed(machine, replayer, now);
    return BUSY;
  }

  #tellReplayed(machine: Machine, replayer: Replayer, now: HostMilliseconds): void {
    if (replayer.replayed === this.#told) return;
    this.#told = replayer.replayed;
    this.#toldAt = now;
    this.#events.replayed(replayer.replayed, machine.count);
  }

  #liveStep(machine: Machine, recorder: Recorder, now: HostMilliseconds): VcpuStep {
    this.#measure(machine, now);
    if (this.#snapshotWanted) this.#takeSnapshot(machine, recorder);
    if (this.#standsStill) return this.#idle(undefined, !recorder.halted);
    if (!this.#running) return this.#idle(undefined, !recorder.halted);
    if (machine.orders?.paused === true) return this.#pausedStep(machine, recorder, now);
    if (now < this.#notBefore) {
      // It rests up to hundreds of times a second: its entries still travel together.
      if (this.#notBefore >= this.#unflushedFor(COMPANY_MS)) this.#flush();
      return { kind: 'idle', until: hostMilliseconds(this.#notBefore), heldBack: !recorder.halted };
    }
    this.#clock ??= new GuestClock(now, machine.guestTime);
    const clock = this.#clock;
    clock.seen(now, machine.guestTime);
    const { halted } = recorder;
    const { nextDeadline } = machine;
    if (halted && this.#inputs.length === 0) {
      if (nextDeadline === undefined) return this.#halted(now, undefined);
      if (clock.target(now) < nextDeadline) return this.#halted(now, clock.hostTimeOf(nextDeadline));
    }
    const clockDue = halted || clock.due(now, machine.guestTime);
    if (clockDue) {
      recorder.apply(clock.entry(now, machine.guestTime, halted));
      this.#digestWhenDue(recorder, now);
    }
    for (const input of this.#inputs.splice(0)) recorder.apply(input);
    if (clockDue && now >= this.#unflushedFor(COMPANY_MS)) this.#flush();
    this.#slice = { since: now, count: machine.count };
    const reason = recorder.run(instructionCount(machine.count + clock.sliceCounts()));
    if (reason === 'powered-off' && machine.awaitsRestart === true) {
      // The mark of the reset is in the log; its output waits like any other, the guest does not.
      recorder.apply({ kind: 'control', action: 'restart' });
    } else if (reason === 'powered-off') {
      this.#flush();
      this.#stopped = true;
      this.#events.stopped('powered off', false);
      return IDLE;
    }
    return BUSY;
  }

  /** A guest that is paused by order takes orders and nothing else; its time stands still. */
  #pausedStep(machine: Machine, recorder: Recorder, now: HostMilliseconds): VcpuStep {
    this.#clock = undefined;
    const orders = this.#inputs.filter(({ kind }) => kind === 'control');
    if (orders.length === 0) return this.#idle(undefined);
    this.#inputs = this.#inputs.filter(({ kind }) => kind !== 'control');
    if (recorder.halted)
      recorder.apply(new GuestClock(now, machine.guestTime).entry(now, machine.guestTime, true));
    for (const order of orders) recorder.apply(order);
    this.#flush();
    return BUSY;
  }

  /** What the last slice cost says how fast the guest is, and how long a throttled vCPU has to rest. */
  #measure(machine: Machine, now: HostMilliseconds): void {
    const slice = this.#slice;
    if (!slice) return;
    this.#slice = undefined;
    const elapsed = now - slice.since;
    this.#clock?.measured(machine.count - slice.count, elapsed);
    const share = (this.#share * (machine.orders?.cpuPercent ?? 100)) / 100;
    this.#restMs = share < 1 ? this.#restMs + (elapsed * (1 - share)) / share : 0;
    if (this.#restMs < REST_MIN_MS) return;
    this.#notBefore = now + this.#restMs;
    this.#restMs = 0;
  }

  #digestWhenDue(recorder: Recorder, now: HostMilliseconds): void {
    const { digestEveryMs } = this.#options;
    if (digestEveryMs === undefined || now - this.#digestAt < digestEveryMs) return;
    this.#digestAt = now;
    recorder.digest();
  }

  #takeSnapshot(machine: Machine, recorder: Recorder): void {
    this.#snapshotWanted = false;
    this.#events.snapshot(this.#snapshotOf(machine, recorder));
  }

  #snapshotOf(machine: Machine, recorder: Recorder, changed?: Uint32Array): MachineSnapshot {
    const { position } = recorder;
    const digest = machine.digest();
    return { machine: machine.snapshot(changed), count: machine.count, position, digest };
  }

  /** A part of the copy, if one is wanted and the other end keeps up. */
  #copyOn(machine: Machine, recorder: Recorder): void {
    const wanted = this.#copyWanted;
    if (wanted) {
      const { number, standStill } = wanted;
      this.#copyWanted = undefined;
      this.#standStill = standStill;
      this.#copy = RunningCopy.of(number, machine);
      const whole = { number, rounds: 0, pages: 0, lastPages: 0 };
      if (!this.#copy) this.#endCopy(this.#snapshotOf(machine, recorder), whole);
    }
    const copy = this.#copy;
    if (!copy?.ready) return;
    const part = copy.next();
    if (part?.kind === 'pages') this.#events.pages(copy.number, part.bytes);
    if (part?.kind !== 'last') return;
    this.#copy = undefined;
    this.#endCopy(this.#snapshotOf(machine, recorder, part.pages), copy.figures(part.pages.length));
  }

  #endCopy(snapshot: MachineSnapshot, figures: CopyFigures): void {
    this.#standsStill = this.#standStill;
    this.#events.snapshot(snapshot, figures);
  }

  #idle(until: HostMilliseconds | undefined, heldBack = false): VcpuStep {
    this.#flush();
    return { kind: 'idle', until, heldBack };
  }

  /** The guest waits by itself: what it left unflushed goes soon, alone or with what it does next. */
  #halted(now: HostMilliseconds, until: HostMilliseconds | undefined): VcpuStep {
    const flushBy = this.#unflushedFor(HALTED_COMPANY_MS);
    if (now >= flushBy || flushBy === Number.POSITIVE_INFINITY) return this.#idle(until);
    return { kind: 'idle', until: hostMilliseconds(Math.min(until ?? flushBy, flushBy)), heldBack: false };
  }

  /** When the first unflushed entry will have waited for so long. */
  #unflushedFor(ms: number): number {
    return (this.#unflushedSince ?? Number.POSITIVE_INFINITY) + ms;
  }

  #flush(): void {
    if (this.#unflushedSince === undefined) return;
    this.#unflushedSince = undefined;
    this.#events.flush();
  }

  #beLive(machine: Machine, position: Recorder['position']): void {
    const recorder = new Recorder(
      machine,
      {
        entry: (at, payload) => {
          this.#unflushedSince ??= this.#now;
          this.#events.entry(at, payload);
        },
        output: (output) => {
          this.#events.output(output);
          // Whoever holds it flushes, and what came before it with it; some disk requests are not held.
          if (output.output.kind !== 'disk-request') this.#unflushedSince = undefined;
          else this.#unflushedSince ??= this.#now;
        },
      },
      position,
    );
    this.#recorder = recorder;
    this.#sink = recorder;
    // Guest time goes on from where it stands, by this host's clock.
    this.#clock = undefined;
  }

  #fail(reason: string): void {
    this.#stopped = true;
    this.#events.stopped(reason, true);
  }
}
