import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Entropy } from '../base/entropy.ts';
import type { Device } from '../device/device.ts';
import {
  ARCHITECTURAL_END,
  BLOCK_PC,
  type CpuState,
  FLAGS_REST,
  FLAGS_RESULT,
  TEMP,
  XMM_TEMP,
} from '../x86/state.ts';
import type { StatePart } from './digest-parts.ts';
import type { GuestTime } from './guest-time.ts';
import type { Processor } from './processor.ts';

const POWER_STATES = ['off', 'reset', 'debug-exit', 'triple-fault'] as const;

/** What a machine's state is in. */
export interface StateHolders {
  readonly cpu: CpuState;
  readonly processor: Processor;
  readonly time: GuestTime;
  readonly entropy: Entropy;
  readonly devices: readonly Device[];
}

/** A machine's state without its RAM, as bytes: the same for all machines that a guest cannot tell apart. */
export class MachineState {
  readonly #cpu: CpuState;
  readonly #processor: Processor;
  readonly #time: GuestTime;
  readonly #entropy: Entropy;
  readonly #devices: readonly Device[];

  constructor({ cpu, processor, time, entropy, devices }: StateHolders) {
    this.#cpu = cpu;
    this.#processor = processor;
    this.#time = time;
    this.#entropy = entropy;
    this.#devices = devices;
  }

  /** `saved` is told where each part ends. */
  save(writer: ByteWriter, saved: (part: string) => void = () => {}): void {
    const state = this.#cpu;
    const { power } = this.#processor;
    writer.u64(this.#processor.count);
    this.#time.save(writer);
    writer.u8(power === undefined ? 0 : 1 + POWER_STATES.indexOf(power.state));
    writer.u32(power?.value ?? 0);
    saved('count and time');
    const registers = state.bytes.slice(0, ARCHITECTURAL_END);
    // Canonical: what is dead between instructions is zero, and the flags are spelt out.
    registers.fill(0, TEMP, TEMP + 64);
    registers.fill(0, XMM_TEMP, XMM_TEMP + 64);
    registers.fill(0, BLOCK_PC, BLOCK_PC + 8);
    registers.fill(0, FLAGS_RESULT, FLAGS_REST + 8);
    writer.raw(registers).u64(state.rflags);
    saved('registers');
    this.#entropy.save(writer);
    saved('entropy');
    for (const device of this.#devices) {
      device.save(writer);
      saved(device.name);
    }
  }

  /** For a machine that has not run. */
  load(reader: ByteReader): void {
    const state = this.#cpu;
    const count = reader.u64();
    this.#time.load(reader);
    const power = reader.u8();
    const value = reader.u32();
    this.#processor.startAt(
      count,
      power === 0 ? undefined : { kind: 'power', state: POWER_STATES[power - 1] ?? 'off', value },
    );
    state.bytes.set(reader.raw(ARCHITECTURAL_END));
    state.rflags = reader.u64();
    this.#entropy.load(reader);
    for (const device of this.#devices) device.load(reader);
  }

  /** The same, part by part. */
  parts(): StatePart[] {
    const writer = new ByteWriter(16384);
    const ends: { name: string; end: number }[] = [];
    this.save(writer, (name) => ends.push({ name, end: writer.length }));
    const bytes = writer.finish();
    return ends.map(({ name, end }, index) => ({
      name,
      bytes: bytes.subarray(ends[index - 1]?.end ?? 0, end),
    }));
  }
}
