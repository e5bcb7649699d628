import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';

/**
 * A guest on its way to another host, seen from its source (protocol 9, live migration without fault tolerance). It is
 * copied while it runs; from the last round on it stands still, and nothing is executed here until the target is lost
 * before it was committed, or the arbiter has said that this side goes on. So what the target has is the whole history.
 */
export class Move {
  readonly #do: (action: FtAction) => void;
  #address: string | undefined;
  #stillSince: HostMilliseconds | undefined;

  constructor(perform: (action: FtAction) => void) {
    this.#do = perform;
  }

  begin(address: string): void {
    this.#address = address;
  }

  /** Where the guest goes; undefined: nowhere. */
  get address(): string | undefined {
    return this.#address;
  }

  get underWay(): boolean {
    return this.#address !== undefined;
  }

  /** The last snapshot has been taken. */
  standStill(now: HostMilliseconds): void {
    if (this.underWay) this.#stillSince = now;
  }

  get standsStill(): boolean {
    return this.#stillSince !== undefined;
  }

  /** For how long it has stood still. */
  stillMs(now: HostMilliseconds): number {
    return this.#stillSince === undefined ? 0 : now - this.#stillSince;
  }

  /** It has come to nothing: the guest goes on here. What is to be said of it; nothing where no guest was moved. */
  giveUp(now: HostMilliseconds): string {
    const address = this.#address;
    if (address === undefined) return '';
    const still = this.standsStill ? `; it stood still for ${Math.round(this.stillMs(now))} ms` : '';
    this.#address = undefined;
    this.#stillSince = undefined;
    this.#do({ kind: 'vcpu-let-go' });
    return `: the guest stays, and does not go to ${address}${still}`;
  }
}
