import type { DataKind } from './form.ts';
import type { Random } from './random.ts';

/** Values at which instructions change their behaviour, mixed with plain random ones. */

const EDGES: readonly bigint[] = [0, 1, 2, 7, 8, 9].map(BigInt).concat(
  [7, 8, 15, 16, 31, 32, 63].flatMap((bit) => {
    const power = 1n << BigInt(bit);
    return [power - 1n, power, power + 1n, BigInt.asUintN(64, -power), BigInt.asUintN(64, -power - 1n)];
  }),
  [0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_fffen, 0xffff_ffffn, 0xffffn, 0xffn],
);

export function integer(random: Random): bigint {
  switch (random.below(8)) {
    case 0:
    case 1:
      return random.pick(EDGES);
    case 2:
      return BigInt(random.below(256));
    case 3:
      return BigInt.asUintN(64, -BigInt(random.below(256)));
    case 4:
      // Few bits set: bit scans and parities.
      return 1n << BigInt(random.below(64));
    case 5:
      return BigInt(random.u32());
    default:
      return random.u64();
  }
}

/** A floating-point format without its sign, and without the explicit bit of the 80-bit format. */
class Pattern {
  readonly #fractionBits: bigint;
  readonly #top: bigint;
  readonly #bias: bigint;
  readonly #full: bigint;
  readonly #quiet: bigint;
  readonly #all: bigint;

  constructor(exponentBits: number, fractionBits: number) {
    this.#fractionBits = BigInt(fractionBits);
    this.#top = (1n << BigInt(exponentBits)) - 1n;
    this.#bias = this.#top >> 1n;
    this.#full = (1n << this.#fractionBits) - 1n;
    this.#quiet = 1n << BigInt(fractionBits - 1);
    this.#all = (1n << BigInt(exponentBits + fractionBits)) - 1n;
  }

  #fraction(random: Random): bigint {
    switch (random.below(11)) {
      case 0:
        return 0n;
      case 1:
        return 1n;
      case 2:
        return this.#full;
      case 3:
        return this.#full - 1n;
      case 4:
        return this.#quiet;
      case 5:
        return this.#quiet | 1n;
      case 6:
        return this.#quiet - 1n;
      case 7:
        return BigInt(random.below(4)) << BigInt(random.below(Number(this.#fractionBits) - 1));
      default:
        return random.u64() & this.#full;
    }
  }

  #make(exponent: bigint, fraction: bigint): bigint {
    return (exponent << this.#fractionBits) | fraction;
  }

  next(random: Random): bigint {
    switch (random.below(16)) {
      case 0:
        return 0n;
      case 1:
        return this.#make(this.#top, 0n);
      case 2:
        return this.#make(this.#top, (this.#fraction(random) | 1n) & ~this.#quiet);
      case 3:
        return this.#make(this.#top, this.#fraction(random) | this.#quiet);
      case 4:
        return this.#make(0n, this.#fraction(random));
      case 5:
        return this.#make(BigInt(1 + random.below(3)), this.#fraction(random));
      case 6:
        return this.#make(this.#top - 1n - BigInt(random.below(3)), this.#fraction(random));
      case 7:
        return this.#make(this.#bias, 0n);
      case 8:
      case 9:
        // Around where conversions to integers overflow.
        return this.#make(this.#bias + random.pick(INTEGER_ENDS), this.#fraction(random));
      case 10:
      case 11:
      case 12:
      case 13:
        return this.#make(this.#bias + BigInt(random.below(40) - 20), this.#fraction(random));
      default:
        return random.u64() & this.#all;
    }
  }
}

const INTEGER_ENDS = [6n, 7n, 14n, 15n, 16n, 30n, 31n, 32n, 51n, 52n, 53n, 62n, 63n, 64n] as const;
const SINGLE = new Pattern(8, 23);
const DOUBLE = new Pattern(11, 52);
const EXTENDED = new Pattern(15, 63);

export function float32(random: Random): bigint {
  return (BigInt(random.below(2)) << 31n) | SINGLE.next(random);
}

export function float64(random: Random): bigint {
  return (BigInt(random.below(2)) << 63n) | DOUBLE.next(random);
}

export function float80(random: Random): bigint {
  const sign = BigInt(random.below(2)) << 79n;
  const value = EXTENDED.next(random);
  const exponent = value >> 63n;
  const fraction = value & 0x7fff_ffff_ffff_ffffn;
  // The explicit integer bit is wrong now and then: unnormals, pseudo-denormals, pseudo-infinities.
  const integerBit = random.chance(4) ? exponent === 0n : exponent !== 0n;
  return sign | (exponent << 64n) | (integerBit ? 1n << 63n : 0n) | fraction;
}

/** `length` bytes filled with values of one kind. */
export function fill(random: Random, length: number, kind: DataKind | undefined): Uint8Array {
  // What is overwritten need not be random.
  const bytes = kind === undefined || length % 8 !== 0 ? random.bytes(length) : new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const put = (size: 2 | 4 | 8, next: () => bigint) => {
    for (let at = 0; at + size <= length; at += size) {
      const value = next();
      if (size === 8) view.setBigUint64(at, BigInt.asUintN(64, value), true);
      else if (size === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
      else view.setUint16(at, Number(BigInt.asUintN(16, value)), true);
    }
  };
  switch (kind) {
    case 'f32':
      put(4, () => float32(random));
      break;
    case 'f64':
      put(8, () => float64(random));
      break;
    case 'i16':
      put(2, () => integer(random));
      break;
    case 'i32':
      put(4, () => integer(random));
      break;
    case 'i64':
      put(8, () => integer(random));
      break;
    case 'shift-count':
      put(8, () => (random.chance(85) ? BigInt(random.below(70)) : random.u64()));
      break;
    case 'f80':
      for (let at = 0; at + 10 <= length; at += 10) {
        const value = float80(random);
        view.setBigUint64(at, BigInt.asUintN(64, value), true);
        view.setUint16(at + 8, Number(value >> 64n), true);
      }
      break;
    case 'bcd':
      for (let at = 0; at < length; at += 1) {
        bytes[at] = random.chance(5) ? random.below(256) : random.below(10) * 16 + random.below(10);
      }
      break;
    case undefined: {
      const style = random.below(4);
      if (style === 0) put(8, () => integer(random));
      if (style === 1) put(4, () => integer(random));
      // Long runs of equal bytes: what compare and scan loops over strings need.
      if (style === 2) bytes.fill(random.below(256));
      break;
    }
  }
  return bytes;
}
