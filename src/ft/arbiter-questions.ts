import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { ArbiterAnswer, ArbiterRequest } from './arbiter.ts';
import { ArbiterCall } from './arbiter-call.ts';
import { nonce } from './identity.ts';
import type { Side } from './side.ts';

type WithoutCaller<Request> = Request extends unknown ? Omit<Request, 'vm' | 'instance' | 'nonce'> : never;

/** What is asked, but for who asks. */
export type Question = WithoutCaller<ArbiterRequest>;

/** One side's questions to the arbiter: one at a time, the newest counts, each with a nonce of its own. */
export class ArbiterQuestions {
  readonly #side: Side;
  readonly #do: (action: FtAction) => void;
  readonly #prefix: string;
  #asked = 0;
  #open: ArbiterCall | undefined;

  /** `prefix` keeps the nonces of one instance's parts apart. */
  constructor(side: Side, prefix: string, perform: (action: FtAction) => void) {
    this.#side = side;
    this.#prefix = prefix;
    this.#do = perform;
  }

  /** When the open question was first asked. */
  get since(): HostMilliseconds | undefined {
    return this.#open?.since;
  }

  ask(question: Question, now: HostMilliseconds): void {
    const { vm, instance, timing } = this.#side;
    this.#asked += 1;
    const own = nonce(`${instance}/${this.#prefix}${this.#asked}`);
    const request = { ...question, vm, instance, nonce: own } as ArbiterRequest;
    this.#open = new ArbiterCall(request, now, timing.requestMs, timing.requestMaxMs);
    this.#do({ kind: 'ask', request });
  }

  /** Asks again what has no answer. */
  tick(now: HostMilliseconds): void {
    if (this.#open?.due(now)) this.#do({ kind: 'ask', request: this.#open.request });
  }

  /** The question that this answers; it stays open. */
  answeredBy(answer: ArbiterAnswer): ArbiterRequest | undefined {
    return this.#open?.answers(answer) ? this.#open.request : undefined;
  }

  close(): void {
    this.#open = undefined;
  }
}
