import { unreachable } from '../base/assert.ts';
import type { HostMilliseconds } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { EntryOrder } from '../replay/entry-order.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { ArbiterCall } from './arbiter-call.ts';
import { entryBytes } from './entry-bytes.ts';
import type { FtEvent } from './event.ts';
import { FailureDetector } from './failure-detector.ts';
import { type Epoch, epoch, type InstanceId, nonce } from './identity.ts';
import type { Link } from './link.ts';
import { type Heartbeat, type Message, PROTOCOL_VERSION } from './message.ts';
import type { Side } from './side.ts';
import { SnapshotReception } from './snapshot-reception.ts';

/** Protocol 5. WAIT: no primary has come yet. LIVE: this side goes on as a Primary. */
export type BackupState = 'WAIT' | 'LOAD' | 'BACK' | 'ASK' | 'OPEN' | 'LIVE' | 'HALT';

export interface BackupFigures {
  readonly state: BackupState;
  readonly received: bigint;
  readonly replayed: bigint;
  readonly bufferedBytes: number;
}

/** The pair that this backup belongs to: the first hello decides, and binds it until it is loaded. */
interface Pair {
  readonly generation: Epoch;
  readonly primary: InstanceId;
}

/** The backup's half of the protocol: events in, actions out. */
export class Backup {
  readonly #side: Side;
  readonly #actions: FtAction[] = [];
  #now: HostMilliseconds;
  #state: BackupState = 'WAIT';
  #pair: Pair | undefined;
  /** Connections that have not said hello carry nothing else; this one has. */
  #link: Link | undefined;
  #reception = new SnapshotReception();
  #expectedDigest: string | undefined;
  /** Loads that the vCPU has not answered; what it says before the last answer is about an earlier try. */
  #loading = 0;
  #order = new EntryOrder();
  #replayed = 0n;
  /** Received and not replayed, with their weights. */
  #buffered: { readonly sequence: bigint; readonly bytes: number }[] = [];
  #bufferedBytes = 0;
  #reading = true;
  /** The log says that fault tolerance is being ended by order. Who wins is the arbiter's to say all the same. */
  #parted = false;
  /** Number of the last output known to have left, and the outputs made above it, in order. */
  #released = 0n;
  #kept: NumberedOutput[] = [];
  #detector: FailureDetector;
  #call: ArbiterCall | undefined;
  #nonces = 0;
  #wonEpoch: Epoch | undefined;
  #disksOpen = false;
  #openingSince: HostMilliseconds | undefined;
  #pending: readonly DiskRequestOutput[] | undefined;

  constructor(side: Side, now: HostMilliseconds) {
    this.#side = side;
    this.#now = now;
    this.#detector = this.#newDetector();
  }

  get state(): BackupState {
    return this.#state;
  }

  figures(): BackupFigures {
    const bufferedBytes = this.#bufferedBytes;
    return { state: this.#state, received: this.#order.sequence, replayed: this.#replayed, bufferedBytes };
  }

  start(now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    this.#enter('WAIT', 'no primary yet');
    return this.#actions.splice(0);
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
        this.#keep(event.output);
        break;
      case 'loaded':
        this.#loaded(event.digest);
        break;
      case 'replayed':
        this.#replayedTo(event.sequence);
        break;
      case 'replayed-to-end':
        this.#pending = event.pending;
        break;
      case 'diverged':
        this.#diverged(event.reason);
        break;
      case 'vcpu-stopped':
        // A backup whose vCPU died stops acking at once and never goes live (rule 5).
        if (event.failed) this.#diverged(`the vCPU stopped: ${event.reason}`);
        break;
      case 'disk-completed':
      case 'input':
      case 'connected':
      case 'entry':
      case 'flush':
      case 'snapshot':
      case 'handed-over':
      case 'candidate':
      case 'protect':
      case 'unprotect':
        // A silent backup has no disks, no network and no live vCPU.
        break;
      default:
        return unreachable(event);
    }
    this.#goLiveWhenReady();
    return this.#actions.splice(0);
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
  #received(message: Exclude<Message, { kind: 'hello' }>, entries: LogEntry[]): string | undefined {
    switch (message.kind) {
      case 'entry': {
        if (this.#state !== 'BACK' && this.#state !== 'LOAD') return 'an entry before its snapshot';
        if (this.#state === 'LOAD' && this.#expectedDigest === undefined)
          return 'an entry before its snapshot';
        const admitted = this.#order.admit(message.entry);
        if (!admitted.ok) return admitted.error;
        entries.push(message.entry);
        return undefined;
      }
      case 'snapshot-begin':
      case 'held-output':
      case 'snapshot-part':
      case 'snapshot-end':
        return this.#snapshotPart(message);
      case 'over':
        if (this.#state === 'BACK') this.#suspect(`the partner says that epoch ${message.epoch} has come`);
        return undefined;
      case 'welcome':
      case 'ack':
      case 'diverged':
        return `a backup gets no ${message.kind}`;
      default:
        return unreachable(message);
    }
  }

  #hello(link: Link, hello: Message & { kind: 'hello' }): void {
    const { vm, instance, machine } = this.#side;
    const fits = hello.vm === vm && hello.version === PROTOCOL_VERSION && hello.machine === machine;
    const same = this.#pair?.generation === hello.generation && this.#pair.primary === hello.sender;
    const open = this.#state === 'WAIT' || this.#state === 'LOAD' || (this.#state === 'BACK' && same);
    if (!fits || !open) {
      const reason = fits ? `generation ${hello.generation}` : 'another VM, version or configuration';
      this.#do({ kind: 'state', state: 'refused', detail: `a primary of ${reason}` });
      this.#do({ kind: 'close', link });
      return;
    }
    if (this.#link !== undefined && this.#link !== link) this.#do({ kind: 'close', link: this.#link });
    this.#link = link;
    // The same generation copied anew: its commit was never asked for, and the state of the try before is another.
    const loaded = this.#state === 'BACK' && !hello.fresh;
    if (!loaded) this.#expect({ generation: hello.generation, primary: hello.sender });
    this.#detector.heard(this.#now);
    const { sequence: received } = this.#order;
    const version = PROTOCOL_VERSION;
    const { generation } = hello;
    this.#send({ kind: 'welcome', vm, generation, sender: instance, version, machine, loaded, received });
    this.#flush();
    if (loaded && !this.#reading) this.#do({ kind: 'pause-reading', link });
  }

  /** A primary came that wants to copy itself here: everything from an earlier try is forgotten. */
  #expect(pair: Pair): void {
    this.#pair = pair;
    this.#reception = new SnapshotReception();
    this.#expectedDigest = undefined;
    this.#order = new EntryOrder();
    this.#replayed = 0n;
    this.#buffered = [];
    this.#bufferedBytes = 0;
    this.#reading = true;
    this.#kept = [];
    this.#detector = this.#newDetector();
    this.#enter('LOAD', `from ${pair.primary}, generation ${pair.generation}`);
  }

  #linkLost(reason: string): void {
    this.#link = undefined;
    this.#do({ kind: 'state', state: 'channel-broken', detail: reason });
    // A half-received copy is worth nothing; the primary drops it too.
    if (this.#state === 'LOAD') this.#enter('WAIT', 'the copy was broken off');
  }

  // ------------------------------------------------------------------------------------------ the snapshot

  #snapshotPart(message: Parameters<SnapshotReception['receive']>[0]): string | undefined {
    if (this.#state !== 'LOAD' || this.#expectedDigest !== undefined)
      return `${message.kind} at the wrong time`;
    const received = this.#reception.receive(message);
    if (!received.ok) return received.error;
    this.#detector.heard(this.#now);
    if (!received.value) return undefined;
    const { snapshot, released, held } = received.value;
    this.#expectedDigest = snapshot.digest;
    this.#order = new EntryOrder(0n, snapshot.count);
    this.#released = released;
    this.#kept = [...held];
    this.#loading += 1;
    this.#do({ kind: 'vcpu-load', snapshot });
    return undefined;
  }

  #loaded(digest: string): void {
    this.#loading -= 1;
    if (this.#loading > 0 || this.#state !== 'LOAD' || this.#expectedDigest === undefined) return;
    if (digest !== this.#expectedDigest) {
      this.#diverged(`the loaded snapshot has the digest ${digest} and not ${this.#expectedDigest}`);
      return;
    }
    this.#enter('BACK', 'replaying');
    this.#ack();
  }

  // ------------------------------------------------------------------------------------------ the log

  /** Append to the buffer, hand to the vCPU, then ack on receipt, before replay (design 4). */
  #accept(entries: readonly LogEntry[]): void {
    if (entries.length === 0) return;
    this.#detector.heard(this.#now);
    for (const entry of entries) {
      const bytes = entryBytes(entry);
      this.#buffered.push({ sequence: entry.sequence, bytes });
      this.#bufferedBytes += bytes;
      if (entry.kind === 'released') this.#releasedTo(entry.output);
      if (entry.kind === 'input' && entry.input.kind === 'control')
        this.#parted ||= entry.input.action === 'end-protection';
    }
    this.#do({ kind: 'vcpu-replay', entries });
    if (this.#state === 'BACK') this.#ack();
    if (this.#reading && this.#bufferedBytes >= this.#side.limits.backupBytes && this.#link !== undefined) {
      // Backpressure (rule 9): nothing is dropped, nothing more is read, so nothing more is acked.
      this.#reading = false;
      this.#do({ kind: 'pause-reading', link: this.#link });
    }
  }

  #ack(): void {
    if (this.#link === undefined) return;
    this.#send({ kind: 'ack', received: this.#order.sequence, replayed: this.#replayed });
    this.#flush();
  }

  #replayedTo(sequence: bigint): void {
    if (this.#loading > 0 || this.#state === 'LOAD' || sequence <= this.#replayed) return;
    this.#replayed = sequence;
    let done = 0;
    while (done < this.#buffered.length && this.#buffered[done]!.sequence <= sequence) {
      this.#bufferedBytes -= this.#buffered[done]!.bytes;
      done++;
    }
    this.#buffered = this.#buffered.slice(done);
    if (this.#state !== 'BACK') return;
    if (this.#order.ended && sequence === this.#order.sequence) {
      this.#halt('the VM was powered off');
      return;
    }
    // Also while the channel is broken: its next connection is read from the start.
    const again = !this.#reading && this.#bufferedBytes < this.#side.limits.backupBytes / 2;
    if (again) this.#reading = true;
    if (this.#link === undefined) return;
    this.#send({ kind: 'ack', received: this.#order.sequence, replayed: sequence });
    if (again) this.#do({ kind: 'resume-reading', link: this.#link });
  }

  /** Outputs are suppressed; those above the last released one are kept for go-live (rule 6). */
  #keep(output: NumberedOutput): void {
    if (this.#loading > 0 || this.#state === 'WAIT') return;
    if (output.number > this.#released) this.#kept.push(output);
  }

  #releasedTo(number: bigint): void {
    if (number <= this.#released) return;
    this.#released = number;
    this.#kept = this.#kept.filter((output) => output.number > number);
  }

  // ------------------------------------------------------------------------------------------ takeover

  #suspect(reason: string): void {
    const { vm, instance, timing } = this.#side;
    const pair = this.#pair;
    if (this.#state !== 'BACK' || !pair) return;
    if (this.#order.ended) {
      // The log has its orderly end: there is nothing to take over.
      this.#halt('the VM was powered off');
      return;
    }
    // The log is closed for ever: no read and, above all, no ack (rule 5).
    if (this.#link !== undefined) this.#do({ kind: 'close', link: this.#link });
    this.#link = undefined;
    this.#enter('ASK', reason);
    this.#do({ kind: 'vcpu-end-replay' });
    this.#nonces += 1;
    const request = {
      kind: 'claim' as const,
      vm,
      instance,
      lowest: pair.generation,
      highest: pair.generation,
      nonce: nonce(`${instance}/b${this.#nonces}`),
    };
    this.#call = new ArbiterCall(request, this.#now, timing.requestMs, timing.requestMaxMs);
    this.#do({ kind: 'ask', request });
  }

  #answered(answer: ArbiterAnswer): void {
    if (this.#state !== 'ASK' || !this.#call?.answers(answer) || !this.#pair) return;
    // Asked before the commit of this very pair, which may still be on its way: then this side may be the only one
    // left. No verdict, so the same question again, for as long as a primary waits for its commit and for a claim.
    const early = answer.verdict === 'superseded' && answer.epoch < this.#pair.generation;
    if (early && this.#now - this.#call.since < 2 * this.#side.timing.commitMs) return;
    this.#call = undefined;
    if (answer.verdict === 'superseded') {
      const parted = this.#parted ? 'fault tolerance was turned off; ' : '';
      this.#halt(`${parted}superseded: the VM's record stands at epoch ${answer.epoch}`);
      return;
    }
    this.#wonEpoch = epoch(answer.epoch);
    this.#enter('OPEN', `won epoch ${answer.epoch}`);
    this.#openDisks(this.#wonEpoch);
  }

  #openDisks(won: Epoch): void {
    this.#openingSince = this.#now;
    this.#do({ kind: 'open-disks', epoch: won });
  }

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    if (this.#state !== 'OPEN' || opened !== this.#wonEpoch) return;
    if (verdict === 'refused') this.#halt('the disks are opened by a newer generation');
    else this.#disksOpen = true;
  }

  /** Replay to the end (rule 3), the epoch won (rule 4) and every disk open (rule 7): then, in one step. */
  #goLiveWhenReady(): void {
    if (this.#state !== 'OPEN' || !this.#disksOpen || !this.#pending || this.#wonEpoch === undefined) return;
    const above = new Set<string>();
    for (const { output } of this.#kept) {
      if (output.kind === 'disk-request') above.add(`${output.disk}/${output.request}`);
    }
    const started = this.#pending.filter((request) => !above.has(`${request.disk}/${request.request}`));
    const made = this.#kept.at(-1)?.number ?? this.#released;
    this.#enter(
      'LIVE',
      `epoch ${this.#wonEpoch}; outputs made up to ${made}, known to have left up to ${this.#released}`,
    );
    const takeover = { epoch: this.#wonEpoch, released: this.#released, held: this.#kept, started };
    this.#do({ kind: 'go-live', takeover });
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
    const { vm, instance, timing } = this.#side;
    if (this.#call?.due(this.#now)) this.#do({ kind: 'ask', request: this.#call.request });
    const waited = this.#openingSince === undefined ? 0 : this.#now - this.#openingSince;
    if (this.#wonEpoch !== undefined && !this.#disksOpen && waited >= timing.requestMaxMs) {
      this.#openDisks(this.#wonEpoch);
    }
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
    this.#do({ kind: 'state', state, detail });
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
}
