import { assert, unreachable } from '../base/assert.ts';
import type { HostMilliseconds } from '../base/units.ts';
import type { DiskCompletedInput } from '../machine/door.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { Attachment } from './attachment.ts';
import { Doubt } from './doubt.ts';
import type { FtEvent } from './event.ts';
import { HostSearch } from './host-search.ts';
import type { Epoch } from './identity.ts';
import type { Link } from './link.ts';
import type { Message } from './message.ts';
import { Move } from './move.ts';
import { type Order, whyNot } from './order-rules.ts';
import { OutputGate } from './output-gate.ts';
import type { WaitSamples } from './output-waits.ts';
import { Ownership } from './ownership.ts';
import { Partners } from './partners.ts';
import { PlannedTakeover } from './planned-takeover.ts';
import { PrimaryLog } from './primary-log.ts';
import { type PrimaryFigures, type PrimaryStart, type PrimaryState, pastOutputs } from './primary-state.ts';
import { Separation } from './separation.ts';
import type { Side } from './side.ts';
import { Standing } from './standing.ts';
import { VcpuPace } from './vcpu-pace.ts';

/**
 * The primary's half of the protocol: events in, actions out. It decides in which state the VM is protected, by
 * whom, and what that lets out; what a partner, the gate, a new backup's way to the pair are stands in files of their own.
 */
export class Primary {
  readonly #side: Side;
  #actions: FtAction[] = [];
  #now: HostMilliseconds;
  readonly #standing: Standing;
  readonly #ownership: Ownership;
  readonly #partners: Partners;
  readonly #log: PrimaryLog;
  readonly #gate: OutputGate;
  readonly #pace: VcpuPace;
  readonly #search: HostSearch;
  readonly #move: Move;
  readonly #attachment: Attachment;
  readonly #planned: PlannedTakeover;
  readonly #separation: Separation;
  readonly #doubt: Doubt;
  /** The guest goes on from a saved state. */
  readonly #resumed: boolean;
  #poweredOff = false;

  constructor(side: Side, start: PrimaryStart, now: HostMilliseconds) {
    this.#side = side;
    this.#now = now;
    const perform = (action: FtAction): void => this.#do(action);
    const takeover = start.kind === 'takeover' ? start.takeover : undefined;
    const powerOn = start.kind === 'power-on' ? start : undefined;
    this.#resumed = powerOn?.resumed !== undefined;
    this.#ownership = new Ownership(side, start, perform);
    const wanted = takeover?.faultTolerance ?? powerOn?.faultTolerance === true;
    this.#search = new HostSearch(side, wanted, perform);
    this.#pace = new VcpuPace(side.timing, perform);
    this.#partners = new Partners(side, perform);
    this.#log = new PrimaryLog(this.#partners, side.disks.backupReads);
    this.#gate = new OutputGate(pastOutputs(start), this.#log, this.#partners, side.disks.own, perform);
    this.#move = new Move(perform);
    this.#standing = new Standing(takeover ? 'SOLE' : 'START', this.#partners, this.#move, perform);
    const basis = {
      partners: this.#partners,
      search: this.#search,
      move: this.#move,
      standing: this.#standing,
      ownership: this.#ownership,
    };
    this.#attachment = new Attachment(side, basis, powerOn?.waitForBackup === true, perform);
    const attachment = this.#attachment;
    this.#planned = new PlannedTakeover(this.#partners, this.#log, this.#standing, side.timing);
    this.#separation = new Separation({ ...basis, attachment }, side.timing, perform);
    const planned = this.#planned;
    this.#doubt = new Doubt({ ...basis, attachment, planned, separation: this.#separation });
  }

  get state(): PrimaryState {
    return this.#standing.state;
  }

  figures(now: HostMilliseconds): PrimaryFigures {
    const { followed } = this.#partners;
    const lag = followed?.lag;
    return {
      state: this.state,
      lagMs: lag?.milliseconds(now) ?? 0,
      lagCounts: lag?.counts() ?? 0n,
      backlogMs: lag?.backlogMs(now) ?? 0,
      timeoutMs: followed?.timeoutMs ?? 0,
      share: this.#pace.share,
      heldOutputs: this.#gate.length,
      heldBytes: this.#gate.bytes,
      unackedBytes: this.#partners.bytes,
      released: this.#gate.released,
      logEntries: this.#log.end,
      count: this.#log.reached ?? 0n,
    };
  }

  /** How the outputs since the last call waited. */
  takeWaits(): WaitSamples {
    return this.#gate.takeWaits();
  }

  /** Called once, before any event. */
  start(now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.state === 'START') this.#ownership.restart(now);
    else {
      this.#enter('SOLE', 'took over');
      this.#do({ kind: 'open-network', epoch: this.#ownership.epoch });
      this.#do({ kind: 'announce' });
      this.#gate.issueAgain();
    }
    return this.#finish();
  }

  step(event: FtEvent, now: HostMilliseconds): readonly FtAction[] {
    this.#now = now;
    if (this.state === 'HALT') return [];
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
        if (!this.#ownership.opensDisks) this.#halt('the disks belong to a newer generation');
        break;
      case 'input':
        if (this.state !== 'START') this.#do({ kind: 'vcpu-input', input: event.input });
        break;
      case 'connected':
        if (!this.#partners.accept(event.link, event.address)) this.#do({ kind: 'close', link: event.link });
        break;
      case 'received':
        for (const message of event.messages) this.#received(event.link, message);
        break;
      case 'broken':
        this.#doubt.broken(event.link, event.reason, now);
        break;
      case 'heartbeat':
        this.#partners.heartbeat(event.heartbeat, now);
        break;
      case 'entry':
        this.#log.append(event.at, event.payload, now);
        this.#separation.logged(event.payload, now);
        break;
      case 'output':
        this.#gate.made(event.output, now);
        break;
      case 'flush':
        this.#partners.flush();
        break;
      case 'pages':
        this.#attachment.pages(event);
        break;
      case 'block-read':
        this.#attachment.block(event, now);
        break;
      case 'copy-failed':
        this.#halt(event.reason);
        break;
      case 'snapshot':
        this.#attachment.snapshot(event, this.#log, this.#gate, now);
        break;
      case 'vcpu-stopped':
        if (event.failed) this.#halt(`the vCPU stopped: ${event.reason}`);
        else this.#poweredOff = true;
        break;
      case 'handed-over':
        this.#gate.handedOver(event.output, now);
        break;
      case 'candidate':
        this.#search.offer(event.address, event.host);
        break;
      case 'protect':
        this.#search.order(event.address);
        break;
      case 'unprotect':
        this.#separation.turnOff(now);
        break;
      case 'migrate-backup':
        if (this.#may(event)) this.#attachment.migrate(event.address);
        break;
      case 'switch-over':
        if (this.#may(event) && this.#planned.switchOver(now)) this.#attachment.migrateNoMore();
        break;
      case 'move':
        if (this.#may(event)) this.#move.begin(event.address);
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

  // ------------------------------------------------------------------------------------------ the disks

  #completed(completion: DiskCompletedInput): void {
    const request = this.#gate.completed(completion);
    if (!request) return;
    this.#log.completed(request);
    this.#do({ kind: 'vcpu-input', input: completion });
  }

  #disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): void {
    const answer = this.#ownership.disksOpened(opened, verdict);
    if (answer === 'refused') this.#halt('the disks are opened by a newer generation');
    if (answer !== 'ok') return;
    this.#gate.reopened();
    if (this.state !== 'START') return;
    this.#enter('SOLE', 'powered on');
    this.#do({ kind: 'open-network', epoch: this.#ownership.epoch });
    // A guest in mid-life says nothing by itself that would tell a network where it is.
    if (this.#resumed) this.#do({ kind: 'announce' });
  }

  // ------------------------------------------------------------------------------------------ whose the VM is

  #answered(answer: ArbiterAnswer): void {
    const awaited = this.state === 'ASK' || this.state === 'COMMIT';
    const won = this.#ownership.answered(answer, awaited);
    if (won === undefined) return;
    if (won === 'superseded') this.#halt(this.#ownership.whySuperseded(answer));
    else if (won === 'commit') this.#committed();
    else this.#alone(won === 'claim');
  }

  /** Won: nobody else may run this VM. The partner's gate falls only now. */
  #alone(claimed: boolean): void {
    this.#partners.dropAll(this.#ownership.epoch);
    this.#gate.forgetWaits();
    this.#ownership.openDisks(this.#now);
    if (claimed) this.#enter('SOLE', `won the test-and-set${this.#move.giveUp(this.#now)}`);
  }

  #committed(): void {
    const { epoch: reached } = this.#ownership;
    const { address: target } = this.#move;
    if (target !== undefined) {
      this.#planned.handOver(reached, target, this.#search.wanted, this.#now);
      return;
    }
    this.#attachment.committed(reached, this.#now);
    this.#separation.committed(this.#now);
  }

  /** An order that does not fit is refused, with the reason. */
  #may(order: Order): boolean {
    const why = whyNot(order, {
      state: this.state,
      backupAt: this.#partners.pair?.address,
      movesTo: this.#move.address,
      wanted: this.#search.wanted,
      guestWaits: this.#attachment.guestWaits,
      poweredOff: this.#poweredOff,
      ownDisks: this.#side.disks.own,
    });
    if (why !== undefined) this.#standing.refuse(order.kind, why);
    return why === undefined;
  }

  // ------------------------------------------------------------------------------------------ the channel

  #received(link: Link, message: Message): void {
    const partner = this.#partners.of(link);
    if (!partner) {
      this.#stranger(link, message);
      return;
    }
    if (this.state === 'ASK') return;
    const news = partner.received(link, message, this.#now);
    switch (news?.kind) {
      case undefined:
      case 'stored':
        return;
      case 'empty':
        this.#attachment.copy(partner);
        return;
      case 'staged':
        if (partner === this.#partners.joining) this.#do({ kind: 'vcpu-copied', parts: news.parts });
        return;
      case 'acked':
        if (partner === this.#partners.pair) this.#gate.acked(partner.acked, this.#now);
        this.#attachment.gateWhenWhole(partner, this.#log.end, this.#now);
        return;
      case 'whole':
        this.#attachment.gateWhenWhole(partner, this.#log.end, this.#now);
        return;
      case 'broken':
        this.#doubt.end(partner, link, news.reason, this.#now);
        return;
      case 'unfit':
        this.#standing.unfit(news.reason);
        if (partner.purpose === 'pair') this.#search.retire(partner.address);
        this.#doubt.end(partner, link, news.reason, this.#now);
        return;
      case 'forgot':
        this.#doubt.end(partner, link, news.reason, this.#now);
        if (partner === this.#partners.pair || this.state === 'COMMIT')
          this.#separation.suspect('the backup has lost its state', this.#now);
        return;
      case 'over':
        if (partner === this.#partners.pair)
          this.#separation.suspect(`the partner says that epoch ${news.epoch} has come`, this.#now);
        return;
      case 'diverged':
        this.#standing.diverged(news.reason);
        if (partner === this.#partners.joining && this.state !== 'COMMIT')
          this.#attachment.lost(news.reason, this.#now);
        else this.#separation.suspect(`the backup diverged: ${news.reason}`, this.#now);
        return;
      default:
        unreachable(news);
    }
  }

  /** An old partner that comes back, most likely: told which epoch it is, it asks the arbiter and halts. */
  #stranger(link: Link, message: Message): void {
    if (message.kind === 'hello' && message.vm === this.#side.vm)
      this.#do({ kind: 'send', link, message: { kind: 'over', epoch: this.#ownership.epoch } });
    this.#do({ kind: 'close', link });
  }

  // ------------------------------------------------------------------------------------------ time

  #tick(): void {
    const { state } = this;
    this.#ownership.tick(this.#now, state !== 'START' && state !== 'ASK' && state !== 'COMMIT');
    this.#partners.tick(this.#now);
    this.#doubt.tick(this.#now);
    this.#separation.tick(this.#now);
    this.#partners.beat();
    this.#pace.throttle(this.#partners.pair?.lag, this.#now);
  }

  // ------------------------------------------------------------------------------------------ what follows

  /** Powered off in good order: once the last output has left, the log ends, so the backup does not take over. */
  #endLog(): void {
    if (!this.#poweredOff || !this.#gate.empty) return;
    if (this.state !== 'ASK') this.#log.close('powered-off', this.#now);
    this.#halt('powered off');
  }

  #runOrPause(): void {
    const { streamBytes, holdBytes } = this.#side.limits;
    const fill = Math.max(this.#gate.bytes / holdBytes, this.#partners.bytes / streamBytes);
    const mayRun = this.state !== 'START' && !this.#attachment.guestWaits && !this.#move.standsStill;
    this.#pace.update(mayRun, fill);
  }

  #enter(state: PrimaryState, detail: string): void {
    this.#standing.enter(state, detail);
  }

  #halt(why: string): void {
    this.#partners.cut();
    // Only one other could have claimed.
    const gone = this.#move.underWay && (this.state === 'YIELD' || this.state === 'ASK');
    const reason = gone ? `moved to ${this.#move.address}: ${why}` : why;
    this.#enter('HALT', reason);
    this.#do({ kind: 'halt', reason });
  }

  #do(action: FtAction): void {
    this.#actions.push(action);
  }

  /** What may follow from any event: releases, a new backup, the commit, the end of the log, running or pausing. */
  #finish(): readonly FtAction[] {
    if (this.state !== 'HALT') {
      this.#attachment.begin(this.#ownership.epoch, this.#ownership.disksOpen, this.#now);
      this.#commitWhenReceived();
      const stays = this.state !== 'YIELD' && !this.#move.standsStill;
      if (stays && this.#ownership.mayLetOut(this.#now)) this.#gate.release();
      this.#endLog();
    }
    if (this.state !== 'HALT') this.#runOrPause();
    assert(this.state !== 'PAIR' || this.#partners.pair !== undefined, 'a pair has a backup');
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  #commitWhenReceived(): void {
    const backup = this.#attachment.received;
    if (backup === undefined) return;
    this.#enter('COMMIT', backup);
    this.#ownership.commit(backup, this.#now);
  }
}
