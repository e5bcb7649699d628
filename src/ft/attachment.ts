import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { FtEvent } from './event.ts';
import type { HostSearch } from './host-search.ts';
import { type Epoch, epoch, type InstanceId } from './identity.ts';
import type { Move } from './move.ts';
import type { OutputGate } from './output-gate.ts';
import type { Partner } from './partner.ts';
import type { Silence } from './partner-watch.ts';
import type { Partners } from './partners.ts';
import type { PrimaryLog } from './primary-log.ts';
import type { Side } from './side.ts';
import type { Standing } from './standing.ts';

/** What of its primary an attachment works on. */
export interface Attaching {
  readonly partners: Partners;
  readonly search: HostSearch;
  readonly move: Move;
  readonly standing: Standing;
}

/**
 * How a primary gets a backup, alone or beside the one that it has (protocol 4, rule 10). COPY: the running guest is
 * copied there. GATE: outputs wait for its acks too, from the end of the log at that moment on. When it has everything
 * up to there, the arbiter is asked for the pair: COMMIT. A guest that is moved goes the same way. Until the commit has
 * been asked for, losing it costs nothing, and no claim is needed.
 */
export class Attachment {
  readonly #side: Side;
  readonly #partners: Partners;
  readonly #search: HostSearch;
  readonly #move: Move;
  readonly #standing: Standing;
  readonly #do: (action: FtAction) => void;
  /** Copies that were begun. */
  #copies = 0;
  /** An order: the pair is to get another backup. */
  #migrating = false;
  #guestWaits: boolean;

  constructor(
    side: Side,
    { partners, search, move, standing }: Attaching,
    guestWaits: boolean,
    perform: (action: FtAction) => void,
  ) {
    this.#side = side;
    this.#partners = partners;
    this.#search = search;
    this.#move = move;
    this.#standing = standing;
    this.#guestWaits = guestWaits;
    this.#do = perform;
  }

  /** The guest waits for its first backup before its first instruction. */
  get guestWaits(): boolean {
    return this.#guestWaits;
  }

  /** It can still be given up without a claim. */
  get free(): boolean {
    const { state } = this.#standing;
    return state === 'COPY' || state === 'GATE';
  }

  /** The pair gets another backup, there or wherever there is a host. */
  migrate(address: string | undefined): void {
    this.#migrating = true;
    this.#search.order(address);
  }

  /** The pair gets no other backup. */
  migrateNoMore(): void {
    this.#migrating = false;
  }

  /** Fault tolerance is off: nobody waits for a backup. A guest on its way needs none, and goes on there without. */
  turnOff(reason: string, now: HostMilliseconds): void {
    this.#search.turnOff();
    this.#guestWaits = false;
    this.#migrating = false;
    if (!this.#move.underWay && this.free) this.lost(reason, now);
  }

  // ------------------------------------------------------------------------------------------ COPY

  /** SOLE, or PAIR with an order to migrate, and a host to be had: COPY. `current`: the record's epoch. */
  begin(current: Epoch, disksOpen: boolean, now: HostMilliseconds): void {
    const { state } = this.#standing;
    const { address: target } = this.#move;
    if (target !== undefined && state === 'SOLE' && disksOpen) {
      this.#standing.enter('COPY', `the guest moves to ${target}`);
      this.#partners.attach(epoch(current + 1), target, 'move', now);
      return;
    }
    const alone = state === 'SOLE' && this.#search.wanted && disksOpen;
    if (!alone && !(state === 'PAIR' && this.#migrating)) return;
    const address = this.#search.next(now);
    if (address === undefined || address === this.#partners.pair?.address) return;
    this.#standing.enter('COPY', address);
    this.#partners.attach(epoch(current + 1), address, 'pair', now);
  }

  /** The running guest is copied anew for whoever is there and has nothing. */
  copy(partner: Partner): void {
    this.#copies += 1;
    partner.beginCopy(this.#copies);
    this.#do({ kind: 'vcpu-copy', number: this.#copies, standStill: this.#move.underWay });
  }

  pages({ copy, bytes }: FtEvent & { kind: 'pages' }): void {
    this.#copying(copy)?.sendPages(bytes);
  }

  block({ copy, extent, data, failed }: FtEvent & { kind: 'block-read' }, now: HostMilliseconds): void {
    const joining = this.#copying(copy);
    if (!joining) return;
    if (failed) this.lost(`disk ${extent.disk} cannot be read at ${extent.offset}`, now);
    else joining.sendBlock(copy, extent, data);
  }

  /** The end of the copy. `gate`: outputs that wait travel with it, and operations under way. */
  snapshot(
    { snapshot, copy, stoodUs }: FtEvent & { kind: 'snapshot' },
    log: PrimaryLog,
    gate: OutputGate,
    now: HostMilliseconds,
  ): void {
    const joining = this.#copying(copy);
    if (!joining) return;
    this.#move.standStill(now);
    log.reach(snapshot.count);
    const told = { stoodUs, faultTolerance: this.#search.wanted };
    joining.copy(snapshot, log.end, gate, told, this.#partners.lackedByJoining);
  }

  /** Whom the copy with this number goes to; undefined: it is one of before. */
  #copying(copy: number): Partner | undefined {
    const { joining } = this.#partners;
    return this.#standing.state === 'COPY' && joining?.takes(copy) ? joining : undefined;
  }

  // ------------------------------------------------------------------------------------------ GATE, COMMIT

  /**
   * The first ack says that the snapshot is loaded; where it has disks of its own they have to be whole too, for which a
   * guest need not wait. From the `end` of the log on, the new backup is a gate.
   */
  gateWhenWhole(partner: Partner, end: bigint, now: HostMilliseconds): void {
    if (partner !== this.#partners.joining || this.#standing.state !== 'COPY' || !partner.loaded) return;
    this.#guestWaits &&= partner.whole;
    if (!partner.whole) return;
    this.#partners.startGate(end, now);
    this.#standing.enter(
      'GATE',
      this.#move.underWay ? 'the guest is at its target' : `gate at position ${end}${resyncedText(partner)}`,
    );
  }

  /** The backup to ask the arbiter for: it has everything that was let out before it became a gate. */
  get received(): InstanceId | undefined {
    if (this.#standing.state !== 'GATE' || !this.#partners.gatePassed) return undefined;
    return this.#partners.joining?.instance;
  }

  /** The arbiter has made the pair, at `reached`. */
  committed(reached: Epoch, now: HostMilliseconds): void {
    const old = this.#partners.pair;
    if (old) this.#search.retire(old.address);
    this.#partners.promote(reached, now);
    this.#guestWaits = false;
    this.#migrating = false;
    this.#standing.enter('PAIR', `protected by ${this.#partners.pair?.instance}`);
  }

  // ------------------------------------------------------------------------------------------ loss

  /** In COPY and GATE only. */
  lost(reason: string, now: HostMilliseconds): void {
    this.#partners.dropJoining();
    // A VM that was to wait for its first backup goes on without: it says so, and keeps trying.
    this.#guestWaits = false;
    this.#migrating = false;
    const { pair } = this.#partners;
    const what = this.#move.underWay
      ? `${reason}${this.#move.giveUp(now)}`
      : `the new backup was lost: ${reason}`;
    this.#standing.enter(pair ? 'PAIR' : 'SOLE', what);
    // Soon enough that a backup that is still there has not suspected by then.
    const rest = hostMilliseconds(now + this.#side.timing.suspicionMs / 4);
    if (this.#search.wanted && !pair) this.#search.rest(rest, now);
  }

  /** In COPY and GATE: why it is waited for no longer. */
  whyGivenUp(joining: Partner, silence: Silence | undefined, now: HostMilliseconds): string | undefined {
    const { copyMs, reachMs } = this.#side.timing;
    const waited = now - joining.since;
    // The first backup of a VM may still be starting; any other that does not even answer is given up soon.
    const patience = this.#guestWaits ? copyMs : reachMs;
    if (silence === 'silent' && joining.connected) return 'it is silent';
    // In GATE outputs wait for it already.
    if (silence === 'stuck' && this.#standing.state === 'GATE') return 'nothing is acked';
    if (!joining.connected && !joining.copied && waited >= patience) return 'it cannot be reached';
    if (now - joining.progress >= copyMs || this.#stoodTooLong(now)) return 'it was not ready in time';
    return undefined;
  }

  /** In COMMIT: why the arbiter is asked who goes on. `askedForMs`: so long it has been asked for the pair. */
  whyUncommitted(
    silence: Silence | undefined,
    askedForMs: number,
    now: HostMilliseconds,
  ): string | undefined {
    if (silence === 'silent') return 'the new backup is silent while the commit is open';
    if (askedForMs >= this.#side.timing.commitMs || this.#stoodTooLong(now))
      return 'the commit is not answered';
    return undefined;
  }

  #stoodTooLong(now: HostMilliseconds): boolean {
    return this.#move.stillMs(now) >= this.#side.timing.stillMs;
  }
}

function resyncedText(partner: Partner): string {
  const figures = partner.resynced;
  return figures ? `; of the disks ${figures.blocks} blocks, ${figures.zeroes} of them zeroes` : '';
}
