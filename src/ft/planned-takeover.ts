import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { Epoch } from './identity.ts';
import type { Partners } from './partners.ts';
import type { PrimaryLog } from './primary-log.ts';
import type { Standing } from './standing.ts';
import type { Timing } from './timing.ts';

/**
 * The guest goes on elsewhere by order: at the backup [FT 3.3], or at the target of a move (protocol 9). From then on
 * nothing is let out here (YIELD), and the other side claims at once. Until the arbiter has said who goes on this side
 * keeps everything: it claims too, after a while, and most likely loses.
 */
export class PlannedTakeover {
  readonly #partners: Partners;
  readonly #log: PrimaryLog;
  readonly #standing: Standing;
  readonly #timing: Timing;
  #claimAt = hostMilliseconds(0);

  constructor(partners: Partners, log: PrimaryLog, standing: Standing, timing: Timing) {
    this.#partners = partners;
    this.#log = log;
    this.#standing = standing;
    this.#timing = timing;
  }

  /** The log gets its last entry, and the backup goes on after it. False: there is no log yet. */
  switchOver(now: HostMilliseconds): boolean {
    if (this.#log.reached === undefined) return false;
    this.#log.close('handed-over', now);
    this.#yield('the backup takes over by order', now);
    return true;
  }

  /** Committed at `reached`: whoever is at the target of a move has everything. */
  handOver(reached: Epoch, target: string, faultTolerance: boolean, now: HostMilliseconds): void {
    this.#partners.promote(reached, now);
    this.#partners.pair?.giveOver(faultTolerance);
    this.#yield(`the guest is on its way to ${target}`, now);
  }

  /** The other side should have claimed by now. */
  overdue(now: HostMilliseconds): boolean {
    return this.#standing.state === 'YIELD' && now >= this.#claimAt;
  }

  #yield(detail: string, now: HostMilliseconds): void {
    this.#partners.pair?.fallSilent();
    this.#claimAt = hostMilliseconds(now + this.#timing.suspicionMs);
    this.#standing.enter('YIELD', detail);
  }
}
