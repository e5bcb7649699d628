import { type Float, finite } from './format.ts';

/** Packed decimal: 18 digits, two to a byte, and the sign in bit 79 [SDM 1 4.7]. */
export const BCD_INDEFINITE = 0xffff_c000_0000_0000_0000n;
export const BCD_LIMIT = 10n ** 18n;

export function fromBcd(bits: bigint): Float {
  let value = 0n;
  for (let digit = 17; digit >= 0; digit--) value = value * 10n + ((bits >> BigInt(digit * 4)) & 15n);
  return finite(bits >> 79n !== 0n, 0, value);
}

/** `magnitude` is below BCD_LIMIT. */
export function toBcd(negative: boolean, magnitude: bigint): bigint {
  let bits = negative ? 1n << 79n : 0n;
  for (let digit = 0; digit < 18; digit++) {
    bits |= (magnitude % 10n) << BigInt(digit * 4);
    magnitude /= 10n;
  }
  return bits;
}
