import type { FtAction } from './action.ts';
import type { Move } from './move.ts';
import type { Partners } from './partners.ts';
import type { PrimaryState } from './primary-state.ts';

/** How a primary stands: its state of protocol 4, and whether its VM has a backup in it. Whoever watches is told both. */
export class Standing {
  readonly #partners: Partners;
  readonly #move: Move;
  readonly #do: (action: FtAction) => void;
  #state: PrimaryState;

  constructor(state: PrimaryState, partners: Partners, move: Move, perform: (action: FtAction) => void) {
    this.#state = state;
    this.#partners = partners;
    this.#move = move;
    this.#do = perform;
  }

  get state(): PrimaryState {
    return this.#state;
  }

  enter(state: PrimaryState, detail: string): void {
    this.#state = state;
    this.#do({ kind: 'state', state, detail, protected: this.#protected && state !== 'HALT' });
  }

  channelBroken(detail: string): void {
    this.#do({ kind: 'state', state: 'channel-broken', detail, protected: this.#protected });
  }

  /** Who was to be a partner cannot be one. */
  unfit(detail: string): void {
    this.#do({ kind: 'state', state: 'refused', detail, protected: this.#protected });
  }

  diverged(detail: string): void {
    this.#do({ kind: 'state', state: 'diverged', detail });
  }

  /** An order that does not fit: it says so, and changes nothing. */
  refuse(order: string, why: string): void {
    this.#do({ kind: 'state', state: 'refused', detail: `${order}: ${why}` });
  }

  /** Suspected, a backup is none; nor is the target of a guest that is moved. */
  get #protected(): boolean {
    return this.#partners.pair !== undefined && this.#state !== 'ASK' && !this.#move.underWay;
  }
}
