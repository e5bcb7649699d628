import {
  type GuestNanoseconds,
  guestNanoseconds,
  type HostMilliseconds,
  hostMilliseconds,
} from '../base/units.ts';
import type { ClockInput } from '../machine/door.ts';

/** A slice covers at most this much guest time (design 2). */
const SLICE_NS = 1_000_000;
/** A busy guest gets a clock entry this often; the contract asks for at most 5 ms. */
const ENTRY_EVERY_MS = 4;
/** When guest time leads host time by more than this, an adjustment is logged. */
const LEAD_MAX_NS = 2_000_000;
/** Guest time stands still this far behind an entry. */
const CAP_NS = 5_000_000n;
/** A host that was away for longer is not caught up with: the guest was suspended. */
const AWAY_MAX_MS = 2000;

const FIRST_NS_PER_COUNT = 20;
const NS_PER_COUNT_MIN = 0.25;
const NS_PER_COUNT_MAX = 20_000;
/** A slice that seems to be slower by more than this was interrupted, most likely. */
const INTERRUPTED_FACTOR = 8;
/** Rates are 32.32 fixed point; sixteen fractional bits are enough, and shorter in the log. */
const FRACTION_BITS = 16;

/**
 * Makes guest time follow host time (design 2). It measures how fast the guest's instructions really are and lays
 * straight lines through guest time: a little steeper when the guest is behind, flatter when it leads, and a jump
 * when it is far behind. Guest seconds are real seconds at any speed; guest time never goes back.
 */
export class GuestClock {
  /** At host time #hostBase guest time was to be #guestBase. */
  #hostBase: number;
  #guestBase: bigint;
  #nsPerCount = FIRST_NS_PER_COUNT;
  #guestNsPerCount = FIRST_NS_PER_COUNT;
  #entryAt = Number.NEGATIVE_INFINITY;
  #seen: number;

  constructor(now: HostMilliseconds, guestTime: GuestNanoseconds) {
    this.#hostBase = now;
    this.#guestBase = guestTime;
    this.#seen = now;
  }

  /** Where guest time should be. */
  target(now: HostMilliseconds): bigint {
    return this.#guestBase + BigInt(Math.round((now - this.#hostBase) * 1e6));
  }

  /** The host time at which guest time should be `guestTime`. */
  hostTimeOf(guestTime: GuestNanoseconds): HostMilliseconds {
    return hostMilliseconds(this.#hostBase + Number(guestTime - this.#guestBase) / 1e6);
  }

  /** Told at every step of a running or idle guest. After a long absence the guest's time goes on from here. */
  seen(now: HostMilliseconds, guestTime: GuestNanoseconds): void {
    if (now - this.#seen > AWAY_MAX_MS && this.target(now) - guestTime > BigInt(AWAY_MAX_MS) * 1_000_000n) {
      this.#hostBase = now;
      this.#guestBase = guestTime;
    }
    this.#seen = now;
  }

  /** So many counts took so long on the host. */
  measured(counts: bigint, elapsedMs: number): void {
    if (counts <= 0n || elapsedMs <= 0) return;
    const ns = (elapsedMs * 1e6) / Number(counts);
    const before = this.#nsPerCount;
    // A slice that was interrupted by the host looks slow, and so does a short one, which is mostly its own overhead:
    // believing either makes the next one shorter still. Nothing looks faster than it is.
    const weight = counts < 1000n ? 0.02 : 0.25;
    const slower = before + (Math.min(ns, before * INTERRUPTED_FACTOR) - before) * weight;
    const mixed = ns < before ? Math.max(ns, before / 2) : slower;
    this.#nsPerCount = Math.min(NS_PER_COUNT_MAX, Math.max(NS_PER_COUNT_MIN, mixed));
  }

  /** True when the log owes a clock entry. */
  due(now: HostMilliseconds, guestTime: GuestNanoseconds): boolean {
    return now - this.#entryAt >= ENTRY_EVERY_MS || Number(guestTime - this.target(now)) > LEAD_MAX_NS;
  }

  /** The next line. `woken`: the guest was halted, so its time jumps to where it should be. */
  entry(now: HostMilliseconds, guestTime: GuestNanoseconds, woken: boolean): ClockInput {
    this.#entryAt = now;
    const lead = Number(guestTime - this.target(now));
    const jump = lead < 0 && (woken || lead < -LEAD_MAX_NS);
    const from = jump ? this.target(now) : guestTime;
    const left = jump ? 0 : lead;
    // By the next entry the lead, or the arrears, should be gone.
    const slope = Math.min(1.5, Math.max(1 / 64, 1 - left / (ENTRY_EVERY_MS * 1e6)));
    this.#guestNsPerCount = this.#nsPerCount * slope;
    const rate = BigInt(Math.round(this.#guestNsPerCount * 2 ** FRACTION_BITS)) << BigInt(32 - FRACTION_BITS);
    return { kind: 'clock', guestTime: guestNanoseconds(from), rate, cap: guestNanoseconds(from + CAP_NS) };
  }

  /** How many counts the next slice may take: at most 1 ms of guest time, and about as much host time. */
  sliceCounts(): bigint {
    return BigInt(Math.max(1, Math.floor(SLICE_NS / Math.max(this.#guestNsPerCount, this.#nsPerCount))));
  }
}
