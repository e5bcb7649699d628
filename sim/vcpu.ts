import { guestNanoseconds, instructionCount } from '../src/base/units.ts';
import type { MachineSnapshot } from '../src/ft/event.ts';
import type { VcpuEvents, VcpuPort } from '../src/hypervisor/ports.ts';
import type { Input, Output } from '../src/machine/door.ts';
import type { LogEntry } from '../src/replay/log-entry.ts';
import { Guest } from './guest.ts';
import type { Instance } from './instance.ts';

/** Between a vCPU thread and its driver orders and events take so long, in milliseconds. */
const CROSSING_MS = 0.05;
const SLICE_MS = 8;
const QUEUED_FRAMES_MAX = 64;
const DIGEST_EVERY_SLICES = 16;
const RATE = 1n << 32n;

/**
 * The vCPU's thread over the toy guest: live, it makes entries and outputs at counts that only chance decides;
 * replaying, it follows the log and checks every output against its mark.
 */
export class SimVcpu implements VcpuPort {
  readonly #instance: Instance;
  readonly #clients: number;
  #events!: VcpuEvents;
  #guest: Guest;
  #mode: 'live' | 'replay';
  #running = false;
  #boots: boolean;
  #stopped = false;
  #inputs: Input[] = [];
  #share = 1;
  #slices = 0;
  #entries: LogEntry[] = [];
  #made: { readonly number: number; readonly at: number; readonly hash: string }[] = [];
  #ending = false;
  #snapshotWanted = false;
  /** A copy of the running guest: parts that each hold all of its state, and an end that tells what differs from the last. */
  #copy: Copy | undefined;
  /** Its last copy ended with the guest standing still. */
  #standsStill = false;
  #staged: Uint8Array = new Uint8Array(0);
  readonly #orders: (() => void)[] = [];
  readonly #tellings: (() => void)[] = [];
  #orderly = false;
  #sliceOrder = 0;

  /** `life`: of a guest that boots here; none where a copy is waited for. */
  constructor(instance: Instance, clients: number, life: number | undefined) {
    this.#instance = instance;
    this.#clients = clients;
    this.#mode = life === undefined ? 'replay' : 'live';
    this.#boots = life !== undefined;
    this.#guest = new Guest({ output: this.#output }, clients, instance.build, instance.world.profile, life);
  }

  /** Whether this vCPU makes history, as an outsider with a profiler would see it. */
  get live(): boolean {
    return this.#mode === 'live' && this.#running && !this.#stopped;
  }

  /** The guest was switched off: it gets no further. */
  get off(): boolean {
    return this.#guest.off;
  }

  get life(): number {
    return this.#guest.life;
  }

  get count(): number {
    return this.#guest.count;
  }

  /** Outputs made over the whole life of the VM, as far as anybody sees them. */
  get outputs(): number {
    return this.#guest.visible;
  }

  get pending(): number {
    return this.#guest.pending.length;
  }

  /** Entries that were given to this vCPU and are not replayed. */
  get waiting(): number {
    return this.#entries.length;
  }

  listen(events: VcpuEvents): void {
    this.#events = events;
  }

  run(): void {
    this.#order(() => {
      this.#beLive();
      if (this.#running) return;
      this.#running = true;
      this.boot();
      this.#stopWhenOff();
      this.#sliceSoon(0);
    });
  }

  pause(): void {
    this.#order(() => {
      this.#beLive();
      this.#running = false;
    });
  }

  input(input: Input): void {
    this.#order(() => {
      if (input.kind === 'frame' && this.#inputs.length >= QUEUED_FRAMES_MAX) return;
      this.#inputs.push(input);
      if (this.#running) this.#sliceSoon(this.#instance.world.random.between(0.05, 0.5));
    });
  }

  replay(entries: readonly LogEntry[]): void {
    this.#order(() => {
      const idle = this.#entries.length === 0;
      this.#entries.push(...entries);
      if (idle && this.#mode === 'replay') this.#replaySoon();
    });
  }

  endReplay(): void {
    this.#order(() => {
      this.#ending = true;
      if (this.#entries.length === 0) this.#replaySoon();
    });
  }

  setShare(share: number): void {
    this.#order(() => {
      this.#share = share;
    });
  }

  snapshot(): void {
    this.#order(() => {
      this.#snapshotWanted = true;
      this.#takeSnapshot();
    });
  }

  copy(number: number, standStill: boolean): void {
    this.#order(() => {
      const rounds = 1 + this.#instance.world.random.below(3);
      this.#standsStill = false;
      this.#copy = { number, standStill, rounds, base: new Uint8Array(0), sent: 0, arrived: 0 };
      this.#copyOn();
    });
  }

  letGo(): void {
    this.#order(() => {
      this.#copy = undefined;
      this.#standsStill = false;
      if (this.#running) this.#sliceSoon(0);
    });
  }

  copied(parts: number): void {
    this.#order(() => {
      if (this.#copy) this.#copy.arrived = Math.max(this.#copy.arrived, parts);
      this.#copyOn();
    });
  }

  forgetStaged(): void {
    this.#order(() => {
      this.#staged = new Uint8Array(0);
    });
  }

  stage(pages: Uint8Array): void {
    this.#order(() => {
      this.#staged = pages;
    });
  }

  load(snapshot: MachineSnapshot): void {
    this.#order(() => {
      const whole = difference(snapshot.machine, this.#staged);
      const { build, world } = this.#instance;
      this.#guest = Guest.restore(whole, { output: this.#output }, this.#clients, build, world.profile);
      this.#mode = 'replay';
      this.#running = false;
      this.#entries = [];
      this.#made = [];
      this.#ending = false;
      const loaded = (): void =>
        this.#tell(() => this.#events.loaded(this.#guest.digest, [...this.#guest.pending]));
      if (this.#instance.loadMs === 0) loaded();
      else this.#instance.later(this.#instance.loadMs, loaded);
    });
  }

  /** Reads the disk, once: when the guest runs at first, so after the fence. */
  boot(): void {
    if (this.#boots) this.#guest.boot(this.#instance.disks.bootValues());
    this.#boots = false;
  }

  stop(): void {
    this.#order(() => {
      this.#stopped = true;
    });
  }

  /** A trap: this side's vCPU ends, and says so. */
  trap(reason: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#tell(() => this.#events.stopped(reason, true));
  }

  /** This copy differs from the log, and the next comparison shows it. */
  diverge(): void {
    if (this.#stopped || this.#mode !== 'replay') return;
    this.#stopped = true;
    this.#tell(() => this.#events.diverged('the digest differs'));
  }

  // ------------------------------------------------------------------------------------------ live

  #sliceSoon(delay: number): void {
    const mine = ++this.#sliceOrder;
    this.#instance.later(delay, () => {
      if (mine === this.#sliceOrder) this.#slice();
    });
  }

  #slice(): void {
    if (this.#stopped || !this.#running || this.#mode !== 'live') return;
    const { random } = this.#instance.world;
    this.#takeSnapshot();
    this.#copyOn();
    if (this.#standsStill) return;
    const guest = this.#guest;
    guest.run(guest.count + 1 + Math.floor((60 + random.below(200)) * this.#share));
    const now = guestNanoseconds(BigInt(Math.floor(this.#instance.clock.now() * 1e3)));
    this.#apply({ kind: 'clock', guestTime: now, rate: RATE, cap: now });
    for (const input of this.#inputs.splice(0)) if (!guest.off) this.#apply(input);
    this.#stopWhenOff();
    if (++this.#slices % DIGEST_EVERY_SLICES === 0) {
      const { digest } = guest;
      const at = instructionCount(BigInt(guest.count));
      this.#tell(() => this.#events.entry(at, { kind: 'digest', digest }));
    }
    this.#tell(() => this.#events.flush());
    this.#sliceSoon(SLICE_MS * random.between(0.7, 1.3));
  }

  #stopWhenOff(): void {
    if (!this.#guest.off) return;
    this.#stopped = true;
    this.#tell(() => this.#events.stopped('powered off', false));
  }

  #apply(input: Input): void {
    const at = instructionCount(BigInt(this.#guest.count));
    this.#look(input, true);
    this.#tell(() => this.#events.entry(at, { kind: 'input', input }));
    if (!this.#guest.apply(input))
      this.#instance.world.violated(
        'nothing lost',
        `${this.#instance.name}'s guest was given a completion that it does not wait for`,
      );
  }

  #look(input: Input, live: boolean): void {
    if (input.kind === 'disk-completed')
      this.#instance.world.oracles.reads.completed(this.#instance, input, live);
  }

  #takeSnapshot(): void {
    if (!this.#snapshotWanted || this.#mode !== 'live') return;
    this.#snapshotWanted = false;
    const snapshot = this.#snapshotSince(new Uint8Array(0));
    this.#tell(() => this.#events.snapshot(snapshot));
  }

  #snapshotSince(base: Uint8Array): MachineSnapshot {
    const guest = this.#guest;
    return {
      machine: difference(guest.snapshot(), base),
      count: instructionCount(BigInt(guest.count)),
      position: { outputs: BigInt(guest.outputs) },
      digest: guest.digest,
    };
  }

  #copyOn(): void {
    const copy = this.#copy;
    if (!copy || this.#mode !== 'live' || copy.arrived < copy.sent) return;
    const { number, rounds } = copy;
    if (copy.sent < rounds) {
      const part = this.#guest.snapshot();
      copy.base = part;
      copy.sent += 1;
      this.#tell(() => this.#events.pages(number, part));
      return;
    }
    this.#copy = undefined;
    this.#standsStill = copy.standStill;
    if (this.#standsStill) this.#instance.stoodStillAt = this.#instance.world.now;
    const snapshot = this.#snapshotSince(copy.base);
    const figures = { number, rounds, pages: rounds, lastPages: 0 };
    this.#tell(() => this.#events.snapshot(snapshot, figures));
  }

  readonly #output = (number: number, at: number, output: Output, link: number): void => {
    const hash = String(link);
    if (this.#mode === 'replay') this.#made.push({ number, at, hash });
    const numbered = { number: BigInt(number), at: instructionCount(BigInt(at)), output, hash };
    const { world } = this.#instance;
    const input = output.kind === 'disk-request' && (world.profile.disks.own || output.operation === 'read');
    if (!input) world.oracles.made(this.#instance, this.#guest.visible, this.#mode === 'live');
    this.#tell(() => this.#events.output(numbered));
  };

  #beLive(): void {
    if (this.#mode === 'live') return;
    this.#mode = 'live';
  }

  // ------------------------------------------------------------------------------------------ replay

  #replaySoon(): void {
    this.#instance.later(this.#instance.replayMs, () => this.#replayStep());
  }

  #replayStep(): void {
    if (this.#stopped || this.#mode !== 'replay') return;
    const entries = this.#entries;
    const batch = Math.min(entries.length, this.#instance.replayBatch);
    for (let index = 0; index < batch; index++) {
      const problem = this.#replayOne(entries[index]!);
      if (problem === undefined) continue;
      this.#stopped = true;
      this.#tell(() => this.#events.diverged(problem));
      return;
    }
    if (batch > 0) {
      const { sequence, at } = entries[batch - 1]!;
      entries.splice(0, batch);
      this.#tell(() => this.#events.replayed(sequence, at));
    }
    if (entries.length > 0) {
      this.#replaySoon();
    } else if (this.#ending) {
      this.#ending = false;
      const pending = [...this.#guest.pending];
      const at = instructionCount(BigInt(this.#guest.count));
      this.#tell(() => this.#events.replayedToEnd(at, pending));
    }
  }

  /** What differs from the log, if anything. */
  #replayOne(entry: LogEntry): string | undefined {
    const guest = this.#guest;
    const at = Number(entry.at);
    switch (entry.kind) {
      case 'input':
        guest.run(at);
        this.#look(entry.input, false);
        if (!guest.apply(entry.input)) return `entry ${entry.sequence} completes what was not asked for`;
        return undefined;
      case 'output-mark': {
        if (this.#made.length === 0 && guest.count < at) guest.run(at);
        const made = this.#made.shift();
        const same =
          made && BigInt(made.number) === entry.output && made.hash === entry.hash && made.at === at;
        return same ? undefined : `output ${entry.output} is another one at count ${guest.count}`;
      }
      case 'digest':
        guest.run(at);
        return guest.digest === entry.digest ? undefined : `the digest differs at count ${guest.count}`;
      case 'read-reference':
        return `entry ${entry.sequence} refers to what nobody has read`;
      case 'released':
      case 'end':
        return undefined;
    }
  }

  // ------------------------------------------------------------------------------------------ the thread

  /** Orders arrive together, in order, a little later. */
  #order(run: () => void): void {
    this.#orders.push(run);
    if (this.#orders.length > 1) return;
    this.#instance.later(CROSSING_MS, () => {
      for (const order of this.#orders.splice(0)) if (!this.#stopped) order();
    });
  }

  #tell(run: () => void): void {
    this.#tellings.push(run);
    if (this.#orderly) return;
    this.#orderly = true;
    this.#instance.later(CROSSING_MS, () => {
      this.#orderly = false;
      this.#instance.each(this.#tellings.splice(0));
    });
  }
}

interface Copy {
  readonly number: number;
  readonly standStill: boolean;
  readonly rounds: number;
  base: Uint8Array;
  sent: number;
  arrived: number;
}

/** Of the same length as `bytes`, and its own inverse: whoever has another base gets something else. */
function difference(bytes: Uint8Array, base: Uint8Array): Uint8Array {
  return bytes.map((byte, index) => byte ^ (base[index] ?? 0));
}
