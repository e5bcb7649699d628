import type { HostMilliseconds, InstructionCount } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { FtAction } from './action.ts';
import type { BlockSet } from './block-set.ts';
import type { Extent } from './extent.ts';
import { FormerCopies } from './former-copies.ts';
import type { Epoch } from './identity.ts';
import type { Link } from './link.ts';
import type { Heartbeat } from './message.ts';
import { Partner } from './partner.ts';
import type { Purpose } from './program.ts';
import type { ReferredRead } from './read-references.ts';
import type { Side } from './side.ts';

/**
 * The backups of one primary: that of the pair, and one that is being attached. Both get the log; whose ack is awaited
 * before an output leaves are the gates of protocol 4. Of those before, it is known what their disks lack.
 */
export class Partners {
  readonly #side: Side;
  readonly #do: (action: FtAction) => void;
  #pair: Partner | undefined;
  #joining: Partner | undefined;
  /** From here on outputs wait for the joining one too. */
  #gatePosition: bigint | undefined;
  #hellos = 0;
  readonly #former = new FormerCopies();

  constructor(side: Side, perform: (action: FtAction) => void) {
    this.#side = side;
    this.#do = perform;
  }

  /** The backup of the pair: its ack is a gate. After suspicion it stays until the verdict. */
  get pair(): Partner | undefined {
    return this.#pair;
  }

  /** A backup that is being attached. */
  get joining(): Partner | undefined {
    return this.#joining;
  }

  /** The one whose lag counts. */
  get followed(): Partner | undefined {
    return this.#pair ?? this.#joining;
  }

  /** Unacked, of the one that has more of it. */
  get bytes(): number {
    return Math.max(this.#pair?.bytes ?? 0, this.#joining?.bytes ?? 0);
  }

  // ------------------------------------------------------------------------------------------ who they are

  attach(generation: Epoch, address: string, purpose: Purpose, now: HostMilliseconds): void {
    const nextHello = (): number => ++this.#hellos;
    this.#joining = new Partner(this.#side, generation, address, purpose, now, this.#do, nextHello);
  }

  /**
   * The joining one has loaded: its silence counts afresh, and its ack from the log's `end` on. A moved guest's log ends
   * with its snapshot: what is made after it, should it run here again, waits for the arbiter.
   */
  startGate(end: bigint, now: HostMilliseconds): void {
    const { joining } = this;
    this.#gatePosition = joining?.purpose === 'move' ? joining.acked : end;
    joining?.watch(now);
  }

  /** The joining one has everything that was let out before it became a gate. */
  get gatePassed(): boolean {
    const position = this.#gatePosition;
    return position !== undefined && this.#joining !== undefined && this.#joining.acked >= position;
  }

  /** Committed: the joining one is the pair's. The old one is told that it is over. */
  promote(reached: Epoch, now: HostMilliseconds): void {
    this.#remember(this.#pair);
    if (this.#joining) this.#former.whole(this.#joining.copyName.id);
    this.#pair?.cut(reached);
    this.#pair = this.#joining;
    this.#joining = undefined;
    this.#gatePosition = undefined;
    this.#pair?.watch(now);
  }

  dropJoining(): void {
    this.#remember(this.#joining);
    this.#joining?.cut();
    this.#joining = undefined;
    this.#gatePosition = undefined;
  }

  /** Alone: the gates fall, and whoever still listens is told. */
  dropAll(reached: Epoch): void {
    this.#remember(this.#pair);
    this.#pair?.cut(reached);
    this.#pair = undefined;
    this.dropJoining();
  }

  cut(): void {
    this.#pair?.cut();
    this.#joining?.cut();
  }

  /** A backup is gone for good: should its copy come back, it is known what that lacks. */
  #remember(partner: Partner | undefined): void {
    const lacks = partner?.lacks;
    if (!partner || !lacks) return;
    const { instance: primary } = this.#side;
    this.#former.lost(partner.copyName.id, { primary, generation: partner.generation }, lacks);
  }

  /** Of the joining one's disks; undefined: they may lack anything. */
  get lackedByJoining(): BlockSet | undefined {
    return this.#joining && this.#former.lackedBy(this.#joining.copyName);
  }

  // ------------------------------------------------------------------------------------------ the log

  /** `read`: what the pair's backup gets for the payload. A joining one gets everything: it may not be there in time. */
  append(
    sequence: bigint,
    at: InstructionCount,
    payload: LogPayload,
    now: HostMilliseconds,
    read?: ReferredRead,
  ): void {
    this.#pair?.append(sequence, at, payload, now, read);
    this.#joining?.append(sequence, at, payload, now);
  }

  /** A write that waits until the pair's backup has read what was there. */
  holdBack(request: DiskRequestOutput): boolean {
    return this.#pair?.holdsBack(request) === true;
  }

  /** Disks of their own: the entry at `position` writes there. */
  wrote(position: bigint, extent: Extent): void {
    this.#pair?.wrote(position, extent);
    this.#joining?.wrote(position, extent);
    this.#former.wrote(extent);
  }

  flush(): void {
    this.#pair?.flush();
    this.#joining?.flush();
  }

  /** How far in a log that ends at `end` every gate has received everything. */
  ackedByAll(end: bigint): bigint {
    let acked = end;
    if (this.#pair && this.#pair.acked < acked) acked = this.#pair.acked;
    if (this.#gatePosition !== undefined && this.#joining && this.#joining.acked < acked)
      acked = this.#joining.acked;
    return acked;
  }

  // ------------------------------------------------------------------------------------------ channel and time

  of(link: Link): Partner | undefined {
    if (this.#joining?.owns(link)) return this.#joining;
    return this.#pair?.owns(link) ? this.#pair : undefined;
  }

  /** False: nobody asked for this connection. */
  accept(link: Link, address: string): boolean {
    return this.#joining?.accept(link, address) || this.#pair?.accept(link, address) || false;
  }

  reconnectSoon(now: HostMilliseconds): void {
    this.#joining?.reconnectSoon(now);
    this.#pair?.reconnectSoon(now);
  }

  heartbeat(heartbeat: Heartbeat, now: HostMilliseconds): void {
    this.#pair?.heartbeat(heartbeat, now);
    this.#joining?.heartbeat(heartbeat, now);
  }

  tick(now: HostMilliseconds): void {
    this.#joining?.tick(now);
    this.#pair?.tick(now);
  }

  beat(): void {
    this.#pair?.beat();
    this.#joining?.beat();
  }
}
