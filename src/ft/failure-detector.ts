import type { HostMilliseconds } from '../base/units.ts';

/**
 * Suspicion by silence: neither a heartbeat nor a log entry nor an ack for a while [FT 2.3]. Time is data.
 *
 * A host that was itself asleep (a stopped process, a suspended machine, a starved core) hears nothing either and
 * must not blame its partner. So when a check comes late by more than half of the time-out, waiting starts afresh.
 */
export class FailureDetector {
  readonly #suspicionMs: number;
  readonly #checkMs: number;
  #heard: HostMilliseconds;
  #checked: HostMilliseconds;

  constructor(now: HostMilliseconds, suspicionMs: number, checkMs: number) {
    this.#suspicionMs = suspicionMs;
    this.#checkMs = checkMs;
    this.#heard = now;
    this.#checked = now;
  }

  heard(now: HostMilliseconds): void {
    this.#heard = now;
  }

  /** Called every `checkMs`. True: suspected. */
  check(now: HostMilliseconds): boolean {
    const late = now - this.#checked - this.#checkMs > this.#suspicionMs / 2;
    this.#checked = now;
    if (late) this.#heard = now;
    return now - this.#heard >= this.#suspicionMs;
  }
}
