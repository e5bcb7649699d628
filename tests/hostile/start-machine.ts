import { ByteReader, ByteWriter } from '../../src/base/bytes.ts';
import { hash128 } from '../../src/base/hash.ts';
import { guestNanoseconds, instructionCount } from '../../src/base/units.ts';
import { engineLayout, TLB_ENTRIES_DEFAULT } from '../../src/engine/layout.ts';
import type { EngineOptions, MachineConfig } from '../../src/machine/config.ts';
import type { Input, Output } from '../../src/machine/door.ts';
import { LockstepMachine } from '../../src/machine/machine.ts';
import { RIP } from '../../src/x86/state.ts';
import { Random } from '../silicon/random.ts';
import { RAM_BYTES } from './start-memory.ts';
import type { StartState } from './start-state.ts';

const CONFIG: MachineConfig = {
  memoryBytes: RAM_BYTES,
  disks: [{ capacity: 1 << 16, readOnly: false, serial: 'start' }],
  nics: [{ mac: '020304050607' }],
  startEpochSeconds: 1_700_000_000,
  seed: '5a'.repeat(32),
  debugExit: true,
};
const PAGE = 4096;
/** More wakes from HLT than this without an end, and the case ends halted. */
const WAKES_MAX = 20;

export interface StartOutcome {
  readonly end: 'ran' | 'halted' | 'off' | 'reset' | 'debug-exit' | 'triple-fault';
  readonly count: number;
  /** Of the state, and of all that left the machine. */
  readonly digest: string;
  readonly wakes: number;
  readonly outputs: number;
}

/** What is done to the machine, and how its run is cut. */
export interface StartPlan {
  readonly template: number;
  readonly total: number;
  readonly inputs: readonly { readonly at: number; readonly input: Input }[];
}

export function startPlan(number: number, counts?: number): StartPlan {
  const random = new Random(number, 0x91a4);
  const usual = random.chance(3) ? 5000 : random.pick([100, 200, 400]);
  const total = counts ?? usual;
  const inputs: { at: number; input: Input }[] = [{ at: 0, input: clock(random, 0) }];
  for (let times = random.below(4); times > 0; times--) {
    const at = random.below(total);
    inputs.push({ at, input: someInput(random, at) });
  }
  inputs.sort((left, right) => left.at - right.at);
  return { template: random.below(TEMPLATES.length), total, inputs };
}

function clock(random: Random, at: number): Input {
  const rate = random.pick([0n, 10n << 32n, 10n << 32n, 1n << 31n, 2000n << 32n]);
  const guestTime = guestNanoseconds(BigInt(at + 1) * BigInt(random.pick([1, 100, 100_000])));
  return { kind: 'clock', guestTime, rate, cap: guestNanoseconds(guestTime + BigInt(random.u32()) * 1000n) };
}

function someInput(random: Random, at: number): Input {
  switch (random.below(5)) {
    case 0:
      return clock(random, at);
    case 1:
      return { kind: 'frame', nic: 0, frame: random.bytes(60 + random.below(1400)) };
    case 2:
      return { kind: 'control', action: random.pick(['power-button', 'power-button', 'pause', 'reset']) };
    case 3:
      return { kind: 'entropy', seed: random.bytes(32) };
    default:
      return { kind: 'console', port: random.below(2), bytes: random.bytes(1 + random.below(40)) };
  }
}

/** Ports and registers that are written, in real mode, before the state of a case replaces the processor's. */
const TEMPLATES: readonly (readonly (readonly [number, number])[])[] = [
  [],
  // The PIC at 0x20 and 0x28 with everything open, the PIT at its fastest, the serial port's interrupts.
  [
    ...[
      [0x20, 0x11],
      [0x21, 0x20],
      [0x21, 4],
      [0x21, 1],
      [0x21, 0],
      [0xa0, 0x11],
      [0xa1, 0x28],
      [0xa1, 2],
      [0xa1, 1],
      [0xa1, 0],
    ],
    ...[
      [0x43, 0x34],
      [0x40, 4],
      [0x40, 0],
      [0x3f9, 15],
      [0xfee0_00f0, 0x1ff],
      [0xfee0_0350, 0x700],
    ],
  ] as [number, number][],
  // The local APIC's timer, and two interrupts that wait.
  [
    ...[
      [0xfee0_00f0, 0x1ff],
      [0xfee0_03e0, 0xb],
      [0xfee0_0320, 0x2_0030],
      [0xfee0_0380, 500],
    ],
    ...[
      [0xfee0_0310, 0],
      [0xfee0_0300, 0x4_0041],
      [0xfee0_0300, 0x4_00ff],
    ],
  ] as [number, number][],
  // An NMI that waits, and a timer that will send one.
  [
    ...[
      [0xfee0_00f0, 0x1ff],
      [0xfee0_0350, 0x400],
      [0xfee0_0310, 0],
      [0xfee0_0300, 0x400],
    ],
    ...[
      [0x43, 0x34],
      [0x40, 40],
      [0x40, 0],
    ],
  ] as [number, number][],
];

/** A machine that runs one start state after another, with caches as hot as the last one left them. */
export class StartMachine {
  readonly machine: LockstepMachine;
  readonly #outputs: Output[] = [];
  readonly #templates: Uint8Array[];
  /** The machine's RAM itself: reading it a million times costs no copies. */
  readonly #ram: Uint8Array;

  constructor(options: EngineOptions) {
    this.machine = new LockstepMachine(CONFIG, { output: (output) => this.#outputs.push(output) }, options);
    const { ram } = engineLayout(RAM_BYTES, options.tlbEntries ?? TLB_ENTRIES_DEFAULT);
    this.#ram = new Uint8Array(this.machine.processor.bytes.buffer, ram, RAM_BYTES);
    const blank = withoutRam(this.machine.snapshot());
    this.#templates = TEMPLATES.map((writes) => {
      this.#restore(blank);
      this.#write(writes);
      return withoutRam(this.machine.snapshot());
    });
  }

  /** By unreal mode: 32-bit addresses, and the code in RAM at 0. */
  #write(writes: readonly (readonly [number, number])[]): void {
    const code: number[] = [];
    for (const [address, value] of writes) {
      if (address > 0xffff) code.push(0x67, 0x66, 0xc7, 0x05, ...little(address), ...little(value));
      else code.push(0xba, address & 0xff, address >> 8, 0xb0, value, 0xee);
    }
    this.machine.memory.write(0, Uint8Array.from([...code, 0xeb, 0xfe]));
    const state = this.machine.processor;
    for (let segment = 0; segment < 6; segment++) {
      state.set64(0x0f0 + segment * 8, 0n);
      state.set32(0x150 + segment * 4, 0xffff_ffff);
    }
    state.set64(RIP, 0n);
    this.machine.runUntil(instructionCount(3n * BigInt(writes.length)));
  }

  #restore(template: Uint8Array): void {
    const reader = new ByteReader(template);
    const restored = this.machine.restore(reader);
    if (!restored.ok) throw new Error(restored.error);
  }

  #load(state: StartState, plan: StartPlan): void {
    this.#restore(this.#templates[plan.template]!);
    this.#outputs.length = 0;
    const { bytes } = state.memory;
    for (let at = 0; at < RAM_BYTES; at += PAGE) {
      if (Buffer.compare(this.#ram.subarray(at, at + PAGE), bytes.subarray(at, at + PAGE)) !== 0)
        this.machine.memory.write(at, bytes.subarray(at, at + PAGE));
    }
    this.machine.processor.bytes.set(state.registers);
  }

  /** Runs a case in pieces of up to `pieces` counts. */
  run(state: StartState, plan: StartPlan, pieces: () => number): StartOutcome {
    this.#load(state, plan);
    const { machine } = this;
    const first = Number(machine.count);
    const end = first + plan.total;
    let wakes = 0;
    let next = 0;
    const done = (how: StartOutcome['end']): StartOutcome => ({
      end: how,
      count: Number(machine.count) - first,
      digest: `${machine.digest()} ${outputHash(this.#outputs)}`,
      wakes,
      outputs: this.#outputs.length,
    });
    for (;;) {
      const count = Number(machine.count);
      while (next < plan.inputs.length && first + plan.inputs[next]!.at <= count)
        machine.apply(plan.inputs[next++]!.input);
      if (count === end) return done('ran');
      const input = plan.inputs[next];
      const until = Math.min(end, count + pieces(), input === undefined ? end : first + input.at);
      const reason = machine.runUntil(instructionCount(BigInt(until)));
      const now = Number(machine.count);
      if (now > until || now < count) throw new Error(`from ${count} to ${now} instead of ${until}`);
      if (reason === 'count') {
        if (now !== until) throw new Error(`stopped at ${now} instead of ${until}`);
      } else if (reason === 'powered-off') {
        const power = this.#outputs.find((output) => output.kind === 'power');
        if (power?.kind !== 'power') throw new Error('powered off without a word');
        return done(power.state);
      } else if (reason === 'halted') {
        // As a live machine: the clock goes on to what wakes it; else to the next input.
        const deadline = machine.nextDeadline;
        wakes += 1;
        if (deadline === undefined || wakes > WAKES_MAX) return done('halted');
        const guestTime = guestNanoseconds(deadline > machine.guestTime ? deadline : machine.guestTime);
        machine.apply({
          kind: 'clock',
          guestTime,
          rate: 10n << 32n,
          cap: guestNanoseconds(guestTime + 1_000_000n),
        });
      } else {
        throw new Error(`ended with ${reason}`);
      }
    }
  }
}

/** What `restore` reads: the state behind the header, and no pages. */
function withoutRam(snapshot: Uint8Array): Uint8Array {
  const reader = new ByteReader(snapshot);
  reader.u32();
  reader.u32();
  reader.bytes();
  // The header's hash.
  reader.raw(16);
  return new ByteWriter(16384).bytes(reader.bytes()).u32(0xffff_ffff).finish();
}

function outputHash(outputs: readonly Output[]): string {
  return hash128(
    new TextEncoder().encode(
      JSON.stringify(outputs, (_, value) => (value instanceof Uint8Array ? Array.from(value) : value)),
    ),
  );
}

function little(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
