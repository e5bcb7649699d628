import { unreachable } from '../base/assert.ts';
import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { EntryOrder } from '../replay/entry-order.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import { BackupReads } from './backup-reads.ts';
import { CopyReception } from './copy-reception.ts';
import { DiskOpening } from './disk-opening.ts';
import type { FtEvent } from './event.ts';
import { FailureDetector } from './failure-detector.ts';
import { type Epoch, epoch, type InstanceId, renamed } from './identity.ts';
import { Lease } from './lease.ts';
import type { Link } from './link.ts';
import { type Heartbeat, type Message, PROTOCOL_VERSION } from './message.ts';
import { mismatch, otherVersion, type Purpose } from './program.ts';
import { ReplayBuffer } from './replay-buffer.ts';
import { namedCopy, type Side } from './side.ts';
import { SnapshotReception } from './snapshot-reception.ts';
import { SuppressedOutputs } from './suppressed-outputs.ts';

/** Protocol 5. WAIT: no primary has come yet. LIVE: this side goes on as a Primary. */
export type BackupState = 'WAIT' | 'LOAD' | 'BACK' | 'ASK' | 'OPEN' | 'LIVE' | 'HALT';

export interface BackupFigures {
  readonly state: BackupState;
  readonly received: bigint;
  readonly replayed: bigint;
  readonly bufferedBytes: number;
}

/** What is on stable storage of a copy of one's own is told once in so many heartbeats. */
const SECURE_HEARTBEATS = 10;

/** The pair that this backup belongs to: the first hello decides, and binds it until it is loaded. */
interface Pair {
  readonly generation: Epoch;
  readonly primary: InstanceId;
  readonly purpose: Purpose;
}

/** What the source of a moved guest said with its snapshot. */
interface Moved {
  readonly faultTolerance: boolean;
  /** When its guest stood still, by this host's clock and but for the way here. */
  readonly stoodSince: HostMilliseconds;
}

/** The backup's half of the protocol: events in, actions out. */
export class Backup {
  readonly #perform = (action: FtAction): void => this.#do(action);
  readonly #process: InstanceId;
  #side: Side;
  #actions: FtAction[] = [];
  #now: HostMilliseconds;
  #state: BackupState = 'WAIT';
  #pair: Pair | undefined;
  /** Connections that have not said hello carry nothing else; this one has. */
  #link: Link | undefined;
  /** The last hello that was listened to: an earlier one of the same primary comes late. */
  #greeted: { readonly sender: InstanceId; readonly attempt: number } | undefined;
  #reception: SnapshotReception;
  readonly #copy: CopyReception;
  /** Parts of the copy that came before its snapshot. */
  #staged = 0;
  #expectedDigest: string | undefined;
  /** Loads that the vCPU has not answered; what it says before the last answer is about an earlier try. */
  #loading = 0;
  #order = new EntryOrder();
  #replayed = 0n;
  #buffer: ReplayBuffer;
  #outputs = new SuppressedOutputs(0n, []);
  #reads = new BackupReads(this.#perform);
  /** The log is closed, and its end is told to the vCPU when the last entry has gone there. */
  #closing = false;
  /** The log says that fault tolerance is being ended by order. Who wins is the arbiter's to say all the same. */
  #parted = false;
  /** The log ends with a planned takeover. */
  #handedOver = false;
  #detector: FailureDetector;
  #questions: ArbiterQuestions;
  readonly #disks: DiskOpening;
  #lease: Lease;
  /** Questions given up for a new copy. */
  #givenUp = 0;
  /** Its question came before the commit of its pair. */
  #early = false;
  #wonEpoch: Epoch | undefined;
  #pending: readonly DiskRequestOutput[] | undefined;
  #moved: Moved | undefined;

  constructor(side: Side, now: HostMilliseconds) {
    this.#process = side.instance;
    this.#side = side;
    this.#now = now;
    this.#reception = new SnapshotReception(side.disks.own);
    const everyMs = SECURE_HEARTBEATS * side.timing.heartbeatMs;
    this.#copy = new CopyReception(side.copy, everyMs, this.#perform, (message) => this.#tell(message));
    this.#detector = this.#newDetector();
    this.#buffer = new ReplayBuffer(side.limits.backupBytes);
    this.#questions = new ArbiterQuestions(side, 'b', this.#perform);
    this.#disks = new DiskOpening(false, side.timing.requestMaxMs, this.#perform);
    this.#lease = new Lease(side, this.#perform);
  }

  get state(): BackupState {
    return this.#state;
  }

  figures(): BackupFigures {
    const bufferedBytes = this.#buffer.bytes;
    return { state: this.#state, received: this.#order.sequence, replayed: this.#replayed, bufferedBytes };
  }

  start(now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    this.#enter('WAIT', 'no primary yet');
    return this.#take();
  }

  step(event: FtEvent, now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.#state === 'HALT' || this.#state === 'LIVE') return [];
    switch (event.kind) {
      case 'tick':
        this.#tick();
        break;
      case 'answered':
        this.#answered(event.answer);
        break;
      case 'disks-opened':
        this.#disksOpened(event.epoch, event.verdict);
        break;
      case 'fenced':
        this.#halt('the disks belong to a newer generation');
        break;
      case 'received':
        this.#receivedAll(event.link, event.messages);
        break;
      case 'broken':
        if (event.link !== undefined && event.link === this.#link) this.#linkLost(event.reason);
        // A stranger on the channel: one line, and nothing of it was applied.
        else this.#do({ kind: 'state', state: 'refused', detail: `a connection: ${event.reason}` });
        break;
      case 'heartbeat':
        this.#heartbeat(event.heartbeat);
        break;
      case 'output':
        // Of a state before the snapshot that is being loaded: no part of this history.
        if (this.#loading === 0 && this.#state !== 'WAIT') this.#made(event.output);
        break;
      case 'disk-read':
        this.#reads.answered(event.disk, event.request, event.data);
        this.#give();
        break;
      case 'block-stored':
        if (this.#state === 'LOAD' || this.#state === 'BACK') this.#copy.stored();
        break;
      case 'copy-secured':
        if (this.#state === 'LOAD' || this.#state === 'BACK') this.#copy.secured(event.number);
        break;
      case 'copy-failed':
        this.#diverged(event.reason);
        break;
      case 'loaded':
        this.#loaded(event.digest, event.pending);
        break;
      case 'replayed':
        this.#replayedTo(event.sequence);
        break;
      case 'replayed-to-end':
        // Of a copy that was given up, if another has come since: that one's log has not ended.
        if ((this.#state === 'ASK' || this.#state === 'OPEN') && this.#loading === 0)
          this.#pending = event.pending;
        break;
      case 'diverged':
        this.#diverged(event.reason);
        break;
      case 'vcpu-stopped':
        // A backup whose vCPU died stops acking at once and never goes live (rule 5).
        if (event.failed) this.#diverged(`the vCPU stopped: ${event.reason}`);
        break;
      case 'protect':
      case 'migrate-backup':
      case 'switch-over':
      case 'move':
        this.#do({
          kind: 'state',
          state: 'refused',
          detail: `${event.kind}: this side does not run the guest`,
        });
        break;
      case 'disk-completed':
      case 'input':
      case 'connected':
      case 'entry':
      case 'flush':
      case 'pages':
      case 'snapshot':
      case 'block-read':
      case 'handed-over':
      case 'candidate':
      case 'unprotect':
        // A silent backup has no disks, no network and no live vCPU.
        break;
      default:
        return unreachable(event);
    }
    this.#goLiveWhenReady();
    return this.#take();
  }

  // ------------------------------------------------------------------------------------------ the channel

  #receivedAll(link: Link, messages: readonly Message[]): void {
    const entries: LogEntry[] = [];
    for (const message of messages) {
      // What came before a message that changes the state is in the buffer before it does (rule 3).
      if (message.kind === 'hello' || message.kind === 'over') this.#accept(entries.splice(0));
      if (message.kind === 'hello') {
        this.#hello(link, message);
        continue;
      }
      if (message.kind === 'other-version') {
        this.#turnAway(link, message, otherVersion(message));
        break;
      }
      if (link !== this.#link) {
        this.#do({ kind: 'close', link });
        break;
      }
      const problem = this.#received(message, entries);
      if (problem !== undefined) {
        // Order (rule 8): it ends the connection, and nothing of it or behind it is applied.
        this.#do({ kind: 'close', link });
        this.#linkLost(problem);
        break;
      }
    }
    this.#accept(entries);
  }

  /** What is wrong with the message, if anything. */
  #received(
    message: Exclude<Message, { kind: 'hello' | 'other-version' }>,
    entries: LogEntry[],
  ): string | undefined {
    switch (message.kind) {
      case 'entry': {
        if (this.#state !== 'BACK' && this.#state !== 'LOAD') return 'an entry before its snapshot';
        if (this.#state === 'LOAD' && this.#expectedDigest === undefined)
          return 'an entry before its snapshot';
        // Nothing was executed after it, so there is nothing to replay.
        if (this.#pair?.purpose === 'move') return 'an entry after the snapshot of a guest that is moved';
        if (message.entry.kind === 'read-reference' && !this.#side.disks.backupReads)
          return 'a reference to what was read, and this side reads nothing itself';
        const admitted = this.#order.admit(message.entry);
        if (!admitted.ok) return admitted.error;
        entries.push(message.entry);
        return undefined;
      }
      case 'pages':
        return this.#stage(message.bytes);
      case 'snapshot-begin':
      case 'held-output':
      case 'snapshot-part':
      case 'snapshot-end':
        return this.#snapshotPart(message);
      case 'disks-begin':
        if (this.#state !== 'LOAD' || this.#reception.begun) return 'the disks begin at the wrong time';
        return this.#copied(message);
      case 'disk-block':
      case 'disks-end':
        return this.#copied(message);
      case 'take-over':
        if (this.#state !== 'BACK' || !this.#moved) return 'take-over at the wrong time';
        this.#moved = { ...this.#moved, faultTolerance: message.faultTolerance };
        this.#suspect('the guest is handed over');
        return undefined;
      case 'over':
        if (this.#state === 'BACK') this.#suspect(`the partner says that epoch ${message.epoch} has come`);
        return undefined;
      case 'welcome':
      case 'ack':
      case 'staged':
      case 'blocks-stored':
      case 'disks-whole':
      case 'disks-secured':
      case 'diverged':
        return `a backup gets no ${message.kind}`;
      default:
        return unreachable(message);
    }
  }

  #hello(link: Link, hello: Message & { kind: 'hello' }): void {
    const { vm, host, program } = this.#side;
    const differs = hello.vm === vm ? mismatch(program, hello, hello.purpose, 'here') : undefined;
    if (differs !== undefined) {
      this.#turnAway(link, hello, differs);
      return;
    }
    const same =
      this.#pair?.generation === hello.generation &&
      this.#pair.primary === hello.sender &&
      this.#pair.purpose === hello.purpose;
    const late = hello.sender === this.#greeted?.sender && hello.attempt <= this.#greeted.attempt;
    if (late) {
      this.#do({ kind: 'close', link });
      return;
    }
    // Not by a primary of before: its pair can never be committed, the one that was asked for still can.
    const older = this.#pair !== undefined && hello.generation < this.#pair.generation;
    const again = this.#state === 'ASK' && this.#early && hello.fresh && !older;
    const open =
      this.#state === 'WAIT' || this.#state === 'LOAD' || again || (this.#state === 'BACK' && same);
    if (hello.vm !== vm || !open) {
      const reason = hello.vm === vm ? `generation ${hello.generation}` : 'another VM';
      this.#do({ kind: 'state', state: 'refused', detail: `a primary of ${reason}` });
      this.#do({ kind: 'close', link });
      return;
    }
    if (this.#link !== undefined && this.#link !== link) this.#do({ kind: 'close', link: this.#link });
    this.#link = link;
    this.#greeted = { sender: hello.sender, attempt: hello.attempt };
    // The same generation copied anew: its commit was never asked for, and the state of the try before is another.
    const loaded = this.#state === 'BACK' && !hello.fresh;
    if (again) this.#giveUp();
    if (!loaded)
      this.#expect({ generation: hello.generation, primary: hello.sender, purpose: hello.purpose });
    this.#detector.heard(this.#now);
    const { sequence: received } = this.#order;
    const version = PROTOCOL_VERSION;
    const { generation } = hello;
    const { instance } = this.#side;
    const envelope = { vm, generation, sender: instance, version, host, program };
    this.#send({ kind: 'welcome', ...envelope, loaded, received, copy: this.#copy.name });
    this.#flush();
    if (loaded && !this.#buffer.reading) this.#do({ kind: 'pause-reading', link });
  }

  /** The other side hears what this one is, and says so in its own words; nothing changes here. */
  #turnAway(link: Link, { generation }: { readonly generation: Epoch }, reason: string): void {
    const { vm, instance: sender, host, program } = this.#side;
    const introduction = { version: PROTOCOL_VERSION, host, program };
    const message: Message = {
      kind: 'welcome',
      ...{ vm, generation, sender },
      ...introduction,
      loaded: false,
      received: 0n,
    };
    this.#do({ kind: 'send', link, message });
    this.#do({ kind: 'close', link });
    if (link === this.#link) this.#linkLost(reason);
    this.#do({ kind: 'state', state: 'refused', detail: reason });
  }

  /** A primary came that wants to copy itself here: everything from an earlier try is forgotten. */
  #expect(pair: Pair): void {
    this.#pair = pair;
    this.#reception = new SnapshotReception(this.#side.disks.own);
    this.#copy.expect({ primary: pair.primary, generation: pair.generation });
    this.#staged = 0;
    this.#do({ kind: 'vcpu-forget-staged' });
    this.#expectedDigest = undefined;
    this.#order = new EntryOrder();
    this.#replayed = 0n;
    this.#buffer = new ReplayBuffer(this.#side.limits.backupBytes);
    this.#outputs = new SuppressedOutputs(0n, []);
    this.#reads = new BackupReads(this.#perform);
    this.#closing = false;
    this.#pending = undefined;
    this.#early = false;
    this.#parted = false;
    this.#handedOver = false;
    this.#moved = undefined;
    this.#questions.close();
    this.#detector = this.#newDetector();
    const what = pair.purpose === 'move' ? 'the guest moves here' : 'a copy';
    this.#enter('LOAD', `${what} from ${pair.primary}, generation ${pair.generation}`);
  }

  /**
   * The question asked for the copy before is open, and may reach the arbiter at any time. The pair that is made now
   * is one with somebody else, so that it can never win.
   */
  #giveUp(): void {
    this.#givenUp += 1;
    this.#side = { ...this.#side, instance: renamed(this.#process, this.#givenUp) };
    this.#questions = new ArbiterQuestions(this.#side, 'b', this.#perform);
    this.#lease = new Lease(this.#side, this.#perform);
  }

  #linkLost(reason: string): void {
    this.#link = undefined;
    this.#do({ kind: 'state', state: 'channel-broken', detail: reason });
    // A half-received copy is worth nothing; the primary drops it too.
    if (this.#state === 'LOAD') this.#enter('WAIT', 'the copy was broken off');
  }

  // ------------------------------------------------------------------------------------------ the snapshot

  /** Pages of the running guest: the vCPU keeps them for the snapshot that completes them. */
  #stage(pages: Uint8Array): string | undefined {
    if (this.#state !== 'LOAD' || this.#reception.begun) return 'pages at the wrong time';
    this.#detector.heard(this.#now);
    this.#staged += 1;
    this.#do({ kind: 'vcpu-stage', pages });
    this.#send({ kind: 'staged', parts: this.#staged });
    this.#flush();
    return undefined;
  }

  /** Of the disks, where each side has its own. */
  #copied(message: Parameters<CopyReception['receive']>[0]): string | undefined {
    const { own, bytes } = this.#side.disks;
    if (!own || (this.#state !== 'LOAD' && this.#state !== 'BACK'))
      return `${message.kind} at the wrong time`;
    this.#detector.heard(this.#now);
    return this.#copy.receive(message, bytes);
  }

  #tell(message: Message): void {
    this.#send(message);
    this.#flush();
  }

  #snapshotPart(message: Parameters<SnapshotReception['receive']>[0]): string | undefined {
    if (this.#state !== 'LOAD' || this.#expectedDigest !== undefined)
      return `${message.kind} at the wrong time`;
    const received = this.#reception.receive(message);
    if (!received.ok) return received.error;
    this.#detector.heard(this.#now);
    if (message.kind === 'snapshot-begin' && this.#pair?.purpose === 'move') {
      const stoodSince = hostMilliseconds(this.#now - message.stoodUs / 1000);
      this.#moved = { faultTolerance: message.faultTolerance, stoodSince };
    }
    if (!received.value) return undefined;
    const { snapshot, released, held } = received.value;
    this.#expectedDigest = snapshot.digest;
    this.#order = new EntryOrder(0n, snapshot.count);
    this.#outputs = new SuppressedOutputs(released, held, this.#side.disks.own);
    this.#loading += 1;
    this.#do({ kind: 'vcpu-load', snapshot });
    return undefined;
  }

  #loaded(digest: string, pending: readonly DiskRequestOutput[]): void {
    this.#loading -= 1;
    if (this.#loading > 0 || this.#state !== 'LOAD' || this.#expectedDigest === undefined) return;
    if (digest !== this.#expectedDigest) {
      this.#diverged(`the loaded snapshot has the digest ${digest} and not ${this.#expectedDigest}`);
      return;
    }
    this.#enter('BACK', this.#moved ? 'the guest is here and stands still' : 'replaying');
    if (!this.#moved) for (const request of pending) this.#asks(request);
    this.#give();
    this.#ack();
  }

  // ------------------------------------------------------------------------------------------ the log

  /** Append to the buffer, hand to the vCPU, then ack on receipt, before replay (design 4). */
  #accept(entries: readonly LogEntry[]): void {
    if (entries.length === 0) return;
    this.#detector.heard(this.#now);
    const replayed = entries.filter((entry) => entry.kind !== 'end' || entry.reason !== 'handed-over');
    // A planned takeover: the log is complete, and this side goes on with it.
    this.#handedOver ||= replayed.length < entries.length;
    for (const entry of entries) {
      if (entry.kind === 'released') this.#outputs.released(entry.output);
      if (entry.kind === 'input' && entry.input.kind === 'control')
        this.#parted ||= entry.input.action === 'end-protection';
    }
    const { reading } = this.#buffer;
    this.#buffer.received(replayed);
    this.#reads.add(replayed);
    this.#give();
    if (this.#state === 'BACK') this.#ack();
    if (this.#handedOver) this.#suspect('the primary hands over');
    if (reading && !this.#buffer.reading && this.#link !== undefined)
      this.#do({ kind: 'pause-reading', link: this.#link });
  }

  /** What needs no more reading goes to the vCPU. */
  #give(): void {
    const entries = this.#reads.take();
    if (entries.length > 0) this.#do({ kind: 'vcpu-replay', entries });
    if (!this.#closing || !this.#reads.empty) return;
    this.#closing = false;
    this.#do({ kind: 'vcpu-end-replay' });
  }

  #made(output: NumberedOutput): void {
    this.#outputs.made(output);
    if (output.output.kind === 'disk-request') this.#asks(output.output);
  }

  /** The guest asks its disks. Of what is not answered for it already this side reads what it has to itself. */
  #asks(request: DiskRequestOutput): void {
    const { own, backupReads } = this.#side.disks;
    if (request.operation !== 'read') {
      if (own) this.#do({ kind: 'replay-disk', request });
    } else if (backupReads) this.#reads.made(request);
  }

  #ack(): void {
    if (this.#link === undefined) return;
    this.#send({ kind: 'ack', received: this.#order.sequence, replayed: this.#replayed });
    this.#flush();
  }

  #replayedTo(sequence: bigint): void {
    if (this.#loading > 0 || this.#state === 'LOAD' || sequence <= this.#replayed) return;
    const readOver = this.#reads.over(this.#replayed, sequence);
    this.#replayed = sequence;
    const { reading } = this.#buffer;
    this.#buffer.replayed(sequence);
    if (this.#state !== 'BACK') return;
    if (this.#order.ended && !this.#handedOver && sequence === this.#order.sequence) {
      this.#halt('the VM was powered off');
      return;
    }
    if (this.#link === undefined) return;
    this.#send({ kind: 'ack', received: this.#order.sequence, replayed: sequence });
    if (readOver) this.#flush();
    if (!reading && this.#buffer.reading) this.#do({ kind: 'resume-reading', link: this.#link });
  }

  // ------------------------------------------------------------------------------------------ takeover

  #suspect(reason: string): void {
    const pair = this.#pair;
    if (this.#state !== 'BACK' || !pair) return;
    if (this.#order.ended && !this.#handedOver) {
      // The log has its orderly end: there is nothing to take over.
      this.#halt('the VM was powered off');
      return;
    }
    // The log is closed for ever: no read and, above all, no ack (rule 5).
    if (this.#link !== undefined) this.#do({ kind: 'close', link: this.#link });
    this.#link = undefined;
    this.#enter('ASK', reason);
    this.#closing = true;
    this.#give();
    const range = { lowest: pair.generation, highest: pair.generation };
    this.#questions.ask({ kind: 'claim', ...range, ...namedCopy(this.#side) }, this.#now);
  }

  #answered(answer: ArbiterAnswer): void {
    if (this.#wonEpoch !== undefined && this.#lease.answered(answer, this.#wonEpoch) === 'superseded') {
      this.#halt(`superseded: the VM's record stands at epoch ${answer.epoch}`);
      return;
    }
    if (this.#state !== 'ASK' || !this.#questions.answeredBy(answer) || !this.#pair) return;
    // Asked before the commit of this very pair, which may still be on its way: then this side may be the only one
    // left. That is no verdict, so the same question goes on being asked, until the record has moved or a primary
    // comes with a new copy.
    const early = answer.verdict === 'superseded' && answer.epoch < this.#pair.generation;
    // Whoever watches over the VM has to know that this side may ask in vain for ever.
    if (early && !this.#early)
      this.#do({
        kind: 'state',
        state: 'EARLY',
        detail: `the record stands at epoch ${answer.epoch}, before this pair; asking on`,
      });
    this.#early = early;
    if (early) return;
    const asked = this.#questions.since ?? this.#now;
    this.#questions.close();
    if (answer.verdict === 'superseded') {
      const parted = this.#parted ? 'fault tolerance was turned off; ' : '';
      this.#halt(`${parted}superseded: the VM's record stands at epoch ${answer.epoch}`);
      return;
    }
    this.#wonEpoch = epoch(answer.epoch);
    this.#lease.granted(asked);
    this.#enter('OPEN', `won epoch ${answer.epoch}`);
    this.#disks.ask(this.#wonEpoch, this.#now);
  }

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    if (this.#state === 'OPEN' && this.#disks.answered(opened, verdict) === 'refused')
      this.#halt('the disks are opened by a newer generation');
  }

  /** Replay to the end (rule 3), the epoch won (rule 4), every disk open (rule 7), a valid lease: in one step. */
  #goLiveWhenReady(): void {
    if (this.#state !== 'OPEN' || !this.#disks.open || !this.#pending || this.#wonEpoch === undefined) return;
    if (!this.#lease.held(this.#now)) return;
    const past = this.#outputs.takeover(this.#pending);
    const made = past.held.at(-1)?.number ?? past.released;
    const outputs = `outputs made up to ${made}, known to have left up to ${past.released}`;
    this.#enter('LIVE', `epoch ${this.#wonEpoch}; ${outputs}`);
    const { stoodSince, faultTolerance = !this.#parted } = this.#moved ?? {};
    const takeover = {
      ...{ epoch: this.#wonEpoch, leaseUntil: this.#lease.until, faultTolerance },
      ...(stoodSince !== undefined && { stoodMs: this.#now - stoodSince }),
      ...past,
    };
    this.#do({ kind: 'go-live', instance: this.#side.instance, takeover });
  }

  // ------------------------------------------------------------------------------------------ time

  #newDetector(): FailureDetector {
    return new FailureDetector(this.#now, this.#side.timing);
  }

  #heartbeat(heartbeat: Heartbeat): void {
    const { vm, generation, sender } = heartbeat;
    const pair = this.#pair;
    if (vm === this.#side.vm && generation === pair?.generation && sender === pair.primary) {
      this.#detector.heartbeat(this.#now);
    }
  }

  #tick(): void {
    const { vm, instance } = this.#side;
    this.#questions.tick(this.#now);
    this.#disks.tick(this.#now);
    this.#reads.tick();
    if (this.#state === 'BACK') this.#copy.tick(this.#replayed, this.#now);
    if (this.#state === 'OPEN' && this.#wonEpoch !== undefined) this.#lease.tick(this.#now, this.#wonEpoch);
    const suspected = this.#detector.check(this.#now);
    if (suspected && this.#state === 'BACK') this.#suspect('the primary is silent');
    if (suspected && this.#state === 'LOAD' && this.#expectedDigest === undefined) this.#silentCopy();
    if (this.#pair && (this.#state === 'LOAD' || this.#state === 'BACK')) {
      const { generation } = this.#pair;
      const received = this.#order.sequence;
      const heartbeat = { vm, generation, sender: instance, received, replayed: this.#replayed };
      this.#do({ kind: 'heartbeat', heartbeat });
    }
  }

  #silentCopy(): void {
    if (this.#link !== undefined) this.#do({ kind: 'close', link: this.#link });
    this.#linkLost('the primary is silent');
  }

  // ------------------------------------------------------------------------------------------ output

  /** Halts without asking: a side that is no copy never claims (protocol 5). */
  #diverged(reason: string): void {
    if (this.#link !== undefined) {
      this.#send({ kind: 'diverged', reason });
      this.#flush();
    }
    this.#halt(reason);
  }

  #enter(state: BackupState, detail: string): void {
    this.#state = state;
    // Who waits for a guest to be moved there protects nobody.
    const nobody = this.#pair?.purpose === 'move' && { protected: false };
    this.#do({ kind: 'state', state, detail, ...nobody });
  }

  #halt(reason: string): void {
    if (this.#link !== undefined) this.#do({ kind: 'close', link: this.#link });
    this.#link = undefined;
    this.#enter('HALT', reason);
    this.#do({ kind: 'halt', reason });
  }

  #send(message: Message): void {
    if (this.#link !== undefined) this.#do({ kind: 'send', link: this.#link, message });
  }

  #flush(): void {
    if (this.#link !== undefined) this.#do({ kind: 'flush', link: this.#link });
  }

  #do(action: FtAction): void {
    this.#actions.push(action);
  }

  #take(): readonly FtAction[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }
}
