import type { HostMilliseconds } from '../base/units.ts';

/**
 * A guest on its way to another host, seen from its source (protocol 9, live migration without fault tolerance). It is
 * copied while it runs; from the last round on it stands still, and nothing is executed here until the target is lost
 * before it was committed, or the arbiter has said that this side goes on. So what the target has is the whole history.
 */
export class Move {
  readonly address: string;
  #stillSince: HostMilliseconds | undefined;

  constructor(address: string) {
    this.address = address;
  }

  /** The last snapshot has been taken. */
  standStill(now: HostMilliseconds): void {
    this.#stillSince = now;
  }

  get standsStill(): boolean {
    return this.#stillSince !== undefined;
  }

  /** For how long it has stood still. */
  stillMs(now: HostMilliseconds): number {
    return this.#stillSince === undefined ? 0 : now - this.#stillSince;
  }
}
