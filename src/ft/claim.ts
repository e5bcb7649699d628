import type { HostMilliseconds } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import { DiskOpening } from './disk-opening.ts';
import { type Epoch, type InstanceId, renamed } from './identity.ts';
import { Lease } from './lease.ts';
import { namedCopy, type Side } from './side.ts';

/** A claim that may go live. */
export interface WonClaim {
  readonly epoch: Epoch;
  readonly leaseUntil: HostMilliseconds;
  readonly pending: readonly DiskRequestOutput[];
}

/**
 * A backup's claim to the VM: the arbiter's test-and-set (rule 4), then the disks opened for the epoch that was won
 * (rule 7), under a lease, while the vCPU replays to the end of the log (rule 3). All of them make a primary of it.
 */
export class Claim {
  readonly #process: InstanceId;
  readonly #do: (action: FtAction) => void;
  readonly #disks: DiskOpening;
  #side: Side;
  #questions: ArbiterQuestions;
  #lease: Lease;
  /** Questions given up for a new copy. */
  #givenUp = 0;
  #early = false;
  #epoch: Epoch | undefined;
  #pending: readonly DiskRequestOutput[] | undefined;

  constructor(side: Side, perform: (action: FtAction) => void) {
    this.#process = side.instance;
    this.#do = perform;
    this.#side = side;
    this.#questions = new ArbiterQuestions(side, 'b', perform);
    this.#disks = new DiskOpening(false, side.timing.requestMaxMs, perform);
    this.#lease = new Lease(side, perform);
  }

  /** Who claims: the name under which this side is in the pair. */
  get instance(): InstanceId {
    return this.#side.instance;
  }

  /** The question came before the commit of its pair. */
  get early(): boolean {
    return this.#early;
  }

  /** For the pair of this generation. */
  ask(generation: Epoch, now: HostMilliseconds): void {
    const range = { lowest: generation, highest: generation };
    this.#questions.ask({ kind: 'claim', ...range, ...namedCopy(this.#side) }, now);
  }

  /**
   * The question asked for the copy before is open, and may reach the arbiter at any time. The pair that is made now
   * is one with somebody else, so that it can never win.
   */
  giveUp(): void {
    this.#givenUp += 1;
    this.#side = { ...this.#side, instance: renamed(this.#process, this.#givenUp) };
    this.#questions = new ArbiterQuestions(this.#side, 'b', this.#do);
    this.#lease = new Lease(this.#side, this.#do);
  }

  /** A new copy comes: nothing is claimed any more, and no replay has come to its end. */
  forget(): void {
    this.#pending = undefined;
    this.#early = false;
    this.#questions.close();
  }

  /** Undefined: the answer decides nothing. `generation`: the pair for which an answer is awaited. */
  answered(answer: ArbiterAnswer, generation: Epoch | undefined): 'won' | 'superseded' | undefined {
    const epoch = this.#epoch;
    if (epoch !== undefined && this.#lease.answered(answer, epoch) === 'superseded') return 'superseded';
    const asked = this.#questions.since;
    if (generation === undefined || asked === undefined || !this.#questions.answeredBy(answer))
      return undefined;
    // Asked before the commit of this very pair, which may still be on its way: then this side may be the only one
    // left. That is no verdict, so the same question goes on being asked, until the record has moved or a primary
    // comes with a new copy.
    const early = answer.verdict === 'superseded' && answer.epoch < generation;
    if (early && !this.#early) this.#tellEarly(answer);
    this.#early = early;
    if (early) return undefined;
    this.#questions.close();
    if (answer.verdict === 'superseded') return 'superseded';
    this.#epoch = answer.epoch;
    this.#lease.granted(asked);
    return 'won';
  }

  /** Whoever watches over the VM has to know that this side may ask in vain for ever. */
  #tellEarly({ epoch }: ArbiterAnswer): void {
    const detail = `the record stands at epoch ${epoch}, before this pair; asking on`;
    this.#do({ kind: 'state', state: 'EARLY', detail });
  }

  /** For the epoch that was won. */
  openDisks(now: HostMilliseconds): void {
    if (this.#epoch !== undefined) this.#disks.ask(this.#epoch, now);
  }

  /** Undefined: an answer to another opening. */
  disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): 'ok' | 'refused' | undefined {
    return this.#disks.answered(opened, verdict);
  }

  /** The vCPU has replayed the whole log; `pending`: disk operations without a completion. */
  replayed(pending: readonly DiskRequestOutput[]): void {
    this.#pending = pending;
  }

  /** Repeats what has no answer. */
  tick(now: HostMilliseconds): void {
    this.#questions.tick(now);
    this.#disks.tick(now);
  }

  /** The lease of what was won. */
  renew(now: HostMilliseconds): void {
    if (this.#epoch !== undefined) this.#lease.tick(now, this.#epoch);
  }

  /** Undefined: something is missing still. */
  won(now: HostMilliseconds): WonClaim | undefined {
    const epoch = this.#epoch;
    const pending = this.#pending;
    if (!this.#disks.open || !pending || epoch === undefined || !this.#lease.held(now)) return undefined;
    return { epoch, leaseUntil: this.#lease.until, pending };
  }
}
