import { unreachable } from '../base/assert.ts';
import type { HostMilliseconds } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { BackupLog } from './backup-log.ts';
import type { BackupFigures, BackupState } from './backup-state.ts';
import { BoundLink } from './bound-link.ts';
import { Claim } from './claim.ts';
import { CopyReception } from './copy-reception.ts';
import type { FtEvent } from './event.ts';
import { FailureDetector } from './failure-detector.ts';
import { type Hello, introduce, judge, type Pair } from './greeting.ts';
import { GuestArrival } from './guest-arrival.ts';
import type { Epoch, InstanceId } from './identity.ts';
import type { Link } from './link.ts';
import type { Heartbeat, Message } from './message.ts';
import { whyNotNow } from './message-order.ts';
import { otherVersion } from './program.ts';
import type { Side } from './side.ts';
import type { SnapshotMessage } from './snapshot-reception.ts';

/** What is on stable storage of a copy of one's own is told once in so many heartbeats. */
const SECURE_HEARTBEATS = 10;

/** A backup that has caught up tells so at once, at most this often: its lag is judged by that. */
const CAUGHT_UP_EVERY_MS = 8;

/**
 * The backup's half of the protocol: events in, actions out. It decides what may come when and what it means; whom it
 * listens to, the guest's arrival, its log and its claim stand in files of their own.
 */
export class Backup {
  readonly #perform = (action: FtAction): void => this.#do(action);
  readonly #side: Side;
  #actions: FtAction[] = [];
  #now: HostMilliseconds;
  #flushedAt = Number.NEGATIVE_INFINITY;
  #state: BackupState = 'WAIT';
  #pair: Pair | undefined;
  /** The last hello that was listened to. */
  #greeted: { readonly sender: InstanceId; readonly attempt: number } | undefined;
  readonly #link: BoundLink;
  readonly #arrival: GuestArrival;
  readonly #copy: CopyReception;
  #log: BackupLog;
  #detector: FailureDetector;
  readonly #claim: Claim;

  constructor(side: Side, now: HostMilliseconds) {
    this.#side = side;
    this.#now = now;
    this.#link = new BoundLink(this.#perform);
    this.#arrival = new GuestArrival(this.#perform);
    const everyMs = SECURE_HEARTBEATS * side.timing.heartbeatMs;
    this.#copy = new CopyReception(side.copy, everyMs, this.#perform, (message) => this.#link.tell(message));
    this.#log = this.#newLog();
    this.#detector = this.#newDetector();
    this.#claim = new Claim(side, this.#perform);
  }

  get state(): BackupState {
    return this.#state;
  }

  figures(): BackupFigures {
    const { received, replayed, bufferedBytes } = this.#log;
    return { state: this.#state, received, replayed, bufferedBytes };
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
        if (this.#link.is(event.link)) this.#linkLost(event.reason);
        // A stranger on the channel: one line, and nothing of it was applied.
        else this.#do({ kind: 'state', state: 'refused', detail: `a connection: ${event.reason}` });
        break;
      case 'heartbeat':
        this.#heartbeat(event.heartbeat);
        break;
      case 'output':
        // Of a state before the snapshot that is being loaded: no part of this history.
        if (!this.#arrival.loading && this.#state !== 'WAIT') this.#log.made(event.output);
        break;
      case 'disk-read':
        this.#log.readAnswered(event.disk, event.request, event.data);
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
        if ((this.#state === 'ASK' || this.#state === 'OPEN') && !this.#arrival.loading)
          this.#claim.replayed(event.pending);
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
      if (!this.#link.is(link)) {
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
    const why = whyNotNow(message, {
      state: this.#state,
      begun: this.#arrival.begun,
      complete: this.#arrival.complete,
      move: this.#pair?.purpose === 'move',
      ownDisks: this.#side.disks.own,
    });
    if (why !== undefined) return why;
    switch (message.kind) {
      case 'entry': {
        const problem = this.#log.admit(message.entry);
        if (problem === undefined) entries.push(message.entry);
        return problem;
      }
      case 'pages':
        this.#detector.heard(this.#now);
        this.#link.tell({ kind: 'staged', parts: this.#arrival.stage(message.bytes) });
        return undefined;
      case 'snapshot-begin':
      case 'held-output':
      case 'snapshot-part':
      case 'snapshot-end':
        return this.#snapshotPart(message);
      case 'disks-begin':
      case 'disk-block':
      case 'disks-end':
        this.#detector.heard(this.#now);
        return this.#copy.receive(message, this.#side.disks.bytes);
      case 'take-over':
        this.#arrival.handedOver(message.faultTolerance);
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

  #hello(link: Link, hello: Hello): void {
    const judgement = judge(hello, {
      vm: this.#side.vm,
      program: this.#side.program,
      pair: this.#pair,
      greeted: this.#greeted,
      empty: this.#state === 'WAIT' || this.#state === 'LOAD',
      follows: this.#state === 'BACK',
      early: this.#state === 'ASK' && this.#claim.early,
    });
    switch (judgement.kind) {
      case 'unfit':
        this.#turnAway(link, hello, judgement.reason);
        return;
      case 'refused':
        this.#do({ kind: 'state', state: 'refused', detail: `a primary of ${judgement.reason}` });
        this.#do({ kind: 'close', link });
        return;
      case 'late':
        this.#do({ kind: 'close', link });
        return;
      case 'resumed':
        this.#welcome(link, hello, true);
        if (!this.#log.reading) this.#link.read(false);
        return;
      case 'expected':
        this.#welcome(link, hello, false, judgement.givesUp);
        return;
      default:
        unreachable(judgement);
    }
  }

  /** `loaded`: it goes on with the log. Otherwise a copy comes; `givesUp`: and the claim for the one before is void. */
  #welcome(
    link: Link,
    { sender, attempt, generation, purpose }: Hello,
    loaded: boolean,
    givesUp = false,
  ): void {
    this.#link.bind(link);
    this.#greeted = { sender, attempt };
    if (givesUp) this.#claim.giveUp();
    if (!loaded) this.#expect({ generation, primary: sender, purpose });
    this.#detector.heard(this.#now);
    const { received } = this.#log;
    const introduction = introduce(this.#side, this.#claim.instance, generation);
    this.#link.tell({ ...introduction, loaded, received, copy: this.#copy.name });
  }

  /** The other side hears what this one is, and says so in its own words; nothing changes here. */
  #turnAway(link: Link, { generation }: { readonly generation: Epoch }, reason: string): void {
    const introduction = introduce(this.#side, this.#claim.instance, generation);
    const message: Message = { ...introduction, loaded: false, received: 0n };
    this.#do({ kind: 'send', link, message });
    this.#do({ kind: 'close', link });
    if (this.#link.is(link)) this.#linkLost(reason);
    this.#do({ kind: 'state', state: 'refused', detail: reason });
  }

  /** A primary came that wants to copy itself here: everything from an earlier try is forgotten. */
  #expect(pair: Pair): void {
    this.#pair = pair;
    this.#arrival.expect(pair.purpose);
    this.#copy.expect({ primary: pair.primary, generation: pair.generation });
    this.#log = this.#newLog();
    this.#claim.forget();
    this.#detector = this.#newDetector();
    const what = pair.purpose === 'move' ? 'the guest moves here' : 'a copy';
    this.#enter('LOAD', `${what} from ${pair.primary}, generation ${pair.generation}`);
  }

  #linkLost(reason: string): void {
    this.#link.forget();
    this.#do({ kind: 'state', state: 'channel-broken', detail: reason });
    // A half-received copy is worth nothing; the primary drops it too.
    if (this.#state === 'LOAD') this.#enter('WAIT', 'the copy was broken off');
  }

  // ------------------------------------------------------------------------------------------ the snapshot and the log

  #snapshotPart(message: SnapshotMessage): string | undefined {
    const received = this.#arrival.receive(message, this.#now);
    if (!received.ok) return received.error;
    this.#detector.heard(this.#now);
    if (received.value) this.#log.begin(received.value);
    return undefined;
  }

  #loaded(digest: string, pending: readonly DiskRequestOutput[]): void {
    const loaded = this.#arrival.loaded(digest);
    if (!loaded || this.#state !== 'LOAD') return;
    if (!loaded.ok) {
      this.#diverged(loaded.error);
      return;
    }
    const { moved } = this.#arrival;
    this.#enter('BACK', moved ? 'the guest is here and stands still' : 'replaying');
    if (!moved) for (const request of pending) this.#log.asks(request);
    this.#log.give();
    this.#ack();
    this.#link.flush();
  }

  /**
   * Append to the buffer, hand to the vCPU, then ack on receipt, before replay (design 4): at once where an output may wait
   * for it, which a mark does not tell of disk requests. Other acks travel with the next news, soon.
   */
  #accept(entries: readonly LogEntry[]): void {
    if (entries.length === 0) return;
    this.#detector.heard(this.#now);
    const { reading } = this.#log;
    this.#log.append(entries);
    if (this.#state === 'BACK') {
      this.#ack();
      if (entries.some(({ kind }) => kind === 'output-mark')) this.#flushAcks();
    }
    if (this.#log.handedOver) this.#suspect('the primary hands over');
    if (reading && !this.#log.reading) this.#link.read(false);
  }

  #ack(): void {
    const { received, replayed } = this.#log;
    this.#link.send({ kind: 'ack', received, replayed });
  }

  #flushAcks(): void {
    this.#flushedAt = this.#now;
    this.#link.flush();
  }

  #replayedTo(sequence: bigint): void {
    if (this.#arrival.loading || this.#state === 'LOAD' || sequence <= this.#log.replayed) return;
    const { reading } = this.#log;
    const writeWaits = this.#log.replayedTo(sequence);
    if (this.#state !== 'BACK') return;
    if (this.#log.ended && sequence === this.#log.received) {
      this.#halt('the VM was powered off');
      return;
    }
    this.#ack();
    // That it has caught up is news, unless it is news all the time.
    const caughtUp = sequence === this.#log.received && this.#now - this.#flushedAt >= CAUGHT_UP_EVERY_MS;
    if (writeWaits || caughtUp) this.#flushAcks();
    if (!reading && this.#log.reading) this.#link.read(true);
  }

  // ------------------------------------------------------------------------------------------ takeover

  #suspect(reason: string): void {
    const pair = this.#pair;
    if (this.#state !== 'BACK' || !pair) return;
    if (this.#log.ended) {
      // There is nothing to take over.
      this.#halt('the VM was powered off');
      return;
    }
    // The log is closed for ever: no read and, above all, no ack (rule 5).
    this.#link.close();
    this.#enter('ASK', reason);
    this.#log.close();
    this.#claim.ask(pair.generation, this.#now);
  }

  #answered(answer: ArbiterAnswer): void {
    const verdict = this.#claim.answered(answer, this.#state === 'ASK' ? this.#pair?.generation : undefined);
    if (verdict === 'superseded') {
      const parted = this.#state === 'ASK' && this.#log.parted ? 'fault tolerance was turned off; ' : '';
      this.#halt(`${parted}superseded: the VM's record stands at epoch ${answer.epoch}`);
    } else if (verdict === 'won') {
      this.#enter('OPEN', `won epoch ${answer.epoch}`);
      this.#claim.openDisks(this.#now);
    }
  }

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    if (this.#state === 'OPEN' && this.#claim.disksOpened(opened, verdict) === 'refused')
      this.#halt('the disks are opened by a newer generation');
  }

  /** Replay to the end (rule 3), the epoch won (rule 4), every disk open (rule 7), a valid lease: in one step. */
  #goLiveWhenReady(): void {
    const won = this.#state === 'OPEN' ? this.#claim.won(this.#now) : undefined;
    if (!won) return;
    const { epoch, leaseUntil } = won;
    const past = this.#log.pastOutputs(won.pending);
    const made = past.held.at(-1)?.number ?? past.released;
    const outputs = `outputs made up to ${made}, known to have left up to ${past.released}`;
    this.#enter('LIVE', `epoch ${epoch}; ${outputs}`);
    const { stoodSince, faultTolerance = !this.#log.parted } = this.#arrival.moved ?? {};
    const takeover = {
      ...{ epoch, leaseUntil, faultTolerance },
      ...(stoodSince !== undefined && { stoodMs: this.#now - stoodSince }),
      ...past,
    };
    this.#do({ kind: 'go-live', instance: this.#claim.instance, takeover });
  }

  // ------------------------------------------------------------------------------------------ time

  #newLog(): BackupLog {
    const { limits, disks } = this.#side;
    return new BackupLog(limits.backupBytes, disks, this.#perform);
  }

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
    this.#claim.tick(this.#now);
    this.#log.tick();
    if (this.#state === 'BACK') this.#copy.tick(this.#log.replayed, this.#now);
    if (this.#state === 'OPEN') this.#claim.renew(this.#now);
    const suspected = this.#detector.check(this.#now);
    if (suspected && this.#state === 'BACK') this.#suspect('the primary is silent');
    if (suspected && this.#state === 'LOAD' && !this.#arrival.complete) {
      this.#link.close();
      this.#linkLost('the primary is silent');
    }
    if (this.#pair && (this.#state === 'LOAD' || this.#state === 'BACK')) {
      const { generation } = this.#pair;
      const { received, replayed } = this.#log;
      const sender = this.#claim.instance;
      this.#do({
        kind: 'heartbeat',
        heartbeat: { vm: this.#side.vm, generation, sender, received, replayed },
      });
    }
  }

  // ------------------------------------------------------------------------------------------ output

  /** Halts without asking: a side that is no copy never claims (protocol 5). */
  #diverged(reason: string): void {
    this.#link.tell({ kind: 'diverged', reason });
    this.#halt(reason);
  }

  #enter(state: BackupState, detail: string): void {
    this.#state = state;
    // Who waits for a guest to be moved there protects nobody.
    const nobody = this.#pair?.purpose === 'move' && { protected: false };
    this.#do({ kind: 'state', state, detail, ...nobody });
  }

  #halt(reason: string): void {
    this.#link.close();
    this.#enter('HALT', reason);
    this.#do({ kind: 'halt', reason });
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
