import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { GuestNanoseconds } from '../base/units.ts';
import type { GuestClock, Timer } from './device.ts';
import { armTimer, loadTimer, saveTimer } from './timer-state.ts';

/** How the time-stamp counter and guest time correspond; the processor owns it. */
export interface TscConversion {
  /** The counter's value at a time. */
  tscAt(time: GuestNanoseconds): bigint;
  /** The first time at which the counter is at least `tsc`. */
  timeOf(tsc: bigint): GuestNanoseconds;
}

/** LVT timer bits 18:17 [SDM 3A 11.5.4, table 11-2]; 3 is reserved and counts nothing. */
export const TIMER_MODE = { oneShot: 0, periodic: 1, tscDeadline: 2 } as const;

/** One tick of the undivided timer clock is a nanosecond: a bus clock of 1 GHz. */
export const APIC_TIMER_HZ = 1_000_000_000;

/**
 * A periodic timer never comes back sooner than this: a guest that asks for a period of one tick would have
 * nothing but timers fire. The missed periods merge, as interrupts do in the IRR.
 */
const PERIODIC_GAP_MIN = 10_000n;

/** The local APIC's timer [SDM 3A 11.5.4]. It only counts; the local APIC knows mask and vector. */
export class ApicTimer {
  readonly #clock: GuestClock;
  readonly #tsc: TscConversion;
  readonly #timer: Timer;
  readonly #expired: () => void;
  #mode: number = TIMER_MODE.oneShot;
  #divide = 0;
  #initial = 0;
  #start = 0n;
  #deadline = 0n;

  constructor(clock: GuestClock, tsc: TscConversion, expired: () => void) {
    this.#clock = clock;
    this.#tsc = tsc;
    this.#expired = expired;
    this.#timer = clock.timer('apic', () => this.#fire());
  }

  get initialCount(): number {
    return this.#initial;
  }

  get divideConfiguration(): number {
    return this.#divide;
  }

  get currentCount(): number {
    if (this.#timer.deadline === undefined || this.#mode > TIMER_MODE.periodic) return 0;
    const initial = BigInt(this.#initial);
    const ticks = (this.#clock.now() - this.#start) / this.#divisor();
    if (this.#mode === TIMER_MODE.periodic) return Number(initial - (ticks % initial));
    return ticks >= initial ? 0 : Number(initial - ticks);
  }

  get tscDeadline(): bigint {
    return this.#deadline;
  }

  setMode(mode: number): void {
    if (mode === this.#mode) return;
    const wasCounting = this.#mode <= TIMER_MODE.periodic;
    const current = this.currentCount;
    this.#mode = mode;
    if (wasCounting && mode <= TIMER_MODE.periodic) {
      if (current !== 0) this.#schedule();
      else this.#timer.disarm();
      return;
    }
    // [SDM 3A 11.5.4.1]: a change to or from TSC-deadline mode disarms the timer.
    this.#initial = 0;
    this.#deadline = 0n;
    this.#timer.disarm();
  }

  setInitialCount(count: number): void {
    if (this.#mode > TIMER_MODE.periodic) return;
    this.#initial = count >>> 0;
    this.#start = this.#clock.now();
    this.#schedule();
  }

  /** The count goes on from where it is at the new speed. */
  setDivideConfiguration(value: number): void {
    const done = BigInt(this.#initial - this.currentCount);
    this.#divide = value & 0xb;
    if (this.#timer.deadline === undefined || this.#mode > TIMER_MODE.periodic) return;
    this.#start = this.#clock.now() - done * this.#divisor();
    this.#schedule();
  }

  setTscDeadline(tsc: bigint): void {
    if (this.#mode !== TIMER_MODE.tscDeadline) return;
    this.#deadline = tsc;
    this.tscChanged();
  }

  /** The counter was written: the same deadline comes at another time. */
  tscChanged(): void {
    if (this.#mode !== TIMER_MODE.tscDeadline) return;
    if (this.#deadline === 0n) this.#timer.disarm();
    else armTimer(this.#timer, this.#tsc.timeOf(this.#deadline));
  }

  reset(): void {
    this.#mode = TIMER_MODE.oneShot;
    this.#divide = 0;
    this.#initial = 0;
    this.#start = 0n;
    this.#deadline = 0n;
    this.#timer.disarm();
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#mode).u8(this.#divide).u32(this.#initial).u64(this.#start).u64(this.#deadline);
    saveTimer(writer, this.#timer);
  }

  load(reader: ByteReader): void {
    this.#mode = reader.u8() & 3;
    this.#divide = reader.u8() & 0xb;
    this.#initial = reader.u32();
    this.#start = BigInt.asIntN(64, reader.u64());
    this.#deadline = reader.u64();
    loadTimer(reader, this.#timer);
  }

  #fire(): void {
    this.#timer.disarm();
    if (this.#mode === TIMER_MODE.tscDeadline) this.#deadline = 0n;
    else if (this.#mode === TIMER_MODE.periodic) this.#schedule();
    this.#expired();
  }

  #schedule(): void {
    if (this.#initial === 0) {
      this.#timer.disarm();
      return;
    }
    const period = BigInt(this.#initial) * this.#divisor();
    let deadline = this.#start + period;
    if (this.#mode === TIMER_MODE.periodic) {
      const earliest = this.#clock.now() + PERIODIC_GAP_MIN;
      if (deadline < earliest) {
        const periods = (earliest - this.#start + period - 1n) / period;
        deadline = this.#start + periods * period;
      }
    }
    armTimer(this.#timer, deadline);
  }

  #divisor(): bigint {
    const code = (this.#divide & 3) | ((this.#divide >>> 1) & 4);
    return code === 7 ? 1n : 2n << BigInt(code);
  }
}
