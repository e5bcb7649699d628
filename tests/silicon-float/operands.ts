/** Operands that find mistakes: edges of every format, NaNs of all kinds, neighbours, and plain random bits. */
export class OperandSource {
  #state: bigint;

  constructor(seed: number) {
    this.#state = BigInt(seed) * 0x9e3779b97f4a7c15n + 1n;
  }

  /** xorshift64*. */
  bits64(): bigint {
    let x = this.#state;
    x ^= x >> 12n;
    x ^= BigInt.asUintN(64, x << 25n);
    x ^= x >> 27n;
    this.#state = x;
    return BigInt.asUintN(64, x * 0x2545f4914f6cdd1dn);
  }

  below(limit: number): number {
    return Number(this.bits64() >> 33n) % limit;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  /** A fraction of `bits` bits: often with few bits set, near the ends, or random. */
  fraction(bits: number): bigint {
    const mask = (1n << BigInt(bits)) - 1n;
    switch (this.below(8)) {
      case 0:
        return 0n;
      case 1:
        return mask;
      case 2:
        return 1n << BigInt(this.below(bits));
      case 3:
        return mask ^ (1n << BigInt(this.below(bits)));
      case 4:
        return (1n << BigInt(this.below(bits))) - 1n;
      case 5:
        return this.bits64() & mask & (mask << BigInt(this.below(bits)));
      default:
        return this.bits64() & mask;
    }
  }

  /** Bits of a value in a format with `exponentBits` and `fractionBits` (integer bit excluded). */
  #encoded(
    exponentBits: number,
    fractionBits: number,
  ): { negative: bigint; field: bigint; fraction: bigint } {
    const max = (1 << exponentBits) - 1;
    const bias = max >> 1;
    const field = this.pick([
      0,
      0,
      max,
      1,
      max - 1,
      bias,
      bias + this.below(4) - 2,
      bias + this.below(2 * fractionBits) - fractionBits,
      bias + this.below(130) - 65,
      this.below(max + 1),
      this.below(max + 1),
    ]);
    const clipped = Math.max(0, Math.min(max, field));
    return { negative: this.bits64() & 1n, field: BigInt(clipped), fraction: this.fraction(fractionBits) };
  }

  f32(): bigint {
    const { negative, field, fraction } = this.#encoded(8, 23);
    return (negative << 31n) | (field << 23n) | fraction;
  }

  f64(): bigint {
    const { negative, field, fraction } = this.#encoded(11, 52);
    return (negative << 63n) | (field << 52n) | fraction;
  }

  /** Mostly valid 80-bit encodings; with `odd`, now and then pseudo-denormals and unsupported ones. */
  f80(odd = true): bigint {
    const { negative, field, fraction } = this.#encoded(15, 63);
    let integer = field === 0n ? 0n : 1n;
    if (odd && this.below(24) === 0) integer ^= 1n;
    return (negative << 79n) | (field << 64n) | (integer << 63n) | fraction;
  }
}
