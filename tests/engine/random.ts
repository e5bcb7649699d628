/** A seeded generator (xorshift32 of a mixed seed): the same programs everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    let mixed = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0xc2b2_ae35);
    this.#state = (mixed ^ (mixed >>> 13)) >>> 0 || 1;
  }

  /** 0 to bound - 1. */
  below(bound: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return Math.floor((this.#state / 0x1_0000_0000) * bound);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
}
