import type { HostMilliseconds } from '../base/units.ts';
import type { Timing } from './timing.ts';

/** Before so many heartbeats nothing is known of their jitter. */
const BEATS_MIN = 20;
/** A heartbeat may be late by this many times the worst lateness that is remembered. */
const LATENESS_FACTOR = 4;
/** What is remembered of the worst lateness after one more heartbeat: half of it after 14 s. */
const MEMORY = 0.995;

/**
 * Suspicion by silence: neither a heartbeat nor a log entry nor an ack for a while [FT 2.3]. Time is data.
 *
 * How long a while is follows the jitter: as long as heartbeats come when they should, silence for the floor is
 * enough; where they have lately been late, by a loaded host or a bad network, it takes up to the ceiling.
 *
 * A host that was itself asleep (a stopped process, a suspended machine, a starved core) hears nothing either and
 * must not blame its partner. So when a check comes late by more than half of the time-out, waiting starts afresh.
 */
export class FailureDetector {
  readonly #timing: Pick<Timing, 'suspicionMs' | 'suspicionMinMs' | 'heartbeatMs'>;
  #heard: HostMilliseconds;
  #checked: HostMilliseconds;
  #beat: HostMilliseconds | undefined;
  #beats = 0;
  #worstLatenessMs = 0;

  constructor(now: HostMilliseconds, timing: Pick<Timing, 'suspicionMs' | 'suspicionMinMs' | 'heartbeatMs'>) {
    this.#timing = timing;
    this.#heard = now;
    this.#checked = now;
  }

  /** Silence for so long is suspicion. */
  get timeoutMs(): number {
    const { suspicionMs, suspicionMinMs, heartbeatMs } = this.#timing;
    if (this.#beats < BEATS_MIN) return suspicionMs;
    const usual = heartbeatMs + LATENESS_FACTOR * this.#worstLatenessMs;
    return Math.min(suspicionMs, Math.max(suspicionMinMs, usual));
  }

  /** A sign of life: a log entry, an ack. */
  heard(now: HostMilliseconds): void {
    this.#heard = now;
  }

  /** A sign of life that comes at regular intervals, so its lateness tells of the way and of the other host. */
  heartbeat(now: HostMilliseconds): void {
    this.#heard = now;
    if (this.#beat !== undefined) {
      const latenessMs = Math.max(0, now - this.#beat - this.#timing.heartbeatMs);
      this.#worstLatenessMs = Math.max(latenessMs, this.#worstLatenessMs * MEMORY);
      this.#beats += 1;
    }
    this.#beat = now;
  }

  /** Called every heartbeat interval. True: suspected. */
  check(now: HostMilliseconds): boolean {
    const { timeoutMs } = this;
    const late = now - this.#checked - this.#timing.heartbeatMs > timeoutMs / 2;
    this.#checked = now;
    if (late) {
      this.#heard = now;
      // Nobody knows when it would have come.
      this.#beat = undefined;
    }
    return now - this.#heard >= timeoutMs;
  }
}
