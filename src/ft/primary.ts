import { assert, unreachable } from '../base/assert.ts';
import { type HostMilliseconds, hostMilliseconds, type InstructionCount } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { outputMark } from '../replay/recorder.ts';
import type { FtAction, Takeover } from './action.ts';
import type { ArbiterAnswer, ArbiterRequest } from './arbiter.ts';
import { ArbiterCall } from './arbiter-call.ts';
import type { FtEvent, MachineSnapshot } from './event.ts';
import { ExecutionLag, nextShare } from './execution-lag.ts';
import { FailureDetector } from './failure-detector.ts';
import { HoldQueue } from './hold-queue.ts';
import { type Epoch, epoch, nonce } from './identity.ts';
import type { Link } from './link.ts';
import { LogStream } from './log-stream.ts';
import { type Heartbeat, type Message, PROTOCOL_VERSION } from './message.ts';
import { OutputWaits, type WaitSamples } from './output-waits.ts';
import type { Side } from './side.ts';

/** Protocol 4. COPY, GATE and COMMIT bring a new backup to a lone primary, or later a second one to a pair. */
export type PrimaryState = 'START' | 'SOLE' | 'PAIR' | 'ASK' | 'COPY' | 'GATE' | 'COMMIT' | 'HALT';

export type PrimaryStart =
  /** Power-on: nobody may run unless the record still stands at `expected`. */
  | {
      readonly kind: 'power-on';
      readonly expected: Epoch;
      readonly waitForBackup: boolean;
      /** When the guest goes on from a saved state instead of its boot. */
      readonly resumed?: Resumed;
    }
  | { readonly kind: 'takeover'; readonly takeover: Takeover };

/** A saved state's past: outputs made until then have left, but disk operations without a completion go again. */
export interface Resumed {
  readonly outputs: bigint;
  readonly started: readonly DiskRequestOutput[];
}

export interface PrimaryFigures {
  readonly state: PrimaryState;
  readonly lagMs: number;
  readonly lagCounts: bigint;
  /** For how long the backup has had what it has not replayed. */
  readonly backlogMs: number;
  /** Silence of the backup for so long is suspicion; 0 without a backup. */
  readonly timeoutMs: number;
  readonly share: number;
  readonly heldOutputs: number;
  /** What fills the buffers, in bytes: outputs that wait, and entries that the backup has not acked. */
  readonly heldBytes: number;
  readonly unackedBytes: number;
  readonly released: bigint;
  readonly logEntries: bigint;
  /** How far the guest got, as the log tells. */
  readonly count: bigint;
}

/** The primary's half of the protocol: events in, actions out. */
export class Primary {
  readonly #side: Side;
  readonly #actions: FtAction[] = [];
  #now: HostMilliseconds;
  #state: PrimaryState = 'START';
  #epoch: Epoch;
  /** The last position in this primary's log; streams count from their own base. */
  #end = 0n;
  #endAt: InstructionCount | undefined;
  #hold: HoldQueue;
  /** Disk operations handed over and not completed, in order. */
  #started: DiskRequestOutput[] = [];
  #call: ArbiterCall | undefined;
  #nonces = 0;
  #disksOpen = false;
  #openingSince: HostMilliseconds | undefined;
  /** The backup of the pair: its ack is the gate. */
  #pair: LogStream | undefined;
  /** A backup that is being attached. In GATE and COMMIT its ack is a gate too. */
  #joining: LogStream | undefined;
  #gatePosition = 0n;
  /** Fault tolerance is being turned off: by then at the latest, whether the order is in the log or not. */
  #partBy: HostMilliseconds | undefined;
  #joinSince = hostMilliseconds(0);
  #detector: FailureDetector | undefined;
  /** Whether the log gets through: heartbeats say nothing about a connection that is broken or stuck. */
  #channel: FailureDetector | undefined;
  #progress = 0n;
  /** Progress when a connection was last broken because nothing was acked. */
  #stuckAt: bigint | undefined;
  #reconnectAt: HostMilliseconds | undefined;
  /** A connection that has said hello and waits for the welcome. */
  #greeting: { readonly link: Link; readonly stream: LogStream } | undefined;
  /** Fault tolerance is on: whenever there is no backup, one is looked for (rule 10). */
  #wanted = false;
  /** Where an order wants the backup; tried again while nothing better is offered. */
  #ordered: string | undefined;
  #offered: string | undefined;
  /** Instances that were a backup and are none any more: they never are again. */
  readonly #spent = new Set<string>();
  #findAt: HostMilliseconds | undefined;
  #waitForBackup = false;
  #resumed = false;
  #running = false;
  #full = false;
  #lag = new ExecutionLag();
  readonly #waits = new OutputWaits();
  #share = 1;
  #handingOver = false;
  #poweredOff = false;

  constructor(side: Side, start: PrimaryStart, now: HostMilliseconds) {
    this.#side = side;
    this.#now = now;
    if (start.kind === 'power-on') {
      this.#epoch = start.expected;
      this.#hold = new HoldQueue(start.resumed?.outputs ?? 0n);
      this.#started = [...(start.resumed?.started ?? [])];
      this.#resumed = start.resumed !== undefined;
      this.#waitForBackup = start.waitForBackup;
      return;
    }
    // Go-live (protocol 5): everything above `released` again, in order, and what was started and not completed.
    const { takeover } = start;
    this.#epoch = takeover.epoch;
    this.#hold = new HoldQueue(takeover.released);
    for (const output of takeover.held) this.#hold.hold(output, 0n);
    this.#started = [...takeover.started];
    this.#disksOpen = true;
    this.#wanted = true;
    this.#state = 'SOLE';
  }

  get state(): PrimaryState {
    return this.#state;
  }

  figures(now: HostMilliseconds): PrimaryFigures {
    return {
      state: this.#state,
      lagMs: this.#lag.milliseconds(now),
      lagCounts: this.#lag.counts(),
      backlogMs: this.#lag.backlogMs(now),
      timeoutMs: this.#detector?.timeoutMs ?? 0,
      share: this.#share,
      heldOutputs: this.#hold.length,
      heldBytes: this.#hold.bytes,
      unackedBytes: Math.max(this.#pair?.bytes ?? 0, this.#joining?.bytes ?? 0),
      released: this.#hold.released,
      logEntries: this.#end,
      count: this.#endAt ?? 0n,
    };
  }

  /** How the outputs since the last call waited. */
  takeWaits(): WaitSamples {
    return this.#waits.take();
  }

  /** Called once, before any event. */
  start(now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.#state === 'START') {
      const { vm, instance } = this.#side;
      this.#ask({ kind: 'restart', vm, instance, expected: this.#epoch, nonce: this.#nonce() });
    } else {
      this.#enter('SOLE', 'took over');
      this.#do({ kind: 'open-network', epoch: this.#epoch });
      this.#do({ kind: 'announce' });
      for (const request of this.#started) this.#do({ kind: 'issue-again', request });
      this.#join();
    }
    return this.#finish();
  }

  step(event: FtEvent, now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.#state === 'HALT') return [];
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
      case 'disk-completed':
        this.#diskCompleted(event);
        break;
      case 'fenced':
        // While our own newer epoch is being opened it fences our older session: the opening's answer tells.
        if (this.#openingSince === undefined) this.#halt('the disks belong to a newer generation');
        break;
      case 'input':
        if (this.#state !== 'START') this.#do({ kind: 'vcpu-input', input: event.input });
        break;
      case 'connected':
        this.#connected(event.link, event.address);
        break;
      case 'received':
        for (const message of event.messages) this.#received(event.link, message);
        break;
      case 'broken':
        this.#broken(event.link, event.reason);
        break;
      case 'heartbeat':
        this.#heartbeat(event.heartbeat);
        break;
      case 'entry':
        this.#append(event.at, event.payload);
        if (endsProtection(event.payload)) this.#part();
        break;
      case 'output':
        this.#output(event.output);
        break;
      case 'flush':
        this.#flush();
        break;
      case 'snapshot':
        this.#snapshot(event.snapshot);
        break;
      case 'vcpu-stopped':
        this.#vcpuStopped(event.reason, event.failed);
        break;
      case 'handed-over':
        this.#handedOver(event.output);
        break;
      case 'protect':
        this.#wanted = true;
        this.#ordered = event.address;
        this.#spent.delete(event.address);
        this.#join();
        break;
      case 'candidate':
        this.#candidate(event.address, event.host);
        break;
      case 'unprotect':
        this.#unprotect();
        break;
      case 'loaded':
      case 'replayed':
      case 'replayed-to-end':
      case 'diverged':
        // A primary does not replay; what comes late from before its go-live means nothing.
        break;
      default:
        return unreachable(event);
    }
    return this.#finish();
  }

  // ------------------------------------------------------------------------------------------ Output Rule

  #output(output: NumberedOutput): void {
    this.#append(output.at, outputMark(output));
    this.#hold.hold(output, this.#end);
    if (this.#pair) this.#waits.made(output.number, this.#end, output.at, this.#now);
    // An output that waits flushes at once (design 4).
    this.#flush();
  }

  /** Lets the head of the hold queue out when every gate has acked its mark. */
  #release(): void {
    if (this.#handingOver || !this.#disksOpen || this.#state === 'HALT') return;
    const output = this.#hold.releasable(this.#ackedByAll());
    if (!output) return;
    this.#handingOver = true;
    if (output.output.kind === 'disk-request') this.#started.push(output.output);
    this.#do({ kind: 'hand-over', output });
  }

  #handedOver(number: bigint): void {
    this.#handingOver = false;
    this.#hold.leave(number);
    if (this.#endAt !== undefined) this.#waits.left(number, this.#endAt, this.#now);
    if (this.#endAt !== undefined) this.#append(this.#endAt, { kind: 'released', output: number });
  }

  /** How far in the log every gate has received everything. Acks received stay valid in ASK. */
  #ackedByAll(): bigint {
    let acked = this.#end;
    for (const gate of this.#gates()) if (gate.acked < acked) acked = gate.acked;
    return acked;
  }

  #gates(): readonly LogStream[] {
    const gates: LogStream[] = [];
    if (this.#pair) gates.push(this.#pair);
    if (this.#joining && this.#gatePosition > 0n) gates.push(this.#joining);
    return gates;
  }

  // ------------------------------------------------------------------------------------------ the log

  #append(at: InstructionCount, payload: LogPayload): void {
    this.#end += 1n;
    this.#endAt = at;
    for (const stream of this.#streams()) {
      const entry = stream.append({ sequence: this.#end, at, ...payload });
      if (stream.link !== undefined) this.#send(stream.link, { kind: 'entry', entry });
    }
    const followed = this.#pair ?? this.#joining;
    if (followed && payload.kind === 'input') this.#lag.made(this.#end, at, this.#now);
  }

  #streams(): readonly LogStream[] {
    const streams: LogStream[] = [];
    // After suspicion nothing more is sent to the old partner, though its gate stays until the verdict.
    if (this.#state === 'ASK') return streams;
    if (this.#pair) streams.push(this.#pair);
    if (this.#joining && this.#joining.base >= 0n) streams.push(this.#joining);
    return streams;
  }

  #flush(): void {
    for (const stream of this.#streams()) {
      if (stream.link !== undefined) this.#do({ kind: 'flush', link: stream.link });
    }
  }

  // ------------------------------------------------------------------------------------------ disks

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    if (this.#openingSince === undefined || opened !== this.#epoch) return;
    if (verdict === 'refused') {
      this.#halt('the disks are opened by a newer generation');
      return;
    }
    this.#openingSince = undefined;
    this.#disksOpen = true;
    for (const request of this.#started) this.#do({ kind: 'issue-again', request });
    if (this.#state === 'START') {
      this.#enter('SOLE', 'powered on');
      this.#do({ kind: 'open-network', epoch: this.#epoch });
      // A guest in mid-life says nothing by itself that would tell a network where it is.
      if (this.#resumed) this.#do({ kind: 'announce' });
    }
    this.#join();
  }

  #openDisks(): void {
    this.#disksOpen = false;
    this.#openingSince = this.#now;
    this.#do({ kind: 'open-disks', epoch: this.#epoch });
  }

  #diskCompleted(event: FtEvent & { kind: 'disk-completed' }): void {
    const { disk, request } = event.completion;
    const at = this.#started.findIndex(
      (operation) => operation.disk === disk && operation.request === request,
    );
    // Completed already: an operation that was issued twice answers twice, the guest sees it once.
    if (at < 0) return;
    this.#started.splice(at, 1);
    this.#do({ kind: 'vcpu-input', input: event.completion });
  }

  // ------------------------------------------------------------------------------------------ the arbiter

  #ask(request: ArbiterRequest): void {
    const { requestMs, requestMaxMs } = this.#side.timing;
    this.#call = new ArbiterCall(request, this.#now, requestMs, requestMaxMs);
    this.#do({ kind: 'ask', request });
  }

  #nonce(): ReturnType<typeof nonce> {
    this.#nonces += 1;
    return nonce(`${this.#side.instance}/p${this.#nonces}`);
  }

  #answered(answer: ArbiterAnswer): void {
    const call = this.#call;
    if (!call?.answers(answer)) return;
    this.#call = undefined;
    if (answer.verdict === 'superseded') {
      this.#halt(`superseded: the VM's record stands at epoch ${answer.epoch}`);
      return;
    }
    this.#epoch = answer.epoch;
    if (call.request.kind === 'commit') {
      this.#committed();
    } else {
      // Won: nobody else may run this VM. The partner's gate falls only now.
      if (this.#pair?.link !== undefined) {
        this.#send(this.#pair.link, { kind: 'over', epoch: this.#epoch });
        this.#cut(this.#pair);
      }
      this.#pair = undefined;
      this.#waits.forget();
      this.#joining = undefined;
      this.#gatePosition = 0n;
      this.#openDisks();
      if (call.request.kind === 'claim') this.#enter('SOLE', 'won the test-and-set');
    }
  }

  /** Suspicion is final for this generation: no way leads back to PAIR. */
  #suspect(reason: string, then?: 'tell the partner'): void {
    const { vm, instance } = this.#side;
    const lowest = this.#epoch;
    // While a commit may still take effect, the epoch must move before a gate is dropped.
    const highest = this.#state === 'COMMIT' ? epoch(lowest + 1) : lowest;
    for (const stream of [this.#pair, this.#joining]) {
      if (stream && then === undefined) this.#cut(stream);
      if (stream) this.#retire(stream);
    }
    if (this.#state !== 'COMMIT') this.#dropJoining();
    this.#partBy = undefined;
    this.#enter('ASK', reason);
    this.#ask({ kind: 'claim', vm, instance, lowest, highest, nonce: this.#nonce() });
  }

  #cut(stream: LogStream): void {
    if (stream.link !== undefined) this.#do({ kind: 'close', link: stream.link });
    if (this.#greeting?.stream === stream) {
      this.#do({ kind: 'close', link: this.#greeting.link });
      this.#greeting = undefined;
    }
    stream.link = undefined;
    this.#reconnectAt = undefined;
  }

  // ------------------------------------------------------------------------------------------ a new backup

  /** SOLE with a backup to be had: COPY (protocol 4). Without one, a host is asked for. */
  #join(): void {
    if (this.#state !== 'SOLE' || !this.#wanted || !this.#disksOpen) return;
    const address = this.#offered ?? this.#ordered;
    this.#offered = undefined;
    if (address === undefined) {
      this.#find();
      return;
    }
    // Base -1: no snapshot yet, so no entry belongs to this stream yet.
    const generation = epoch(this.#epoch + 1);
    this.#joining = new LogStream(generation, address, -1n);
    this.#joinSince = this.#now;
    this.#enter('COPY', address);
    this.#do({ kind: 'connect', address, generation });
  }

  /** Redundancy (rule 10): asked again and again until there is a host. */
  #find(): void {
    this.#findAt = hostMilliseconds(this.#now + this.#side.timing.findMs);
    this.#do({ kind: 'find-host', except: [...this.#spent] });
  }

  #candidate(address: string, host: string): void {
    // Never both on one host (rule 10): such an offer is none.
    if (host === this.#side.host || this.#spent.has(address)) return;
    this.#offered = address;
    if (this.#reconnectAt === undefined) this.#join();
  }

  #snapshot(snapshot: MachineSnapshot): void {
    const before = this.#joining;
    if (this.#state !== 'COPY' || before?.link === undefined || before.base >= 0n) return;
    // Everything that the vCPU told so far is in the snapshot; the next entry is position 1 of the new generation.
    const stream = new LogStream(before.generation, before.address, this.#end);
    stream.backup = before.backup;
    stream.link = before.link;
    this.#joining = stream;
    const { machine, count, position, digest } = snapshot;
    const { link } = before;
    const released = this.#hold.released;
    this.#send(link, { kind: 'snapshot-begin', bytes: machine.length, count, position, released, digest });
    for (const output of this.#hold.outputs) this.#send(link, { kind: 'held-output', output });
    this.#do({ kind: 'send-snapshot', link, snapshot: machine });
    this.#send(link, { kind: 'snapshot-end' });
    this.#do({ kind: 'flush', link });
  }

  /** The first ack says that the snapshot is loaded: from the end of the log on, the new backup is a gate. */
  #gate(): void {
    this.#gatePosition = this.#end > 0n ? this.#end : 1n;
    this.#enter('GATE', `gate at position ${this.#end}`);
  }

  #commitWhenReceived(): void {
    const stream = this.#joining;
    if (this.#state !== 'GATE' || stream?.backup === undefined) return;
    if (stream.acked < this.#gatePosition && stream.acked < this.#end) return;
    const { vm, instance } = this.#side;
    this.#enter('COMMIT', stream.backup);
    this.#ask({
      kind: 'commit',
      vm,
      instance,
      expected: this.#epoch,
      backup: stream.backup,
      nonce: this.#nonce(),
    });
  }

  #committed(): void {
    const old = this.#pair;
    if (old?.link !== undefined) {
      this.#send(old.link, { kind: 'over', epoch: this.#epoch });
      this.#cut(old);
    }
    this.#pair = this.#joining;
    this.#joining = undefined;
    this.#gatePosition = 0n;
    this.#waitForBackup = false;
    this.#enter('PAIR', `protected by ${this.#pair?.backup}`);
    this.#watch();
    if (!this.#wanted) this.#suspect('fault tolerance was turned off');
  }

  /** A backup that is lost before the commit was asked for costs nothing: no claim is needed. */
  #joiningLost(reason: string): void {
    this.#dropJoining();
    // A VM that was to wait for its first backup goes on without: it says so, and keeps trying.
    this.#waitForBackup = false;
    this.#enter(this.#pair ? 'PAIR' : 'SOLE', `the new backup was lost: ${reason}`);
    if (!this.#wanted) return;
    this.#find();
    // Soon enough that a backup that is still there has not suspected by then.
    this.#reconnectAt = hostMilliseconds(this.#now + this.#side.timing.suspicionMs / 4);
  }

  /** It was a backup, or may be one by a commit under way: after suspicion this instance never is again. */
  #retire(stream: LogStream): void {
    this.#spent.add(stream.address);
    if (this.#ordered === stream.address) this.#ordered = undefined;
  }

  #dropJoining(): void {
    if (this.#joining) this.#cut(this.#joining);
    this.#joining = undefined;
    this.#gatePosition = 0n;
    this.#lag = new ExecutionLag();
  }

  #unprotect(): void {
    this.#wanted = false;
    this.#ordered = undefined;
    this.#offered = undefined;
    this.#waitForBackup = false;
    if (this.#state === 'COPY' || this.#state === 'GATE') this.#joiningLost('fault tolerance was turned off');
    if (this.#state !== 'PAIR') return;
    // An order like any other: it travels in the log, so the backup knows what its end means [FT 3.3].
    this.#partBy = hostMilliseconds(this.#now + this.#side.timing.suspicionMs);
    this.#do({ kind: 'vcpu-input', input: { kind: 'control', action: 'end-protection' } });
  }

  /** The order is in the log, or the vCPU is stopped by the very backup that shall go. */
  #part(): void {
    if (this.#partBy === undefined || this.#state !== 'PAIR') return;
    this.#partBy = undefined;
    this.#flush();
    this.#suspect('fault tolerance was turned off', 'tell the partner');
  }

  // ------------------------------------------------------------------------------------------ the channel

  #connected(link: Link, address: string): void {
    const stream = this.#joining ?? this.#pair;
    const free = stream?.link === undefined && this.#greeting === undefined;
    const wanted = stream && free && stream.address === address && this.#state !== 'ASK';
    if (!wanted) {
      this.#do({ kind: 'close', link });
      return;
    }
    this.#reconnectAt = undefined;
    const { vm, instance, machine } = this.#side;
    const version = PROTOCOL_VERSION;
    this.#send(link, {
      kind: 'hello',
      vm,
      generation: stream.generation,
      sender: instance,
      version,
      machine,
      fresh: stream.base < 0n,
    });
    this.#do({ kind: 'flush', link });
    // Until the welcome has named a position the stream has no link: its entries only pile up.
    this.#greeting = { link, stream };
  }

  #received(link: Link, message: Message): void {
    const greeted = this.#greeting?.link === link ? this.#greeting.stream : undefined;
    const stream = greeted ?? [this.#pair, this.#joining].find((candidate) => candidate?.link === link);
    if (!stream) {
      this.#stranger(link, message);
      return;
    }
    if (this.#state === 'ASK') return;
    switch (message.kind) {
      case 'welcome':
        if (greeted) this.#welcomed(link, greeted, message);
        return;
      case 'ack':
        // What was made while no connection was open has been sent to nobody yet.
        if (greeted) this.#breakLink(stream, link, 'an ack before the welcome');
        else this.#acked(stream, message.received, message.replayed);
        return;
      case 'over':
        if (stream === this.#pair) this.#suspect(`the partner says that epoch ${message.epoch} has come`);
        return;
      case 'diverged':
        this.#do({ kind: 'state', state: 'diverged', detail: message.reason });
        if (stream === this.#joining && this.#state !== 'COMMIT') this.#joiningLost(message.reason);
        else this.#suspect(`the backup diverged: ${message.reason}`);
        return;
      case 'hello':
      case 'snapshot-begin':
      case 'held-output':
      case 'snapshot-part':
      case 'snapshot-end':
      case 'entry':
        this.#breakLink(stream, link, `a primary gets no ${message.kind}`);
        return;
      default:
        unreachable(message);
    }
  }

  /** An old partner that comes back, most likely: told which epoch it is, it asks the arbiter and halts. */
  #stranger(link: Link, message: Message): void {
    if (message.kind === 'hello' && message.vm === this.#side.vm) {
      this.#send(link, { kind: 'over', epoch: this.#epoch });
    }
    this.#do({ kind: 'close', link });
  }

  #welcomed(link: Link, stream: LogStream, welcome: Message & { kind: 'welcome' }): void {
    const { vm, machine } = this.#side;
    this.#greeting = undefined;
    const rightPair = welcome.vm === vm && welcome.generation === stream.generation;
    const rightSender = stream.backup === undefined || stream.backup === welcome.sender;
    const mixedUp = stream.base < 0n && welcome.loaded;
    if (
      mixedUp ||
      !rightPair ||
      !rightSender ||
      welcome.version !== PROTOCOL_VERSION ||
      welcome.machine !== machine
    ) {
      const reason = `the other side is not this VM's backup (${welcome.vm}, generation ${welcome.generation})`;
      this.#breakLink(stream, link, reason);
      return;
    }
    stream.link = link;
    stream.backup = welcome.sender;
    if (stream === this.#joining && stream.base < 0n) {
      this.#watch();
      this.#do({ kind: 'vcpu-snapshot' });
      return;
    }
    // Resumed: after the last position that the backup has received, nothing again and nothing left out.
    const missing = welcome.loaded ? stream.after(welcome.received) : undefined;
    if (!missing) {
      this.#breakLink(stream, link, `the backup cannot go on after position ${welcome.received}`);
      if (stream === this.#pair) this.#suspect('the backup has lost its state');
      return;
    }
    for (const entry of missing) this.#send(link, { kind: 'entry', entry });
    this.#do({ kind: 'flush', link });
    this.#acked(stream, welcome.received, stream.replayed);
  }

  #acked(stream: LogStream, received: bigint, replayed: bigint): void {
    if (stream.base < 0n || !stream.ack(received, replayed)) {
      if (stream.link !== undefined)
        this.#breakLink(stream, stream.link, `ack of position ${received}, never sent`);
      return;
    }
    this.#detector?.heard(this.#now);
    this.#lag.received(stream.acked, this.#now);
    this.#lag.replayed(stream.base + stream.replayed);
    if (stream === this.#pair) this.#waits.acked(stream.acked, this.#now);
    if (stream === this.#joining && this.#state === 'COPY') this.#gate();
  }

  #breakLink(stream: LogStream, link: Link, reason: string): void {
    this.#do({ kind: 'close', link });
    stream.link = link;
    this.#broken(link, reason);
  }

  #broken(link: Link | undefined, reason: string): void {
    if (link === undefined) {
      // A connection could not be made at all.
      if (this.#joining && this.#joining.link === undefined) this.#reconnectSoon();
      else if (this.#pair && this.#pair.link === undefined) this.#reconnectSoon();
      return;
    }
    const greeted = this.#greeting?.link === link ? this.#greeting.stream : undefined;
    if (greeted) this.#greeting = undefined;
    const stream = greeted ?? [this.#pair, this.#joining].find((candidate) => candidate?.link === link);
    if (!stream) return;
    stream.link = undefined;
    this.#channel?.heard(this.#now);
    this.#do({ kind: 'state', state: 'channel-broken', detail: reason });
    if (stream === this.#joining && (this.#state === 'COPY' || this.#state === 'GATE'))
      this.#joiningLost(reason);
    else if (this.#state === 'PAIR' || this.#state === 'COMMIT') this.#reconnectSoon();
  }

  #reconnectSoon(): void {
    this.#reconnectAt = hostMilliseconds(this.#now + this.#side.timing.reconnectMs);
  }

  #reconnect(): void {
    if (this.#reconnectAt === undefined || this.#now < this.#reconnectAt) return;
    this.#reconnectAt = undefined;
    if (this.#state === 'SOLE') {
      this.#join();
      return;
    }
    const stream = this.#joining ?? this.#pair;
    if (stream && stream.link === undefined && this.#state !== 'ASK') {
      this.#do({ kind: 'connect', address: stream.address, generation: stream.generation });
    }
  }

  // ------------------------------------------------------------------------------------------ time

  #watch(): void {
    this.#detector = new FailureDetector(this.#now, this.#side.timing);
    this.#channel = new FailureDetector(this.#now, this.#side.timing);
    this.#stuckAt = undefined;
  }

  #heartbeat(heartbeat: Heartbeat): void {
    const { vm, generation, sender } = heartbeat;
    for (const stream of [this.#pair, this.#joining]) {
      const right =
        stream && vm === this.#side.vm && generation === stream.generation && sender === stream.backup;
      if (right && this.#state !== 'ASK') this.#detector?.heartbeat(this.#now);
    }
  }

  #tick(): void {
    const { timing, vm, instance } = this.#side;
    if (this.#call?.due(this.#now)) this.#do({ kind: 'ask', request: this.#call.request });
    if (this.#openingSince !== undefined && this.#now - this.#openingSince >= timing.requestMaxMs)
      this.#openDisks();
    this.#reconnect();
    if (this.#findAt !== undefined && this.#now >= this.#findAt && this.#reconnectAt === undefined) {
      this.#findAt = undefined;
      this.#join();
    }
    this.#checkBackup();
    if (this.#partBy !== undefined && this.#now >= this.#partBy) this.#part();
    for (const stream of [this.#pair, this.#joining]) {
      if (!stream || this.#state === 'ASK') continue;
      const { generation, end, replayed } = stream;
      this.#do({
        kind: 'heartbeat',
        heartbeat: { vm, generation, sender: instance, received: end, replayed },
      });
    }
    this.#throttle();
  }

  #checkBackup(): void {
    if (this.#state === 'COPY' || this.#state === 'GATE') {
      const silent = this.#joining?.link !== undefined && this.#detector?.check(this.#now) === true;
      if (silent) this.#joiningLost('it is silent');
      // In GATE outputs wait for it already.
      else if (this.#state === 'GATE' && this.#channelFails(this.#joining))
        this.#joiningLost('nothing is acked');
      else if (this.#now - this.#joinSince >= this.#side.timing.copyMs)
        this.#joiningLost('it was not ready in time');
      else if (this.#unreachable()) this.#joiningLost('it cannot be reached');
    } else if (this.#state === 'PAIR') {
      if (this.#detector?.check(this.#now)) this.#suspect('the backup is silent');
      else this.#checkChannel(this.#pair);
    } else if (this.#state === 'COMMIT') {
      const since = this.#call?.since ?? this.#now;
      const overdue = this.#now - since >= this.#side.timing.commitMs;
      if (this.#detector?.check(this.#now))
        this.#suspect('the new backup is silent while the commit is open');
      else if (overdue) this.#suspect('the commit is not answered');
      else this.#checkChannel(this.#joining);
    }
  }

  /** A candidate that does not even answer is given up soon; the first backup of a VM may still be starting. */
  #unreachable(): boolean {
    const stream = this.#joining;
    const waits = stream?.base === -1n && stream.link === undefined && !this.#waitForBackup;
    return waits && this.#now - this.#joinSince >= this.#side.timing.suspicionMs;
  }

  /**
   * A broken channel may be resumed until the failure time-out, then it is suspicion, whatever heartbeats say:
   * otherwise outputs would wait for ever. One that is open and brings no ack is broken first.
   */
  #checkChannel(stream: LogStream | undefined): void {
    if (!stream || !this.#channelFails(stream)) return;
    if (stream.link === undefined) {
      this.#suspect('the logging channel stays broken');
      return;
    }
    if (this.#stuckAt === this.#progress) {
      this.#suspect('nothing is acked, on a new connection neither');
      return;
    }
    this.#stuckAt = this.#progress;
    this.#channel?.heard(this.#now);
    this.#breakLink(stream, stream.link, 'nothing is acked');
  }

  /** True when for a whole failure time-out it was broken, or had something to ack and no ack came. */
  #channelFails(stream: LogStream | undefined): boolean {
    if (!stream || !this.#channel) return false;
    const progress = stream.acked + stream.replayed;
    const works = stream.link !== undefined && (stream.bytes === 0 || progress !== this.#progress);
    this.#progress = progress;
    if (works) this.#channel.heard(this.#now);
    return this.#channel.check(this.#now);
  }

  #throttle(): void {
    const lag = this.#pair ? this.#lag.milliseconds(this.#now) : 0;
    const backlog = this.#pair ? this.#lag.backlogMs(this.#now) : 0;
    const share = nextShare(this.#share, lag, this.#side.timing, backlog);
    if (share === this.#share) return;
    this.#share = share;
    this.#do({ kind: 'vcpu-share', share });
  }

  // ------------------------------------------------------------------------------------------ the vCPU

  #vcpuStopped(reason: string, hasFailed: boolean): void {
    if (hasFailed) this.#halt(`the vCPU stopped: ${reason}`);
    else this.#poweredOff = true;
  }

  /** Powered off in good order: once the last output has left, the log ends, so the backup does not take over. */
  #endLog(): void {
    if (!this.#poweredOff || this.#hold.length > 0 || this.#handingOver) return;
    if (this.#endAt !== undefined && this.#streams().length > 0) {
      this.#append(this.#endAt, { kind: 'end', reason: 'powered-off' });
      this.#flush();
    }
    this.#halt('powered off');
  }

  #runOrPause(): void {
    const { streamBytes, holdBytes } = this.#side.limits;
    const fill = Math.max(
      this.#hold.bytes / holdBytes,
      (this.#pair?.bytes ?? 0) / streamBytes,
      (this.#joining?.bytes ?? 0) / streamBytes,
    );
    // Backpressure (rule 9): stops when full, goes on at half.
    this.#full = fill >= 1 || (this.#full && fill > 0.5);
    const on = this.#state !== 'START' && this.#state !== 'HALT' && !this.#full && !this.#waitForBackup;
    if (on === this.#running) return;
    this.#running = on;
    this.#do({ kind: on ? 'vcpu-run' : 'vcpu-pause' });
  }

  // ------------------------------------------------------------------------------------------ output

  #enter(state: PrimaryState, detail: string): void {
    this.#state = state;
    this.#do({ kind: 'state', state, detail });
  }

  #halt(reason: string): void {
    for (const stream of [this.#pair, this.#joining]) if (stream) this.#cut(stream);
    this.#enter('HALT', reason);
    this.#do({ kind: 'halt', reason });
  }

  #send(link: Link, message: Message): void {
    this.#do({ kind: 'send', link, message });
  }

  #do(action: FtAction): void {
    this.#actions.push(action);
  }

  /** What may follow from any event: releases, the commit, the end of the log, running or pausing. */
  #finish(): readonly FtAction[] {
    if (this.#state !== 'HALT') {
      this.#commitWhenReceived();
      this.#release();
      this.#endLog();
      this.#runOrPause();
    }
    assert(this.#state !== 'PAIR' || this.#pair !== undefined, 'a pair has a backup');
    return this.#actions.splice(0);
  }
}

function endsProtection(payload: LogPayload): boolean {
  const input = payload.kind === 'input' ? payload.input : undefined;
  return input?.kind === 'control' && input.action === 'end-protection';
}
