import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { type GuestNanoseconds, guestNanoseconds, type InstructionCount } from '../base/units.ts';
import { CLOCK_BASE, CLOCK_CAP, CLOCK_END, CLOCK_KNOWN, CLOCK_RATE, type CpuState } from '../x86/state.ts';
import type { ClockInput } from './door.ts';

/**
 * Guest time as a function of the count (design 2): base + (count - at) * rate, in 32.32 fixed point, standing
 * still at the cap. Only clock entries change the function, so timers and RDTSC need no log entry.
 */
export class GuestTime {
  #at = 0n;
  #base = 0n;
  /** Nanoseconds per instruction, 32.32. */
  #rate = 10n << 32n;
  #cap = 0n;

  now(count: bigint): GuestNanoseconds {
    const time = this.#base + (((count - this.#at) * this.#rate) >> 32n);
    return guestNanoseconds(time < this.#cap ? time : this.#cap);
  }

  /**
   * Tells RDTSC (x86/micro-operations/system.ts) how time goes on until `end`, the count at which REMAINING is 0: or
   * nothing, where 64 bits might not be enough.
   */
  publish(state: CpuState, end: bigint): void {
    const counts = end - this.#at;
    const known = counts >> 31n === 0n && (this.#rate | this.#base | this.#cap) >> 62n === 0n;
    state.set32(CLOCK_KNOWN, known ? 1 : 0);
    if (!known) return;
    state.set64(CLOCK_END, counts);
    state.set64(CLOCK_BASE, this.#base);
    state.set64(CLOCK_RATE, this.#rate);
    state.set64(CLOCK_CAP, this.#cap);
  }

  /** The first count at which guest time is at least `time`; undefined when the cap comes first. */
  countAt(time: GuestNanoseconds): bigint | undefined {
    if (time <= this.#base) return this.#at;
    if (time > this.#cap || this.#rate === 0n) return undefined;
    const scaled = (time - this.#base) << 32n;
    return this.#at + (scaled + this.#rate - 1n) / this.#rate;
  }

  /** Applies a clock entry. Guest time never decreases, whatever the entry says. */
  adjust(count: InstructionCount, entry: ClockInput): void {
    const now = this.now(count);
    this.#base = entry.guestTime > now ? entry.guestTime : now;
    this.#at = count;
    this.#rate = entry.rate < 0n ? 0n : entry.rate;
    this.#cap = entry.cap > this.#base ? entry.cap : this.#base;
  }

  save(writer: ByteWriter): void {
    writer.u64(this.#at).u64(this.#base).u64(this.#rate).u64(this.#cap);
  }

  load(reader: ByteReader): void {
    this.#at = reader.u64();
    this.#base = reader.u64();
    this.#rate = reader.u64();
    this.#cap = reader.u64();
  }
}
