import type { EngineOptions } from '../../src/machine/config.ts';
import { lateModules } from './late-modules.ts';
import { Random } from './random.ts';
import { randomGuest } from './random-guest.ts';
import { type GuestImage, GuestMachine } from './small-guest.ts';

interface Way {
  readonly name: string;
  readonly options: EngineOptions;
  /** The run is cut into pieces of this many counts. */
  readonly piece: number;
  /** Every n-th guest goes this way. */
  readonly every: number;
  readonly snapshots?: boolean;
}

const HUGE = 1 << 20;
/** Everything that runs twice is compiled. */
const EAGER = { threshold: 2, batch: 2, patience: 0, regrow: 4 };
const WAYS: readonly Way[] = [
  { name: 'single steps', options: { engine: 'interpreter', tlbEntries: 1024 }, piece: 1, every: 2 },
  { name: 'compiled', options: { engine: 'jit', jit: { ...EAGER, batch: 1 } }, piece: HUGE, every: 8 },
  { name: 'compiled, small cache, sevens', options: { tlbEntries: 16, jit: EAGER }, piece: 7, every: 16 },
  {
    name: 'compiled, shaken',
    options: { tlbEntries: 16, jit: { ...EAGER, shake: 11 } },
    piece: 31,
    every: 12,
  },
  {
    name: 'compiled elsewhere',
    options: { tlbEntries: 64, jit: { ...EAGER, modules: lateModules(3) } },
    piece: 19,
    every: 10,
  },
  { name: 'compiled, few', options: { jit: { ...EAGER, live: 9, maxBlocks: 3 } }, piece: 200, every: 16 },
  { name: 'small cache, sevens', options: { engine: 'interpreter', tlbEntries: 16 }, piece: 7, every: 1 },
  { name: 'large cache', options: { engine: 'interpreter', tlbEntries: 8192 }, piece: HUGE, every: 1 },
  {
    name: 'small cache, thousands',
    options: { engine: 'interpreter', tlbEntries: 16 },
    piece: 1000,
    every: 3,
  },
  { name: 'oracle', options: { engine: 'oracle' }, piece: HUGE, every: 2 },
  { name: 'oracle, single steps', options: { engine: 'oracle' }, piece: 1, every: 8 },
  {
    name: 'snapshots',
    options: { engine: 'interpreter', tlbEntries: 256 },
    piece: 97,
    every: 40,
    snapshots: true,
  },
];

const COUNTS = 1500;
/** Digests are taken at this many places. */
const PLACES = 5;

export interface Difference {
  readonly way: string;
  /** The first count at which the digests differ. */
  readonly count: number;
  readonly state: string;
}

/** Runs random guests in many machines. The machines live on, with caches full of the guests before. */
export class Differential {
  readonly #reference = new GuestMachine({ engine: 'interpreter', tlbEntries: 1024 });
  readonly #machines = new Map<Way, GuestMachine>();
  /** Counts that the guests ran for, in one machine. */
  counts = 0;
  runs = 0;

  run(seed: number): Difference | undefined {
    const image = randomGuest(seed);
    const random = new Random(seed ^ 0x55aa);
    const places = Array.from({ length: PLACES }, () => 1 + random.below(COUNTS)).sort((a, b) => a - b);
    places.push(COUNTS);
    const reference = this.#reference;
    reference.load(image);
    const expected: { place: number; count: bigint; digest: string }[] = [];
    for (const place of places) {
      const arrived = reference.runTo(place);
      expected.push({ place, count: reference.count, digest: reference.digest() });
      if (!arrived) break;
    }
    this.counts += Number(reference.count);
    for (const way of WAYS) {
      if (seed % way.every !== 0) continue;
      this.runs++;
      const machine = this.#machine(way);
      machine.load(image);
      for (const { place, count, digest } of expected) {
        this.#runInPieces(machine, way, place);
        if (machine.count === count && machine.digest() === digest) continue;
        this.#machines.delete(way);
        return this.#find(image, way, machine, place);
      }
      if (way.snapshots) this.#machines.delete(way);
    }
    return undefined;
  }

  #machine(way: Way): GuestMachine {
    let machine = this.#machines.get(way);
    if (machine === undefined) {
      machine = new GuestMachine(way.options);
      this.#machines.set(way, machine);
    }
    return machine;
  }

  #runInPieces(machine: GuestMachine, way: Way, until: number): void {
    for (let at = Number(machine.count); at < until; ) {
      at = Math.min(at + way.piece, until);
      if (way.snapshots && at % 3 === 0) machine.moveThroughSnapshot();
      if (!machine.runTo(at)) return;
    }
  }

  /** Where the two part, step by step. */
  #find(image: GuestImage, way: Way, used: GuestMachine, at: number): Difference {
    for (const machine of [used, new GuestMachine(way.options)]) {
      const reference = new GuestMachine(this.#reference.options);
      reference.load(image);
      machine.load(image);
      for (let count = 1; count <= at; count++) {
        reference.runTo(count);
        const before = Number(machine.count);
        this.#runInPieces(machine, { ...way, piece: way.piece === HUGE ? 1 : way.piece }, count);
        if (reference.digest() !== machine.digest()) {
          return {
            way: way.name,
            count,
            state: `from ${before}\n${describe(reference)}\n${describe(machine)}`,
          };
        }
      }
    }
    // Only a long run shows it: bisect with whole runs.
    let [low, high] = [0, at];
    const machine = used;
    const reference = new GuestMachine({ engine: 'interpreter', tlbEntries: 1024 });
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      machine.load(image);
      reference.load(image);
      this.#runInPieces(machine, way, middle);
      for (let count = 1; count <= middle; count++) if (!reference.runTo(count)) break;
      if (machine.digest() === reference.digest()) low = middle;
      else high = middle;
    }
    machine.load(image);
    reference.load(image);
    this.#runInPieces(machine, way, high);
    for (let count = 1; count <= high; count++) if (!reference.runTo(count)) break;
    return {
      way: `${way.name}, in one go`,
      count: high,
      state: `${describe(reference)}\n${describe(machine)}`,
    };
  }
}

function describe(guest: GuestMachine): string {
  const { processor } = guest.machine;
  const hex = (value: bigint) => value.toString(16);
  const registers = Array.from({ length: 16 }, (_, index) => hex(processor.get64(index * 8))).join(' ');
  return `count ${guest.count} rip ${hex(processor.get64(0xc0))} cpl ${guest.privilege} flags ${hex(processor.rflags)} cr2 ${hex(processor.get64(0x1b8))} [${registers}]`;
}
