import type { HostMilliseconds } from '../base/units.ts';
import { FailureDetector } from './failure-detector.ts';
import type { Timing } from './timing.ts';

/** What a primary finds out about its backup by waiting. */
export type Silence =
  /** Neither a heartbeat nor an ack. */
  | 'silent'
  /** For a whole failure time-out the channel was broken, or had something to ack and no ack came. */
  | 'stuck';

/**
 * Suspicion on the primary's side [FT 2.3]: by silence, and by a log that does not get through. Heartbeats say
 * nothing about a connection that is broken or stuck, and outputs would wait for ever.
 */
export class PartnerWatch {
  readonly #partner: FailureDetector;
  readonly #channel: FailureDetector;
  #progress = 0n;
  /** Progress when a connection was last given up because nothing was acked. */
  #stuckAt: bigint | undefined;

  constructor(now: HostMilliseconds, timing: Timing) {
    this.#partner = new FailureDetector(now, timing);
    this.#channel = new FailureDetector(now, timing);
  }

  get timeoutMs(): number {
    return this.#partner.timeoutMs;
  }

  heartbeat(now: HostMilliseconds): void {
    this.#partner.heartbeat(now);
  }

  heard(now: HostMilliseconds): void {
    this.#partner.heard(now);
  }

  /** Its connection broke: from now on it has the failure time-out to come back. */
  broke(now: HostMilliseconds): void {
    this.#channel.heard(now);
  }

  /** Called every heartbeat interval. `progress` grows with every ack; `owed`: there is something to ack. */
  check(now: HostMilliseconds, open: boolean, owed: boolean, progress: bigint): Silence | undefined {
    const silent = this.#partner.check(now);
    if (open && (!owed || progress !== this.#progress)) this.#channel.heard(now);
    this.#progress = progress;
    const stuck = this.#channel.check(now);
    return silent ? 'silent' : stuck ? 'stuck' : undefined;
  }

  /** A connection is given up because nothing was acked. False the second time without any progress between. */
  giveUpConnection(): boolean {
    if (this.#stuckAt === this.#progress) return false;
    this.#stuckAt = this.#progress;
    return true;
  }
}
