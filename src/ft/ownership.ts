import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer, ArbiterRequest } from './arbiter.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import { DiskOpening } from './disk-opening.ts';
import { type Epoch, epoch, type InstanceId } from './identity.ts';
import { Lease } from './lease.ts';
import type { PrimaryStart } from './primary-state.ts';
import { namedCopy, type Side } from './side.ts';

/**
 * What makes a primary the one that may act for its VM: the arbiter's record at an epoch that it won (rule 4), the disks
 * opened for that epoch, which fences everybody before (rule 7), and a lease that has not run out (protocol 8).
 */
export class Ownership {
  readonly #side: Side;
  readonly #questions: ArbiterQuestions;
  readonly #lease: Lease;
  readonly #disks: DiskOpening;
  #epoch: Epoch;

  /** After a takeover: this side has won everything already, as a backup. */
  constructor(side: Side, start: PrimaryStart, perform: (action: FtAction) => void) {
    const takeover = start.kind === 'takeover' ? start.takeover : undefined;
    this.#side = side;
    this.#epoch = start.kind === 'takeover' ? start.takeover.epoch : start.expected;
    this.#questions = new ArbiterQuestions(side, 'p', perform);
    this.#lease = new Lease(side, perform, takeover?.leaseUntil);
    this.#disks = new DiskOpening(takeover !== undefined, side.timing.requestMaxMs, perform);
  }

  get epoch(): Epoch {
    return this.#epoch;
  }

  /** For how long the question that is open has been asked; 0: none is. */
  askedForMs(now: HostMilliseconds): number {
    return now - (this.#questions.since ?? now);
  }

  get disksOpen(): boolean {
    return this.#disks.open;
  }

  get opensDisks(): boolean {
    return this.#disks.underWay;
  }

  /** Whether anything may leave this side. */
  mayLetOut(now: HostMilliseconds): boolean {
    return this.#disks.open && this.#lease.held(now);
  }

  // ------------------------------------------------------------------------------------------ the record

  restart(now: HostMilliseconds): void {
    this.#questions.ask({ kind: 'restart', expected: this.#epoch, ...namedCopy(this.#side) }, now);
  }

  /** To be the VM's only one. `commitOpen`: the commit may still take effect, and then the epoch is the next one. */
  claim(commitOpen: boolean, now: HostMilliseconds): void {
    const lowest = this.#epoch;
    const highest = commitOpen ? epoch(lowest + 1) : lowest;
    this.#questions.ask({ kind: 'claim', lowest, highest, ...namedCopy(this.#side) }, now);
  }

  commit(backup: InstanceId, now: HostMilliseconds): void {
    this.#questions.ask({ kind: 'commit', expected: this.#epoch, backup }, now);
  }

  /**
   * What was won, or that somebody else has the VM. Undefined: the answer decides nothing. `awaited`: an answer is open
   * that may move the record, and only that answer counts.
   */
  answered(answer: ArbiterAnswer, awaited: boolean): ArbiterRequest['kind'] | 'superseded' | undefined {
    const request = this.#questions.answeredBy(answer);
    const asked = this.#questions.since;
    if (!request || asked === undefined) {
      const renewal = this.#lease.answered(answer, this.#epoch);
      return renewal === 'superseded' && !awaited ? renewal : undefined;
    }
    this.#questions.close();
    if (answer.verdict === 'superseded') return 'superseded';
    this.#epoch = answer.epoch;
    this.#lease.granted(asked);
    return request.kind;
  }

  /** Why this side is not the VM's. */
  whySuperseded({ epoch: reached, copy }: ArbiterAnswer): string {
    if (copy === undefined) return `superseded: the VM's record stands at epoch ${reached}`;
    const [where] = copy.split('/');
    return `the copy of ${this.#side.host} is not whole: the VM's disks are those of ${where}; start it there`;
  }

  // ------------------------------------------------------------------------------------------ disks and time

  /** For the epoch that was won. */
  openDisks(now: HostMilliseconds): void {
    this.#disks.ask(this.#epoch, now);
  }

  /** Undefined: an answer to another opening. */
  disksOpened(opened: Epoch, verdict: 'ok' | 'refused'): 'ok' | 'refused' | undefined {
    return this.#disks.answered(opened, verdict);
  }

  /** Repeats what has no answer; renews the lease while this side knows that it is the VM's: `renews`. */
  tick(now: HostMilliseconds, renews: boolean): void {
    this.#questions.tick(now);
    this.#disks.tick(now);
    if (renews) this.#lease.tick(now, this.#epoch);
  }
}
