import type { HostMilliseconds, InstructionCount } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { FtAction } from './action.ts';
import type { BlockSet } from './block-set.ts';
import { type CopyName, NO_COPY } from './copy-name.ts';
import type { DiskResync } from './disk-resync.ts';
import type { MachineSnapshot } from './event.ts';
import { ExecutionLag } from './execution-lag.ts';
import { changesDisk, type Extent } from './extent.ts';
import type { Epoch, InstanceId } from './identity.ts';
import type { Link } from './link.ts';
import { LogStream } from './log-stream.ts';
import type { Heartbeat, Message } from './message.ts';
import type { OutputGate } from './output-gate.ts';
import { PartnerCopy } from './partner-copy.ts';
import { PartnerLink } from './partner-link.ts';
import { PartnerWatch, type Silence } from './partner-watch.ts';
import { mismatch, otherVersion, type Purpose } from './program.ts';
import { type ReferredRead, UnreplayedReads } from './read-references.ts';
import type { Side } from './side.ts';

/** What a message of the backup means to its primary, beyond what is done here. */
export type PartnerNews =
  /** It is there and empty: a snapshot may be sent. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'acked' }
  /** So many parts of the copy have arrived. */
  | { readonly kind: 'staged'; readonly parts: number }
  /** It cannot go on where it was: what it had is gone. */
  | { readonly kind: 'forgot'; readonly reason: string }
  /** The connection is no good any more. */
  | { readonly kind: 'broken'; readonly reason: string }
  /** It can never be a partner of this side. */
  | { readonly kind: 'unfit'; readonly reason: string }
  /** Blocks of the disks were stored; its copy is whole. */
  | { readonly kind: 'stored' }
  | { readonly kind: 'whole' }
  | { readonly kind: 'over'; readonly epoch: Epoch }
  | { readonly kind: 'diverged'; readonly reason: string };

const ACKED: PartnerNews = { kind: 'acked' };

/** One backup as its primary sees it: its generation, its log, its connection, and whether it is there. */
export class Partner {
  readonly address: string;
  readonly generation: Epoch;
  readonly purpose: Purpose;
  readonly since: HostMilliseconds;
  readonly lag = new ExecutionLag();
  #copy: number | undefined;
  #parts = 0;
  #progress: HostMilliseconds | undefined;
  readonly #side: Side;
  readonly #do: (action: FtAction) => void;
  readonly #link: PartnerLink;
  #instance: InstanceId | undefined;
  /** From the snapshot on. */
  #stream: LogStream | undefined;
  #watch: PartnerWatch | undefined;
  readonly #unreplayed = new UnreplayedReads();
  readonly #disks: PartnerCopy;
  #loaded = false;

  constructor(
    side: Side,
    generation: Epoch,
    address: string,
    purpose: Purpose,
    now: HostMilliseconds,
    perform: (action: FtAction) => void,
    attempt: () => number,
  ) {
    this.#side = side;
    this.generation = generation;
    this.address = address;
    this.purpose = purpose;
    this.since = now;
    this.#do = perform;
    this.#disks = new PartnerCopy(side.disks, perform);
    this.#link = new PartnerLink(side, address, generation, perform, attempt);
  }

  get instance(): InstanceId | undefined {
    return this.#instance;
  }

  /** Bytes that it has not acked. */
  get bytes(): number {
    return this.#stream?.bytes ?? 0;
  }

  /** It has been sent a snapshot. */
  get copied(): boolean {
    return this.#stream !== undefined;
  }

  /** It has acked: so it has loaded the snapshot. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** Of its disks, where they are of its own [PartnerCopy]. */
  get copyName(): CopyName {
    return this.#disks.name;
  }

  get lacks(): BlockSet | undefined {
    return this.#disks.lacks;
  }

  get whole(): boolean {
    return this.#disks.whole;
  }

  get resynced(): DiskResync['figures'] | undefined {
    return this.#disks.figures;
  }

  /** The suspicion time-out as it adapted to this partner's heartbeats. */
  get timeoutMs(): number {
    return this.#watch?.timeoutMs ?? 0;
  }

  get connected(): boolean {
    return this.#link.bound !== undefined;
  }

  /** How far in the primary's log it has received everything; before the snapshot nothing counts. */
  get acked(): bigint {
    return this.#stream?.acked ?? -1n;
  }

  // ------------------------------------------------------------------------------------------ the log

  /** `read`: it gets this for the payload, and reads the rest itself. */
  append(
    sequence: bigint,
    at: InstructionCount,
    payload: LogPayload,
    now: HostMilliseconds,
    read?: ReferredRead,
  ): void {
    // After the snapshot of a guest that stands still there is nothing to replay, and nothing is sent.
    if (!this.#stream || this.#link.isCut || this.purpose === 'move') return;
    const entry = this.#stream.append({ sequence, at, ...(read?.payload ?? payload) }, this.connected);
    if (read) this.#unreplayed.told(sequence, read.extent);
    this.#link.send({ kind: 'entry', entry });
    if (payload.kind === 'input') this.lag.made(sequence, at, now);
  }

  /** On a shared disk: it writes where this backup has still to read. */
  holdsBack(request: DiskRequestOutput): boolean {
    return this.#unreplayed.holdBack(request);
  }

  flush(): void {
    this.#link.flush();
  }

  /** The vCPU copies its guest for this partner now, under this number: what it tells of an older copy is void. */
  beginCopy(number: number): void {
    this.#copy = number;
    this.#parts = 0;
  }

  /** Is the copy with this number the one that is under way? */
  takes(copy: number): boolean {
    return copy === this.#copy;
  }

  /** When its copy last got on, or began. */
  get progress(): HostMilliseconds {
    return this.#progress ?? this.since;
  }

  /** A part of the copy that goes before the snapshot. */
  sendPages(bytes: Uint8Array): void {
    if (!this.connected || this.#stream) return;
    this.#parts += 1;
    this.#link.send({ kind: 'pages', bytes });
    this.flush();
  }

  /** Everything that the vCPU told so far is in the snapshot; the next entry is position 1 of this generation. */
  copy(
    snapshot: MachineSnapshot,
    end: bigint,
    { released, outputs, started }: Pick<OutputGate, 'released' | 'outputs' | 'started'>,
    told: { readonly stoodUs: number; readonly faultTolerance: boolean },
    lacking: BlockSet | undefined,
  ): void {
    const link = this.#link.bound;
    if (link === undefined || this.#stream || this.#copy === undefined) return;
    if (this.#side.disks.own) this.#link.send({ kind: 'disks-begin', whole: lacking === undefined });
    this.#stream = new LogStream(end);
    const { machine, count, position, digest } = snapshot;
    const bytes = machine.length;
    this.#link.send({ kind: 'snapshot-begin', bytes, count, position, released, digest, ...told });
    for (const output of outputs) this.#link.send({ kind: 'held-output', output });
    this.#do({ kind: 'send-snapshot', link, snapshot: machine });
    this.#link.send({ kind: 'snapshot-end' });
    this.#do({ kind: 'flush', link });
    // What is under way travels in the snapshot, and is carried out again there, maybe after the disks are whole.
    for (const request of started) if (changesDisk(request)) this.#disks.wrote(end, request);
    this.#disks.begin(this.#copy, lacking);
    this.#resyncOn();
  }

  // ------------------------------------------------------------------------------------------ disks of its own

  /** The entry at `position` writes there, whether it is sent or not: what this copy lacks counts also after the end. */
  wrote(position: bigint, extent: Extent): void {
    if (this.#stream) this.#disks.wrote(position, extent);
  }

  /** A block that was asked for. It goes behind the marks of all writes that it may hold. */
  sendBlock(copy: number, extent: Extent, data: Uint8Array | undefined): void {
    if (!this.connected || this.#link.isCut || !this.#disks.sent(copy, data)) return;
    this.#link.send({ kind: 'disk-block', extent, data });
    this.flush();
  }

  #resyncOn(): void {
    if (!this.#disks.goOn(this.connected)) return;
    this.#link.send({ kind: 'disks-end' });
    this.flush();
  }

  #stored(blocks: number, now: HostMilliseconds): PartnerNews {
    if (!this.#disks.stored(blocks)) return { kind: 'broken', reason: `${blocks} blocks stored, never sent` };
    this.#watch?.heard(now);
    this.#progress = now;
    this.#resyncOn();
    return { kind: 'stored' };
  }

  #isWhole(): PartnerNews {
    return this.#disks.becameWhole()
      ? { kind: 'whole' }
      : { kind: 'broken', reason: 'the disks are whole before their end was sent' };
  }

  #secured(position: bigint): PartnerNews | undefined {
    const stream = this.#stream;
    if (!stream || position > stream.replayed)
      return { kind: 'broken', reason: `position ${position} secured, never replayed` };
    this.#disks.secured(stream.base + position);
    return undefined;
  }

  // ------------------------------------------------------------------------------------------ the channel

  owns(link: Link): boolean {
    return this.#link.owns(link);
  }

  /** A connection that this partner asked for. False when it has no use for it. */
  accept(link: Link, address: string): boolean {
    return this.#link.accept(link, address, !this.#stream, this.purpose);
  }

  received(link: Link, message: Message, now: HostMilliseconds): PartnerNews | undefined {
    switch (message.kind) {
      case 'welcome':
        return this.#link.greets(link) ? this.#welcomed(link, message, now) : undefined;
      case 'other-version':
        return this.#link.greets(link) ? { kind: 'unfit', reason: otherVersion(message) } : undefined;
      case 'ack':
        // What was made while no connection was open has been sent to nobody yet.
        if (link !== this.#link.bound) return { kind: 'broken', reason: 'an ack before the welcome' };
        return this.#acked(message.received, message.replayed, now);
      case 'staged':
        if (link !== this.#link.bound) return { kind: 'broken', reason: 'staged before the welcome' };
        return this.#staged(message.parts, now);
      case 'blocks-stored':
      case 'disks-whole':
      case 'disks-secured':
        if (link !== this.#link.bound)
          return { kind: 'broken', reason: `${message.kind} before the welcome` };
        if (message.kind === 'blocks-stored') return this.#stored(message.blocks, now);
        return message.kind === 'disks-whole' ? this.#isWhole() : this.#secured(message.position);
      case 'over':
        return { kind: 'over', epoch: message.epoch };
      case 'diverged':
        return { kind: 'diverged', reason: message.reason };
      default:
        return { kind: 'broken', reason: `a primary gets no ${message.kind}` };
    }
  }

  #welcomed(
    link: Link,
    welcome: Message & { kind: 'welcome' },
    now: HostMilliseconds,
  ): PartnerNews | undefined {
    const { vm, program } = this.#side;
    const rightPair = welcome.vm === vm && welcome.generation === this.generation;
    const rightSender = this.#instance === undefined || this.#instance === welcome.sender;
    const mixedUp = !this.#stream && welcome.loaded;
    const differs = mismatch(program, welcome, this.purpose, 'there');
    if (rightPair && differs !== undefined) return { kind: 'unfit', reason: differs };
    if (mixedUp || !rightPair || !rightSender) {
      const who = `${welcome.vm}, generation ${welcome.generation}`;
      return { kind: 'broken', reason: `the other side is not this VM's backup (${who})` };
    }
    this.#link.bind(link);
    this.#instance = welcome.sender;
    if (!this.#stream) {
      this.#disks.name = welcome.copy ?? NO_COPY;
      this.watch(now);
      return { kind: 'empty' };
    }
    // Resumed: after the last position that the backup has received, nothing again and nothing left out.
    const missing = welcome.loaded ? this.#stream.after(welcome.received) : undefined;
    if (!missing) return { kind: 'forgot', reason: `it cannot go on after position ${welcome.received}` };
    for (const entry of missing) this.#link.send({ kind: 'entry', entry });
    this.#do({ kind: 'flush', link });
    return this.#acked(welcome.received, this.#stream.replayed, now);
  }

  #staged(parts: number, now: HostMilliseconds): PartnerNews {
    if (parts > this.#parts) return { kind: 'broken', reason: `${parts} parts staged, ${this.#parts} sent` };
    this.#watch?.heard(now);
    this.#progress = now;
    return { kind: 'staged', parts };
  }

  #acked(received: bigint, replayed: bigint, now: HostMilliseconds): PartnerNews {
    const stream = this.#stream;
    if (!stream?.ack(received, replayed))
      return { kind: 'broken', reason: `ack of position ${received}, never sent` };
    this.#watch?.heard(now);
    this.#loaded = true;
    this.lag.received(stream.acked, now);
    this.lag.replayed(stream.base + stream.replayed, now);
    this.#unreplayed.replayed(stream.base + stream.replayed);
    return ACKED;
  }

  /** The connection is gone: it was broken from outside, or is closed here for what came on it. */
  broken(link: Link, now: HostMilliseconds, close: boolean): void {
    this.#link.broken(link, close);
    this.#watch?.broke(now);
  }

  reconnectSoon(now: HostMilliseconds): void {
    this.#link.reconnectSoon(now);
  }

  /** The guest is there, and has been committed: nothing is executed here any more. */
  giveOver(faultTolerance: boolean): void {
    this.#link.send({ kind: 'take-over', faultTolerance });
    this.flush();
  }

  /** Nothing more of the log is sent to it; its connection stays, for the last word. */
  fallSilent(): void {
    this.#link.fallSilent();
  }

  /** For good: nothing more is sent to it, and nothing of it is heard. What it acked stays valid. */
  cut(over?: Epoch): void {
    this.#link.cut(over);
  }

  // ------------------------------------------------------------------------------------------ time

  /** From now on its silence counts afresh. */
  watch(now: HostMilliseconds): void {
    this.#watch = new PartnerWatch(now, this.#side.timing);
  }

  heartbeat({ vm, generation, sender }: Heartbeat, now: HostMilliseconds): void {
    const right = vm === this.#side.vm && generation === this.generation && sender === this.#instance;
    if (right && !this.#link.isCut) this.#watch?.heartbeat(now);
  }

  tick(now: HostMilliseconds): void {
    this.#link.tick(now);
  }

  beat(): void {
    if (this.#link.isCut) return;
    const { vm, instance } = this.#side;
    const received = this.#stream?.end ?? 0n;
    const replayed = this.#stream?.replayed ?? 0n;
    const heartbeat = { vm, generation: this.generation, sender: instance, received, replayed };
    this.#do({ kind: 'heartbeat', heartbeat, to: this.address });
  }

  /** Called every heartbeat interval while its silence matters. */
  check(now: HostMilliseconds): Silence | undefined {
    const progress = this.#stream ? this.#stream.acked + this.#stream.replayed : 0n;
    return this.#watch?.check(now, this.connected, this.bytes > 0, progress);
  }

  /** It is stuck: the connection is made anew, once. What then still does not help is suspicion, in words. */
  unstick(now: HostMilliseconds): { readonly suspicion?: string; readonly broken?: string } {
    const link = this.#link.bound;
    if (link === undefined) return { suspicion: 'the logging channel stays broken' };
    if (!this.#watch?.giveUpConnection())
      return { suspicion: 'nothing is acked, on a new connection neither' };
    this.broken(link, now, true);
    this.reconnectSoon(now);
    return { broken: 'nothing is acked' };
  }
}
