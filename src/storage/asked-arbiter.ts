import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { ArbiterEvents, ArbiterPort } from '../hypervisor/ports.ts';

/** One way to reach an arbiter. */
export interface ArbiterConnection {
  /**
   * Asks once. Rejects when there is no answer, with a line that says why; the request may have taken effect all
   * the same, so it is asked again with the same nonce. `signal` ends the wait.
   */
  ask(request: ArbiterRequest, signal: AbortSignal): Promise<ArbiterAnswer>;
  close(): void;
}

const ANSWER_MS_MAX = 2_000;
const AGAIN_MS = 250;

/**
 * An arbiter behind the port [hypervisor/ports.ts ArbiterPort]. Each request is asked again and again until it is
 * answered: no answer is never a verdict (rule 4, "One winner"), so a side that cannot reach its arbiter waits. It
 * says so once, and says when answers come again.
 */
export class AskedArbiter implements ArbiterPort {
  readonly #connection: ArbiterConnection;
  readonly #say: (line: string) => void;
  /** The newest unanswered request of each kind: nobody waits for the answer of an older one any more. */
  readonly #wanted = new Map<ArbiterRequest['kind'], ArbiterRequest>();
  #events: ArbiterEvents | undefined;
  #working = false;
  #closed = false;
  #complaint = '';
  #pause: { readonly end: () => void } | undefined;

  constructor(connection: ArbiterConnection, say: (line: string) => void = () => {}) {
    this.#connection = connection;
    this.#say = say;
  }

  listen(events: ArbiterEvents): void {
    this.#events = events;
  }

  request(request: ArbiterRequest): void {
    if (this.#closed) return;
    this.#wanted.delete(request.kind);
    this.#wanted.set(request.kind, request);
    this.#pause?.end();
    if (!this.#working) void this.#work();
  }

  close(): void {
    this.#closed = true;
    this.#wanted.clear();
    this.#pause?.end();
    this.#connection.close();
  }

  /** What the protocol core throws at an answer ends the process: it is no fault of the arbiter's. */
  async #work(): Promise<void> {
    this.#working = true;
    while (this.#wanted.size > 0) {
      const [request] = this.#wanted.values();
      const answer = await this.#ask(request!);
      if (this.#closed) break;
      if (answer !== undefined) this.#answered(request!, answer);
      else await this.#pauseFor(AGAIN_MS);
    }
    this.#working = false;
  }

  #answered(request: ArbiterRequest, answer: ArbiterAnswer): void {
    if (this.#wanted.get(request.kind)?.nonce === request.nonce) this.#wanted.delete(request.kind);
    if (this.#complaint !== '') this.#say('the arbiter answers again');
    this.#complaint = '';
    this.#events?.answered(answer);
  }

  async #ask(request: ArbiterRequest): Promise<ArbiterAnswer | undefined> {
    try {
      const answer = await this.#connection.ask(request, AbortSignal.timeout(ANSWER_MS_MAX));
      if (answer.nonce !== request.nonce) throw new Error('it answers another question');
      return answer;
    } catch (error) {
      const timedOut = (error as Error).name === 'TimeoutError' || (error as Error).name === 'AbortError';
      const reason = timedOut ? `nothing within ${ANSWER_MS_MAX} ms` : (error as Error).message;
      if (reason !== this.#complaint && !this.#closed)
        this.#say(`no decision: the arbiter does not answer (${reason}); asking until it does`);
      this.#complaint = reason;
      return undefined;
    }
  }

  #pauseFor(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pause = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pause = { end };
    });
  }
}
