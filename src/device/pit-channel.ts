import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { GuestClock } from './device.ts';

export const PIT_HZ = 1_193_182n;
const SECOND = 1_000_000_000n;

/** The first nanosecond at which `ticks` ticks have passed. */
export function pitTicksToTime(ticks: bigint): bigint {
  return (ticks * SECOND + PIT_HZ - 1n) / PIT_HZ;
}

/** One counter of the 8254. Nothing runs: what it shows follows from guest time [8254 data sheet]. */
export class PitChannel {
  readonly #clock: GuestClock;
  readonly #resetGate: boolean;
  #mode = 0;
  #bcd = false;
  /** 1: low byte, 2: high byte, 3: low, then high. */
  #access = 3;
  #reload = 0;
  #counting = false;
  #start = 0n;
  #gate = false;
  /** Where a counter stopped by its gate stands, in nanoseconds. */
  #stopped = 0n;
  #writeLow = -1;
  #readsHigh = false;
  #latched = -1;
  #status = -1;

  constructor(clock: GuestClock, gate: boolean) {
    this.#clock = clock;
    this.#resetGate = gate;
    this.#gate = gate;
  }

  get mode(): number {
    return this.#mode;
  }

  get gate(): boolean {
    return this.#gate;
  }

  get counting(): boolean {
    return this.#counting;
  }

  /** When the count began, and how many ticks it takes. */
  get start(): bigint {
    return this.#start;
  }

  get period(): bigint {
    return BigInt(this.#reload === 0 ? this.#modulus() : this.#reload);
  }

  get output(): boolean {
    if (!this.#counting) return this.#mode !== 0;
    const period = this.period;
    const ticks = this.#ticks();
    switch (this.#mode) {
      case 0:
      case 1:
        return ticks >= period;
      case 2:
        return !this.#gate || ticks % period !== period - 1n;
      case 3:
        return !this.#gate || ticks % period < (period + 1n) / 2n;
      default:
        return ticks !== period;
    }
  }

  setControl(value: number): void {
    const mode = (value >>> 1) & 7;
    this.#mode = mode > 5 ? mode - 4 : mode;
    this.#access = (value >>> 4) & 3;
    this.#bcd = (value & 1) !== 0;
    this.#counting = false;
    this.#reload = 0;
    this.#start = 0n;
    this.#stopped = 0n;
    this.#writeLow = -1;
    this.#readsHigh = false;
    this.#latched = -1;
    this.#status = -1;
  }

  latchCount(): void {
    if (this.#latched < 0) this.#latched = this.#count();
  }

  latchStatus(): void {
    if (this.#status >= 0) return;
    const empty = this.#counting ? 0 : 0x40;
    const output = this.output ? 0x80 : 0;
    this.#status = output | empty | (this.#access << 4) | (this.#mode << 1) | (this.#bcd ? 1 : 0);
  }

  read(): number {
    if (this.#status >= 0) {
      const status = this.#status;
      this.#status = -1;
      return status;
    }
    const count = this.#latched >= 0 ? this.#latched : this.#count();
    const high = this.#access === 2 || (this.#access === 3 && this.#readsHigh);
    if (this.#access === 3) this.#readsHigh = !high;
    if (high || this.#access !== 3) this.#latched = -1;
    return high ? count >>> 8 : count & 0xff;
  }

  /** True when this write completed a count. */
  write(value: number): boolean {
    if (this.#access === 1) this.#load(value);
    else if (this.#access === 2) this.#load(value << 8);
    else if (this.#writeLow < 0) {
      this.#writeLow = value;
      // In mode 0 the first byte stops the count.
      if (this.#mode === 0) this.#counting = false;
      return false;
    } else {
      this.#load(this.#writeLow | (value << 8));
      this.#writeLow = -1;
    }
    return true;
  }

  setGate(level: boolean): void {
    if (level === this.#gate) return;
    const now = this.#clock.now();
    if (!level) {
      this.#stopped = now - this.#start;
      this.#gate = false;
      return;
    }
    this.#gate = true;
    if (this.#mode === 0 || this.#mode === 4) {
      this.#start = now - this.#stopped;
    } else {
      // The rising edge starts the other modes anew.
      this.#start = now;
      if (this.#mode === 1 || this.#mode === 5) this.#counting = true;
    }
  }

  reset(): void {
    this.setControl(0x30);
    this.#gate = this.#resetGate;
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#mode).bool(this.#bcd).u8(this.#access).u16(this.#reload).bool(this.#counting);
    writer.u64(this.#start).bool(this.#gate).u64(this.#stopped);
    writer.u16(this.#writeLow + 1).bool(this.#readsHigh);
    writer.u32(this.#latched + 1).u16(this.#status + 1);
  }

  load(reader: ByteReader): void {
    this.#mode = reader.u8() % 6;
    this.#bcd = reader.bool();
    this.#access = reader.u8() & 3;
    this.#reload = reader.u16();
    this.#counting = reader.bool();
    this.#start = BigInt.asIntN(64, reader.u64());
    this.#gate = reader.bool();
    this.#stopped = BigInt.asIntN(64, reader.u64());
    this.#writeLow = (reader.u16() & 0x1ff) - 1;
    this.#readsHigh = reader.bool();
    this.#latched = (reader.u32() & 0x1ffff) - 1;
    this.#status = (reader.u16() & 0x1ff) - 1;
  }

  #modulus(): number {
    return this.#bcd ? 10_000 : 0x1_0000;
  }

  #ticks(): bigint {
    const elapsed = this.#gate ? this.#clock.now() - this.#start : this.#stopped;
    return elapsed <= 0n ? 0n : (elapsed * PIT_HZ) / SECOND;
  }

  #load(raw: number): void {
    this.#reload = this.#bcd ? fromBcd(raw) : raw;
    this.#stopped = 0n;
    this.#start = this.#clock.now();
    this.#counting = this.#mode !== 1 && this.#mode !== 5;
  }

  #count(): number {
    const modulus = this.#modulus();
    if (!this.#counting) return this.#show(this.#reload);
    const period = this.period;
    const ticks = this.#ticks();
    let count: bigint;
    if (this.#mode === 2) count = period - (ticks % period);
    else if (this.#mode === 3) {
      // It counts down by two, twice per period.
      const even = period - (period & 1n);
      count = even === 0n ? 0n : even - ((2n * (ticks % period)) % even);
    } else count = period - ticks;
    const wrapped = Number(count % BigInt(modulus));
    return this.#show(wrapped < 0 ? wrapped + modulus : wrapped);
  }

  #show(count: number): number {
    return this.#bcd ? toBcd(count % 10_000) : count & 0xffff;
  }
}

function toBcd(value: number): number {
  let bcd = 0;
  for (let digit = 0; digit < 4; digit++) {
    bcd |= (value % 10) << (4 * digit);
    value = Math.floor(value / 10);
  }
  return bcd;
}

function fromBcd(bcd: number): number {
  let value = 0;
  for (let digit = 3; digit >= 0; digit--) value = value * 10 + ((bcd >>> (4 * digit)) & 0xf);
  return value % 10_000;
}
