import { Entropy } from '../../src/base/entropy.ts';

/** Everything that a round leaves to chance, from one number: the same number gives the same plan. */
export class Dice {
  readonly #entropy: Entropy;

  constructor(seed: string) {
    this.#entropy = new Entropy(Buffer.from(seed));
  }

  /** 0 <= value < 1. */
  fraction(): number {
    return this.#entropy.nextU32() / 2 ** 32;
  }

  between(low: number, high: number): number {
    return low + this.fraction() * (high - low);
  }

  /** 0 <= value < count. */
  below(count: number): number {
    return Math.floor(this.fraction() * count);
  }

  /** A waiting time with this mean and no memory. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.fraction());
  }
}
