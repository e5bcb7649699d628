import type { HostMilliseconds } from '../base/units.ts';
import type { Attachment } from './attachment.ts';
import type { Link } from './link.ts';
import type { Ownership } from './ownership.ts';
import type { Partner } from './partner.ts';
import type { Partners } from './partners.ts';
import type { PlannedTakeover } from './planned-takeover.ts';
import type { Separation } from './separation.ts';
import type { Standing } from './standing.ts';

/**
 * What a primary makes of connections that break and of silence [FT 2.3]. A connection is made anew, and nothing is lost;
 * a new backup that is not in the pair yet is given up; the silence of any other, for too long, is suspicion.
 */
export class Doubt {
  readonly #partners: Partners;
  readonly #standing: Standing;
  readonly #attachment: Attachment;
  readonly #ownership: Ownership;
  readonly #planned: PlannedTakeover;
  readonly #separation: Separation;

  constructor(from: {
    readonly partners: Partners;
    readonly standing: Standing;
    readonly attachment: Attachment;
    readonly ownership: Ownership;
    readonly planned: PlannedTakeover;
    readonly separation: Separation;
  }) {
    this.#partners = from.partners;
    this.#standing = from.standing;
    this.#attachment = from.attachment;
    this.#ownership = from.ownership;
    this.#planned = from.planned;
    this.#separation = from.separation;
  }

  // ------------------------------------------------------------------------------------------ connections

  /** What came on this connection is no good: it is ended here. */
  end(partner: Partner, link: Link, reason: string, now: HostMilliseconds): void {
    partner.broken(link, now, true);
    this.#lost(partner, reason, now);
  }

  /** It was broken from outside; without a link: it could not be made at all, and whoever waits for one tries again. */
  broken(link: Link | undefined, reason: string, now: HostMilliseconds): void {
    if (link === undefined) {
      if (this.#standing.state !== 'ASK') this.#partners.reconnectSoon(now);
      return;
    }
    const partner = this.#partners.of(link);
    if (!partner) return;
    partner.broken(link, now, false);
    this.#lost(partner, reason, now);
  }

  #lost(partner: Partner, reason: string, now: HostMilliseconds): void {
    this.#standing.channelBroken(reason);
    if (partner === this.#partners.joining && this.#attachment.free) this.#attachment.lost(reason, now);
    else if (this.#standing.state !== 'ASK') partner.reconnectSoon(now);
  }

  // ------------------------------------------------------------------------------------------ silence

  /** Called every heartbeat interval. */
  tick(now: HostMilliseconds): void {
    this.#checkJoining(now);
    this.#checkPair(now);
  }

  #checkJoining(now: HostMilliseconds): void {
    const { joining } = this.#partners;
    if (!joining) return;
    const silence = joining.check(now);
    if (this.#attachment.free) {
      const why = this.#attachment.whyGivenUp(joining, silence, now);
      if (why !== undefined) this.#attachment.lost(why, now);
    } else if (this.#standing.state === 'COMMIT') {
      const why = this.#attachment.whyUncommitted(silence, this.#ownership.askedForMs(now), now);
      if (why !== undefined) this.#separation.suspect(why, now);
      else if (silence === 'stuck') this.#unstick(joining, now);
    }
  }

  #checkPair(now: HostMilliseconds): void {
    const { pair } = this.#partners;
    if (this.#planned.overdue(now)) this.#separation.suspect('the backup was to take over', now);
    if (!pair || this.#standing.state === 'ASK' || this.#standing.state === 'YIELD') return;
    const silence = pair.check(now);
    if (silence === 'silent') this.#separation.suspect('the backup is silent', now);
    else if (silence === 'stuck') this.#unstick(pair, now);
  }

  #unstick(partner: Partner, now: HostMilliseconds): void {
    const { suspicion, broken } = partner.unstick(now);
    if (broken !== undefined) this.#standing.channelBroken(broken);
    if (suspicion !== undefined) this.#separation.suspect(suspicion, now);
  }
}
