import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { FtAction } from './action.ts';
import type { Attachment } from './attachment.ts';
import type { HostSearch } from './host-search.ts';
import type { Ownership } from './ownership.ts';
import type { Partners } from './partners.ts';
import type { Standing } from './standing.ts';
import type { Timing } from './timing.ts';

const TURNED_OFF = 'fault tolerance was turned off';

/**
 * How a primary leaves its backup: on suspicion (rule 4), or because fault tolerance is turned off. Either way the arbiter
 * is asked who goes on (ASK), outputs wait until it has answered, and no way leads back to PAIR in this generation.
 */
export class Separation {
  readonly #partners: Partners;
  readonly #search: HostSearch;
  readonly #standing: Standing;
  readonly #attachment: Attachment;
  readonly #ownership: Ownership;
  readonly #timing: Timing;
  readonly #do: (action: FtAction) => void;
  /** Fault tolerance is being turned off: by then at the latest, whether the order is in the log or not. */
  #partBy: HostMilliseconds | undefined;

  constructor(
    from: {
      readonly partners: Partners;
      readonly search: HostSearch;
      readonly standing: Standing;
      readonly attachment: Attachment;
      readonly ownership: Ownership;
    },
    timing: Timing,
    perform: (action: FtAction) => void,
  ) {
    this.#partners = from.partners;
    this.#search = from.search;
    this.#standing = from.standing;
    this.#attachment = from.attachment;
    this.#ownership = from.ownership;
    this.#timing = timing;
    this.#do = perform;
  }

  suspect(reason: string, now: HostMilliseconds): void {
    this.#claim(reason, now, 'cut');
  }

  /** An order like any other: it travels in the log, so the backup knows what its end means [FT 3.3]. */
  turnOff(now: HostMilliseconds): void {
    this.#attachment.turnOff(TURNED_OFF, now);
    if (this.#standing.state !== 'PAIR') return;
    this.#partBy = hostMilliseconds(now + this.#timing.suspicionMs);
    this.#do({ kind: 'vcpu-input', input: { kind: 'control', action: 'end-protection' } });
  }

  /** An entry is in the log: maybe that order. */
  logged(payload: LogPayload, now: HostMilliseconds): void {
    const input = payload.kind === 'input' ? payload.input : undefined;
    if (input?.kind === 'control' && input.action === 'end-protection') this.#part(now);
  }

  /** The vCPU may be stopped by the very backup that shall go. */
  tick(now: HostMilliseconds): void {
    if (this.#partBy !== undefined && now >= this.#partBy) this.#part(now);
  }

  /** A pair was committed: by now nobody may want it any more. */
  committed(now: HostMilliseconds): void {
    if (!this.#search.wanted) this.suspect(TURNED_OFF, now);
  }

  #part(now: HostMilliseconds): void {
    if (this.#partBy === undefined || this.#standing.state !== 'PAIR') return;
    this.#partners.flush();
    this.#claim(TURNED_OFF, now, 'told when won');
  }

  #claim(reason: string, now: HostMilliseconds, partner: 'cut' | 'told when won'): void {
    this.#partBy = undefined;
    // While a commit may still take effect, the epoch must move before a gate is dropped.
    const commitOpen = this.#standing.state === 'COMMIT';
    if (!commitOpen) this.#partners.dropJoining();
    for (const suspect of [this.#partners.pair, this.#partners.joining]) {
      if (partner === 'cut') suspect?.cut();
      else suspect?.fallSilent();
      if (suspect) this.#search.retire(suspect.address);
    }
    this.#attachment.migrateNoMore();
    this.#standing.enter('ASK', reason);
    this.#ownership.claim(commitOpen, now);
  }
}
