import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { Epoch } from './identity.ts';

/** Opening the disks for an epoch (protocol 6): asked again until it is answered. */
export class DiskOpening {
  readonly #everyMs: number;
  readonly #do: (action: FtAction) => void;
  #open: boolean;
  #asked: { readonly epoch: Epoch; since: HostMilliseconds } | undefined;

  constructor(open: boolean, everyMs: number, perform: (action: FtAction) => void) {
    this.#open = open;
    this.#everyMs = everyMs;
    this.#do = perform;
  }

  get open(): boolean {
    return this.#open;
  }

  get underWay(): boolean {
    return this.#asked !== undefined;
  }

  ask(epoch: Epoch, now: HostMilliseconds): void {
    this.#open = false;
    this.#asked = { epoch, since: now };
    this.#do({ kind: 'open-disks', epoch });
  }

  /** Undefined: an answer to another opening. */
  answered(epoch: Epoch, verdict: 'ok' | 'refused'): 'ok' | 'refused' | undefined {
    if (this.#asked?.epoch !== epoch) return undefined;
    this.#asked = undefined;
    this.#open = verdict === 'ok';
    return verdict;
  }

  tick(now: HostMilliseconds): void {
    const asked = this.#asked;
    if (!asked || now - asked.since < this.#everyMs) return;
    asked.since = now;
    this.#do({ kind: 'open-disks', epoch: asked.epoch });
  }
}
