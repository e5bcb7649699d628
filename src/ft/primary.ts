import { assert, unreachable } from '../base/assert.ts';
import { type HostMilliseconds, hostMilliseconds, type InstructionCount } from '../base/units.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { outputMark } from '../replay/recorder.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import { DiskOpening } from './disk-opening.ts';
import type { FtEvent, MachineSnapshot } from './event.ts';
import { changesDisk } from './extent.ts';
import { FormerCopies } from './former-copies.ts';
import { HostSearch } from './host-search.ts';
import { type Epoch, epoch } from './identity.ts';
import { Lease } from './lease.ts';
import type { Link } from './link.ts';
import type { Heartbeat, Message } from './message.ts';
import { Move } from './move.ts';
import { OutputGate } from './output-gate.ts';
import type { WaitSamples } from './output-waits.ts';
import type { Partner } from './partner.ts';
import { Partners } from './partners.ts';
import type { PrimaryFigures, PrimaryStart, PrimaryState } from './primary-state.ts';
import { ReadReferences } from './read-references.ts';
import { namedCopy, type Side } from './side.ts';
import { VcpuPace } from './vcpu-pace.ts';

/**
 * The primary's half of the protocol: events in, actions out. It decides in which state the VM is protected, by
 * whom, and what that lets out; what a partner, the gate, the search for a host are stands in files of their own.
 */
export class Primary {
  readonly #side: Side;
  #actions: FtAction[] = [];
  #now: HostMilliseconds;
  /** Copies that were begun. */
  #copies = 0;
  #state: PrimaryState = 'START';
  #epoch: Epoch;
  /** The last position in this primary's log; each partner's stream counts from its own base. */
  #end = 0n;
  #endAt: InstructionCount | undefined;
  readonly #gate: OutputGate;
  readonly #disks: DiskOpening;
  readonly #questions: ArbiterQuestions;
  readonly #lease: Lease;
  readonly #search: HostSearch;
  readonly #pace: VcpuPace;
  readonly #partners: Partners;
  readonly #reads = new ReadReferences();
  readonly #former = new FormerCopies();
  /** Of a planned takeover: by then the backup should have claimed. */
  #claimAt = hostMilliseconds(0);
  /** An order: the pair is to get another backup. */
  #migrating = false;
  /** Fault tolerance is being turned off: by then at the latest, whether the order is in the log or not. */
  #partBy: HostMilliseconds | undefined;
  /** The disks were opened anew: started operations are issued again, before anything else leaves and as it may. */
  #issueAgain = false;
  /** The guest waits for its first backup before its first instruction. */
  #waitForBackup = false;
  #resumed = false;
  #poweredOff = false;
  #move: Move | undefined;

  constructor(side: Side, start: PrimaryStart, now: HostMilliseconds) {
    this.#side = side;
    this.#now = now;
    const perform = (action: FtAction): void => {
      this.#actions.push(action);
    };
    const takeover = start.kind === 'takeover' ? start.takeover : undefined;
    const resumed = start.kind === 'power-on' ? start.resumed : undefined;
    const released = takeover?.released ?? resumed?.outputs ?? 0n;
    this.#gate = new OutputGate(
      released,
      takeover?.started ?? resumed?.started ?? [],
      side.disks.own,
      perform,
    );
    this.#disks = new DiskOpening(takeover !== undefined, side.timing.requestMaxMs, perform);
    this.#questions = new ArbiterQuestions(side, 'p', perform);
    this.#lease = new Lease(side, perform, takeover?.leaseUntil);
    const wanted = takeover
      ? takeover.faultTolerance
      : start.kind === 'power-on' && start.faultTolerance === true;
    this.#search = new HostSearch(side, wanted, perform);
    this.#pace = new VcpuPace(side.timing, perform);
    this.#partners = new Partners(side, perform);
    if (start.kind === 'power-on') {
      this.#epoch = start.expected;
      this.#resumed = resumed !== undefined;
      this.#waitForBackup = start.waitForBackup;
    } else {
      // Go-live (protocol 5): everything above `released` again, in order, and what was started and not completed.
      this.#epoch = start.takeover.epoch;
      for (const output of start.takeover.held) this.#gate.hold(output, 0n);
      this.#state = 'SOLE';
    }
  }

  get state(): PrimaryState {
    return this.#state;
  }

  figures(now: HostMilliseconds): PrimaryFigures {
    const { followed } = this.#partners;
    const lag = followed?.lag;
    return {
      state: this.#state,
      lagMs: lag?.milliseconds(now) ?? 0,
      lagCounts: lag?.counts() ?? 0n,
      backlogMs: lag?.backlogMs(now) ?? 0,
      timeoutMs: followed?.timeoutMs ?? 0,
      share: this.#pace.share,
      heldOutputs: this.#gate.length,
      heldBytes: this.#gate.bytes,
      unackedBytes: this.#partners.bytes,
      released: this.#gate.released,
      logEntries: this.#end,
      count: this.#endAt ?? 0n,
    };
  }

  /** How the outputs since the last call waited. */
  takeWaits(): WaitSamples {
    return this.#gate.takeWaits();
  }

  /** Called once, before any event. */
  start(now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.#state === 'START') {
      this.#questions.ask({ kind: 'restart', expected: this.#epoch, ...namedCopy(this.#side) }, now);
    } else {
      this.#enter('SOLE', 'took over');
      this.#do({ kind: 'open-network', epoch: this.#epoch });
      this.#do({ kind: 'announce' });
      this.#gate.issueAgain();
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
        this.#completed(event.completion);
        break;
      case 'fenced':
        // While our own newer epoch is being opened it fences our older session: the opening's answer tells.
        if (!this.#disks.underWay) this.#halt('the disks belong to a newer generation');
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
        this.#partners.flush();
        break;
      case 'pages':
        if (this.#state === 'COPY' && this.#partners.joining?.takes(event.copy))
          this.#partners.joining.sendPages(event.bytes);
        break;
      case 'block-read':
        this.#blockRead(event);
        break;
      case 'copy-failed':
        this.#halt(event.reason);
        break;
      case 'snapshot':
        this.#snapshot(event.snapshot, event.copy, event.stoodUs);
        break;
      case 'vcpu-stopped':
        if (event.failed) this.#halt(`the vCPU stopped: ${event.reason}`);
        else this.#poweredOff = true;
        break;
      case 'handed-over':
        this.#gate.handedOver(event.output, this.#endAt, this.#now);
        // After the hand-over returned, never before (rule 6).
        if (this.#endAt !== undefined) this.#append(this.#endAt, { kind: 'released', output: event.output });
        break;
      case 'protect':
        this.#search.order(event.address);
        break;
      case 'candidate':
        this.#search.offer(event.address, event.host);
        break;
      case 'migrate-backup':
        this.#migrate(event.address);
        break;
      case 'switch-over':
        if (this.#state === 'PAIR') this.#yield();
        else this.#refuse('switch-over', 'there is no backup to go on');
        break;
      case 'unprotect':
        this.#unprotect();
        break;
      case 'move':
        this.#orderMove(event.address);
        break;
      case 'diverged':
        // Found in its last stretch as a backup: its vCPU stands still for good.
        this.#halt(event.reason);
        break;
      case 'loaded':
      case 'disk-read':
      case 'block-stored':
      case 'copy-secured':
      case 'replayed':
      case 'replayed-to-end':
        // A primary does not replay; what comes late from before its go-live means nothing.
        break;
      default:
        return unreachable(event);
    }
    return this.#finish();
  }

  // ------------------------------------------------------------------------------------------ outputs and the log

  #output(output: NumberedOutput): void {
    this.#append(output.at, outputMark(output));
    if (this.#side.disks.own && output.output.kind === 'disk-request') {
      this.#request(output.output);
      return;
    }
    this.#gate.hold(output, this.#end);
    if (this.#partners.pair) this.#gate.measure(output, this.#end, this.#now);
    // An output that waits flushes at once (design 4).
    this.#partners.flush();
  }

  /**
   * Disks of one's own are internal state [FT 4.1]: nothing waits. What a client sees of it is another output, which does.
   */
  #request(request: DiskRequestOutput): void {
    if (changesDisk(request)) {
      this.#partners.wrote(this.#end, request);
      this.#former.wrote(request);
    }
    this.#gate.start(request);
  }

  #blockRead({ copy, extent, data, failed }: FtEvent & { kind: 'block-read' }): void {
    const { joining } = this.#partners;
    if (this.#state !== 'COPY' || !joining?.takes(copy)) return;
    if (failed) this.#joiningLost(`disk ${extent.disk} cannot be read at ${extent.offset}`);
    else joining.sendBlock(copy, extent, data);
  }

  /** A backup is gone for good: should its copy come back, it is known what that lacks. */
  #remember(partner: Partner | undefined): void {
    const lacks = partner?.lacks;
    if (!partner || !lacks) return;
    const { instance: primary } = this.#side;
    this.#former.lost(partner.copyName.id, { primary, generation: partner.generation }, lacks);
  }

  #completed(completion: DiskCompletedInput): void {
    const request = this.#gate.completed(completion);
    if (!request) return;
    if (this.#side.disks.backupReads) this.#reads.completed(request);
    this.#do({ kind: 'vcpu-input', input: completion });
  }

  #append(at: InstructionCount, payload: LogPayload): void {
    this.#end += 1n;
    this.#endAt = at;
    const read = this.#side.disks.backupReads ? this.#reads.of(payload) : undefined;
    this.#partners.append(this.#end, at, payload, this.#now, read);
  }

  // ------------------------------------------------------------------------------------------ arbiter and disks

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    const answer = this.#disks.answered(opened, verdict);
    if (answer === 'refused') this.#halt('the disks are opened by a newer generation');
    if (answer !== 'ok') return;
    this.#issueAgain = true;
    if (this.#state !== 'START') return;
    this.#enter('SOLE', 'powered on');
    this.#do({ kind: 'open-network', epoch: this.#epoch });
    // A guest in mid-life says nothing by itself that would tell a network where it is.
    if (this.#resumed) this.#do({ kind: 'announce' });
  }

  #answered(answer: ArbiterAnswer): void {
    const request = this.#questions.answeredBy(answer);
    const asked = this.#questions.since;
    if (!request || asked === undefined) {
      // While an answer is open that may move the record, only that answer counts.
      const owner = this.#state !== 'ASK' && this.#state !== 'COMMIT';
      if (this.#lease.answered(answer, this.#epoch) === 'superseded' && owner) this.#superseded(answer);
      return;
    }
    this.#questions.close();
    if (answer.verdict === 'superseded') {
      this.#superseded(answer);
      return;
    }
    this.#epoch = answer.epoch;
    this.#lease.granted(asked);
    if (request.kind === 'commit') {
      this.#committed();
      return;
    }
    // Won: nobody else may run this VM. The partner's gate falls only now.
    this.#remember(this.#partners.pair);
    this.#remember(this.#partners.joining);
    this.#partners.dropAll(this.#epoch);
    this.#gate.forgetWaits();
    this.#disks.ask(this.#epoch, this.#now);
    if (request.kind !== 'claim') return;
    this.#enter('SOLE', `won the test-and-set${this.#stays()}`);
  }

  #superseded({ epoch: reached, copy }: ArbiterAnswer): void {
    if (copy !== undefined) {
      const [where] = copy.split('/');
      this.#halt(
        `the copy of ${this.#side.host} is not whole: the VM's disks are those of ${where}; start it there`,
      );
      return;
    }
    this.#halt(`superseded: the VM's record stands at epoch ${reached}`);
  }

  /** Suspicion is final for this generation: no way leads back to PAIR. */
  #suspect(reason: string, then?: 'tell the partner'): void {
    const lowest = this.#epoch;
    // While a commit may still take effect, the epoch must move before a gate is dropped.
    const highest = this.#state === 'COMMIT' ? epoch(lowest + 1) : lowest;
    if (this.#state !== 'COMMIT') {
      this.#remember(this.#partners.joining);
      this.#partners.dropJoining();
    }
    for (const partner of [this.#partners.pair, this.#partners.joining]) {
      if (then === undefined) partner?.cut();
      else partner?.fallSilent();
      if (partner) this.#search.retire(partner.address);
    }
    this.#partBy = undefined;
    this.#migrating = false;
    this.#enter('ASK', reason);
    this.#questions.ask({ kind: 'claim', lowest, highest, ...namedCopy(this.#side) }, this.#now);
  }

  /**
   * Planned takeover: the log gets its last entry, nothing more is let out, and the backup claims at once. Until the
   * arbiter has said who goes on this side keeps everything: it claims too, after a while, and most likely loses.
   */
  #yield(): void {
    if (this.#state !== 'PAIR' || this.#endAt === undefined) return;
    this.#append(this.#endAt, { kind: 'end', reason: 'handed-over' });
    this.#partners.flush();
    this.#partners.pair?.fallSilent();
    this.#migrating = false;
    this.#claimAt = hostMilliseconds(this.#now + this.#side.timing.suspicionMs);
    this.#enter('YIELD', 'the backup takes over by order');
  }

  // ------------------------------------------------------------------------------------------ the guest goes elsewhere

  #orderMove(address: string): void {
    const why = this.#whyNoMove();
    if (why !== undefined) this.#refuse('move', why);
    else this.#move = new Move(address);
  }

  #whyNoMove(): string | undefined {
    if (this.#move) return this.#onItsWay(this.#move);
    if (this.#partners.pair)
      return 'the VM has a backup: turn fault tolerance off first, or move the backup and switch over';
    if (this.#waitForBackup) return 'the guest has not begun: it waits for its first backup';
    if (this.#side.disks.own)
      return 'its disks are of this host alone: turn fault tolerance on there, and switch over';
    if (this.#poweredOff) return 'the guest is off';
    return this.#state === 'SOLE' ? undefined : `not while the primary is in ${this.#state}`;
  }

  #onItsWay({ address }: Move): string {
    return `the guest is on its way to ${address}`;
  }

  /** Committed: whoever is there has everything, and claims. As in a planned takeover this side keeps everything too. */
  #handOver(move: Move): void {
    this.#partners.promote(this.#epoch, this.#now);
    this.#partners.pair?.giveOver(this.#search.wanted);
    this.#partners.pair?.fallSilent();
    this.#claimAt = hostMilliseconds(this.#now + this.#side.timing.suspicionMs);
    this.#enter('YIELD', this.#onItsWay(move));
  }

  /** The move has come to nothing: the guest goes on here. What is to be said of it. */
  #stays(): string {
    const move = this.#move;
    if (!move) return '';
    this.#move = undefined;
    this.#do({ kind: 'vcpu-let-go' });
    const still = move.standsStill ? `; it stood still for ${Math.round(move.stillMs(this.#now))} ms` : '';
    return `: the guest stays, and does not go to ${move.address}${still}`;
  }

  // ------------------------------------------------------------------------------------------ a new backup

  #migrate(address: string | undefined): void {
    const { pair } = this.#partners;
    if (this.#state !== 'PAIR' || !pair) this.#refuse('migrate-backup', 'there is no backup to move');
    // Not where fault tolerance is just being turned off.
    else if (!this.#search.wanted) this.#refuse('migrate-backup', 'fault tolerance is being turned off');
    else if (address === pair.address) this.#refuse('migrate-backup', `the backup is at ${address} already`);
    else {
      this.#migrating = true;
      this.#search.order(address);
    }
  }

  /** An order that does not fit: it says so, and changes nothing. */
  #refuse(order: string, why: string): void {
    this.#do({ kind: 'state', state: 'refused', detail: `${order}: ${why}` });
  }

  /** SOLE, or PAIR with an order to migrate, and a host to be had: COPY (protocol 4). */
  #joinWhenPossible(): void {
    if (this.#move && this.#state === 'SOLE' && this.#disks.open) {
      const { address } = this.#move;
      this.#enter('COPY', `the guest moves to ${address}`);
      this.#partners.attach(epoch(this.#epoch + 1), address, 'move', this.#now);
      return;
    }
    const alone = this.#state === 'SOLE' && this.#search.wanted && this.#disks.open;
    if (!alone && !(this.#state === 'PAIR' && this.#migrating)) return;
    const address = this.#search.next(this.#now);
    if (address === undefined || address === this.#partners.pair?.address) return;
    this.#enter('COPY', address);
    this.#partners.attach(epoch(this.#epoch + 1), address, 'pair', this.#now);
  }

  /** The running guest is copied anew for whoever is there and has nothing. */
  #beginCopy(partner: Partner): void {
    this.#copies += 1;
    partner.beginCopy(this.#copies);
    this.#do({ kind: 'vcpu-copy', number: this.#copies, standStill: this.#move !== undefined });
  }

  #snapshot(snapshot: MachineSnapshot, copy: number, stoodUs: number): void {
    const { joining } = this.#partners;
    if (this.#state !== 'COPY' || !joining?.takes(copy)) return;
    this.#move?.standStill(this.#now);
    const told = { stoodUs, faultTolerance: this.#search.wanted };
    joining.copy(snapshot, this.#end, this.#gate, told, this.#former.lackedBy(joining.copyName));
  }

  /** Loaded, and whole where it has disks of its own. A guest need not wait for the latter. */
  #gateWhenWhole(joining: Partner): void {
    if (this.#state !== 'COPY' || !joining.loaded) return;
    this.#waitForBackup &&= joining.whole;
    if (joining.whole) this.#startGate();
  }

  /** The first ack says that the snapshot is loaded: from the end of the log on, the new backup is a gate. */
  #startGate(): void {
    this.#partners.startGate(this.#end, this.#now);
    this.#enter(
      'GATE',
      this.#move
        ? 'the guest is at its target'
        : `gate at position ${this.#end}${resyncedText(this.#partners.joining)}`,
    );
  }

  #commitWhenReceived(): void {
    const backup = this.#partners.joining?.instance;
    if (this.#state !== 'GATE' || backup === undefined || !this.#partners.gatePassed) return;
    this.#enter('COMMIT', backup);
    this.#questions.ask({ kind: 'commit', expected: this.#epoch, backup }, this.#now);
  }

  #committed(): void {
    if (this.#move) {
      this.#handOver(this.#move);
      return;
    }
    const old = this.#partners.pair;
    if (old) this.#search.retire(old.address);
    this.#remember(old);
    if (this.#partners.joining) this.#former.whole(this.#partners.joining.copyName.id);
    this.#partners.promote(this.#epoch, this.#now);
    this.#waitForBackup = false;
    this.#migrating = false;
    this.#enter('PAIR', `protected by ${this.#partners.pair?.instance}`);
    if (!this.#search.wanted) this.#suspect('fault tolerance was turned off');
  }

  /** A backup that is lost before the commit was asked for costs nothing: no claim is needed. */
  #joiningLost(reason: string): void {
    this.#remember(this.#partners.joining);
    this.#partners.dropJoining();
    // A VM that was to wait for its first backup goes on without: it says so, and keeps trying.
    this.#waitForBackup = false;
    this.#migrating = false;
    const { pair } = this.#partners;
    const what = this.#move ? `${reason}${this.#stays()}` : `the new backup was lost: ${reason}`;
    this.#enter(pair ? 'PAIR' : 'SOLE', what);
    // Soon enough that a backup that is still there has not suspected by then.
    const rest = hostMilliseconds(this.#now + this.#side.timing.suspicionMs / 4);
    if (this.#search.wanted && !pair) this.#search.rest(rest, this.#now);
  }

  #unprotect(): void {
    this.#search.turnOff();
    this.#waitForBackup = false;
    this.#migrating = false;
    const reason = 'fault tolerance was turned off';
    // A guest on its way needs none: it is not wanted there either.
    if (!this.#move && (this.#state === 'COPY' || this.#state === 'GATE')) this.#joiningLost(reason);
    if (this.#state !== 'PAIR') return;
    // An order like any other: it travels in the log, so the backup knows what its end means [FT 3.3].
    this.#partBy = hostMilliseconds(this.#now + this.#side.timing.suspicionMs);
    this.#do({ kind: 'vcpu-input', input: { kind: 'control', action: 'end-protection' } });
  }

  /** The order is in the log, or the vCPU is stopped by the very backup that shall go. */
  #part(): void {
    if (this.#partBy === undefined || this.#state !== 'PAIR') return;
    this.#partBy = undefined;
    this.#partners.flush();
    this.#suspect('fault tolerance was turned off', 'tell the partner');
  }

  // ------------------------------------------------------------------------------------------ the channel

  #connected(link: Link, address: string): void {
    if (!this.#partners.accept(link, address)) this.#do({ kind: 'close', link });
  }

  #received(link: Link, message: Message): void {
    const partner = this.#partners.of(link);
    if (!partner) {
      this.#stranger(link, message);
      return;
    }
    if (this.#state === 'ASK') return;
    const news = partner.received(link, message, this.#now);
    switch (news?.kind) {
      case undefined:
        return;
      case 'empty':
        this.#beginCopy(partner);
        return;
      case 'staged':
        if (partner === this.#partners.joining) this.#do({ kind: 'vcpu-copied', parts: news.parts });
        return;
      case 'acked':
        if (partner === this.#partners.pair) this.#gate.acked(partner.acked, this.#now);
        if (partner === this.#partners.joining) this.#gateWhenWhole(partner);
        return;
      case 'stored':
        return;
      case 'whole':
        if (partner === this.#partners.joining) this.#gateWhenWhole(partner);
        return;
      case 'broken':
        this.#breakLink(partner, link, news.reason);
        return;
      case 'unfit':
        this.#do({ kind: 'state', state: 'refused', detail: news.reason, protected: this.#protected });
        if (partner.purpose === 'pair') this.#search.retire(partner.address);
        this.#breakLink(partner, link, news.reason);
        return;
      case 'forgot':
        this.#breakLink(partner, link, news.reason);
        if (partner === this.#partners.pair || this.#state === 'COMMIT')
          this.#suspect('the backup has lost its state');
        return;
      case 'over':
        if (partner === this.#partners.pair)
          this.#suspect(`the partner says that epoch ${news.epoch} has come`);
        return;
      case 'diverged':
        this.#do({ kind: 'state', state: 'diverged', detail: news.reason });
        if (partner === this.#partners.joining && this.#state !== 'COMMIT') this.#joiningLost(news.reason);
        else this.#suspect(`the backup diverged: ${news.reason}`);
        return;
      default:
        unreachable(news);
    }
  }

  /** An old partner that comes back, most likely: told which epoch it is, it asks the arbiter and halts. */
  #stranger(link: Link, message: Message): void {
    if (message.kind === 'hello' && message.vm === this.#side.vm)
      this.#do({ kind: 'send', link, message: { kind: 'over', epoch: this.#epoch } });
    this.#do({ kind: 'close', link });
  }

  #breakLink(partner: Partner, link: Link, reason: string): void {
    partner.broken(link, this.#now, true);
    this.#lostLink(partner, reason);
  }

  #broken(link: Link | undefined, reason: string): void {
    if (link === undefined) {
      // A connection could not be made at all: whoever waits for one tries again.
      if (this.#state !== 'ASK') this.#partners.reconnectSoon(this.#now);
      return;
    }
    const partner = this.#partners.of(link);
    if (!partner) return;
    partner.broken(link, this.#now, false);
    this.#lostLink(partner, reason);
  }

  #lostLink(partner: Partner, reason: string): void {
    this.#do({ kind: 'state', state: 'channel-broken', detail: reason, protected: this.#protected });
    const joins = partner === this.#partners.joining && (this.#state === 'COPY' || this.#state === 'GATE');
    if (joins) this.#joiningLost(reason);
    else if (this.#state !== 'ASK') partner.reconnectSoon(this.#now);
  }

  // ------------------------------------------------------------------------------------------ time

  #heartbeat(heartbeat: Heartbeat): void {
    this.#partners.heartbeat(heartbeat, this.#now);
  }

  #tick(): void {
    this.#questions.tick(this.#now);
    this.#disks.tick(this.#now);
    if (this.#state !== 'START' && this.#state !== 'ASK' && this.#state !== 'COMMIT')
      this.#lease.tick(this.#now, this.#epoch);
    this.#partners.tick(this.#now);
    this.#checkJoining();
    this.#checkPair();
    if (this.#partBy !== undefined && this.#now >= this.#partBy) this.#part();
    this.#partners.beat();
    this.#pace.throttle(this.#partners.pair?.lag, this.#now);
  }

  #checkJoining(): void {
    const { joining } = this.#partners;
    if (!joining) return;
    const silence = joining.check(this.#now);
    if (this.#state === 'COPY' || this.#state === 'GATE') {
      const waited = this.#now - joining.since;
      // The first backup of a VM may still be starting; any other that does not even answer is given up soon.
      const patience = this.#waitForBackup ? this.#side.timing.copyMs : this.#side.timing.reachMs;
      if (silence === 'silent' && joining.connected) this.#joiningLost('it is silent');
      // In GATE outputs wait for it already.
      else if (silence === 'stuck' && this.#state === 'GATE') this.#joiningLost('nothing is acked');
      else if (!joining.connected && !joining.copied && waited >= patience)
        this.#joiningLost('it cannot be reached');
      else if (this.#now - joining.progress >= this.#side.timing.copyMs || this.#stoodTooLong())
        this.#joiningLost('it was not ready in time');
    } else if (this.#state === 'COMMIT') {
      const since = this.#questions.since ?? this.#now;
      if (silence === 'silent') this.#suspect('the new backup is silent while the commit is open');
      else if (this.#now - since >= this.#side.timing.commitMs || this.#stoodTooLong())
        this.#suspect('the commit is not answered');
      else if (silence === 'stuck') this.#unstick(joining);
    }
  }

  #stoodTooLong(): boolean {
    return (this.#move?.stillMs(this.#now) ?? 0) >= this.#side.timing.stillMs;
  }

  #checkPair(): void {
    const { pair } = this.#partners;
    if (this.#state === 'YIELD' && this.#now >= this.#claimAt) this.#suspect('the backup was to take over');
    if (!pair || this.#state === 'ASK' || this.#state === 'YIELD') return;
    const silence = pair.check(this.#now);
    if (silence === 'silent') this.#suspect('the backup is silent');
    else if (silence === 'stuck') this.#unstick(pair);
  }

  #unstick(partner: Partner): void {
    const { suspicion, broken } = partner.unstick(this.#now);
    if (broken !== undefined)
      this.#do({ kind: 'state', state: 'channel-broken', detail: broken, protected: this.#protected });
    if (suspicion !== undefined) this.#suspect(suspicion);
  }

  // ------------------------------------------------------------------------------------------ what follows

  /** Powered off in good order: once the last output has left, the log ends, so the backup does not take over. */
  #endLog(): void {
    if (!this.#poweredOff || !this.#gate.empty) return;
    if (this.#endAt !== undefined && this.#state !== 'ASK') {
      this.#append(this.#endAt, { kind: 'end', reason: 'powered-off' });
      this.#partners.flush();
    }
    this.#halt('powered off');
  }

  #runOrPause(): void {
    const { streamBytes, holdBytes } = this.#side.limits;
    const fill = Math.max(this.#gate.bytes / holdBytes, this.#partners.bytes / streamBytes);
    const mayRun = this.#state !== 'START' && !this.#waitForBackup && !this.#move?.standsStill;
    this.#pace.update(mayRun, fill);
  }

  get #protected(): boolean {
    return this.#partners.pair !== undefined && this.#state !== 'ASK' && !this.#move;
  }

  #enter(state: PrimaryState, detail: string): void {
    this.#state = state;
    this.#do({ kind: 'state', state, detail, protected: this.#protected && state !== 'HALT' });
  }

  #halt(why: string): void {
    this.#partners.cut();
    // Only one other could have claimed.
    const gone = this.#move && (this.#state === 'YIELD' || this.#state === 'ASK');
    const reason = gone ? `moved to ${this.#move?.address}: ${why}` : why;
    this.#enter('HALT', reason);
    this.#do({ kind: 'halt', reason });
  }

  #do(action: FtAction): void {
    this.#actions.push(action);
  }

  /** What may follow from any event: releases, a new backup, the commit, the end of the log, running or pausing. */
  #finish(): readonly FtAction[] {
    if (this.#state !== 'HALT') {
      this.#joinWhenPossible();
      this.#commitWhenReceived();
      const stays = this.#state !== 'YIELD' && !this.#move?.standsStill;
      const mayLeave = this.#disks.open && stays && this.#lease.held(this.#now);
      if (mayLeave && this.#issueAgain) {
        this.#issueAgain = false;
        this.#gate.issueAgain();
      }
      if (mayLeave)
        this.#gate.release(this.#partners.ackedByAll(this.#end), (request) =>
          this.#partners.holdBack(request),
        );
      this.#endLog();
    }
    if (this.#state !== 'HALT') this.#runOrPause();
    assert(this.#state !== 'PAIR' || this.#partners.pair !== undefined, 'a pair has a backup');
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }
}

function resyncedText(partner: Partner | undefined): string {
  const figures = partner?.resynced;
  return figures ? `; of the disks ${figures.blocks} blocks, ${figures.zeroes} of them zeroes` : '';
}

function endsProtection(payload: LogPayload): boolean {
  const input = payload.kind === 'input' ? payload.input : undefined;
  return input?.kind === 'control' && input.action === 'end-protection';
}
