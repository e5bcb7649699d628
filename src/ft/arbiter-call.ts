import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { ArbiterAnswer, ArbiterRequest } from './arbiter.ts';

/**
 * One question to the arbiter, repeated with the same nonce and growing pauses until it is answered: a lost
 * request or answer changes nothing, and no answer is never taken for a verdict (rule 4, "One winner").
 */
export class ArbiterCall {
  readonly request: ArbiterRequest;
  readonly since: HostMilliseconds;
  readonly #maxMs: number;
  #pauseMs: number;
  #next: HostMilliseconds;

  constructor(request: ArbiterRequest, now: HostMilliseconds, firstMs: number, maxMs: number) {
    this.request = request;
    this.since = now;
    this.#pauseMs = firstMs;
    this.#maxMs = maxMs;
    this.#next = hostMilliseconds(now + firstMs);
  }

  /** True when the request is to be sent again. */
  due(now: HostMilliseconds): boolean {
    if (now < this.#next) return false;
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#maxMs);
    this.#next = hostMilliseconds(now + this.#pauseMs);
    return true;
  }

  answers(answer: ArbiterAnswer): boolean {
    return answer.nonce === this.request.nonce;
  }
}
