import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import { ArbiterQuestions } from './arbiter-questions.ts';
import type { Epoch } from './identity.ts';
import type { Side } from './side.ts';

/** Clocks' rates may differ by this share: the owner's lease ends so much earlier, a taker waits so much longer. */
const DRIFT = 1 / 20;

/**
 * The owner's lease (protocol 8): without a valid one it lets nothing out and does not go live, so that whoever
 * restarts the VM after it has run out cannot be contradicted. It counts from before the request that got it.
 * A VM that nobody restarts needs none (`leaseMs` 0): then it is always held.
 */
export class Lease {
  readonly #side: Side;
  readonly #questions: ArbiterQuestions;
  #until = Number.NEGATIVE_INFINITY;
  #renewAt = Number.NEGATIVE_INFINITY;

  constructor(side: Side, perform: (action: FtAction) => void, until = Number.NEGATIVE_INFINITY) {
    this.#side = side;
    this.#questions = new ArbiterQuestions(side, 'l', perform);
    this.#until = until;
  }

  get until(): HostMilliseconds {
    return hostMilliseconds(this.#until);
  }

  held(now: HostMilliseconds): boolean {
    return this.#side.timing.leaseMs === 0 || now < this.#until;
  }

  /** A claim, commit or restart that was first asked at `asked` has won: it renews too. */
  granted(asked: HostMilliseconds): void {
    const { leaseMs } = this.#side.timing;
    this.#until = Math.max(this.#until, asked + leaseMs * (1 - DRIFT));
    this.#renewAt = asked + leaseMs / 4;
  }

  /** While this side owns the VM at `epoch`: renews in time. */
  tick(now: HostMilliseconds, epoch: Epoch): void {
    const { leaseMs } = this.#side.timing;
    if (leaseMs === 0) return;
    if (now < this.#renewAt) {
      this.#questions.tick(now);
      return;
    }
    this.#renewAt = now + leaseMs / 4;
    this.#questions.ask({ kind: 'renew', epoch }, now);
  }

  /** Undefined: no answer to a renewal at this epoch. One at an older epoch says nothing about this one. */
  answered(answer: ArbiterAnswer, epoch: Epoch): 'renewed' | 'superseded' | undefined {
    const request = this.#questions.answeredBy(answer);
    const asked = this.#questions.since;
    if (request?.kind !== 'renew' || asked === undefined) return undefined;
    this.#questions.close();
    if (request.epoch !== epoch) return undefined;
    if (answer.verdict === 'superseded') return 'superseded';
    this.granted(asked);
    return 'renewed';
  }
}

/** How long after the last renewal the lease has surely run out for its owner, in the taker's milliseconds. */
export function leaseRunsOutMs(leaseMs: number): number {
  return leaseMs * (1 + DRIFT);
}
