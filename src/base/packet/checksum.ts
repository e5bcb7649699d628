/** The Internet checksum [RFC 1071] over bytes in network order. */

/** So many words can be added up before their sum leaves 31 bits. */
const WORDS_BEFORE_FOLD = 16_384;

/**
 * The ones' complement sum of the 16-bit words from `from` up to `to`, an odd last byte filled up with zero, added to
 * `seed`; below 2^16 and not complemented. Parts of even length can be chained.
 */
export function onesSum(bytes: Uint8Array, from: number, to: number, seed = 0): number {
  let sum = seed;
  let at = from;
  while (at + 1 < to) {
    const end = Math.min(to - 1, at + 2 * WORDS_BEFORE_FOLD);
    for (; at < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
    sum = foldedSum(sum);
  }
  if (at < to) sum += bytes[at]! << 8;
  return foldedSum(sum);
}

export function foldedSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** What is written where a sum came to this; a sum that comes to all ones is written so, for UDP reads zero as none [RFC 768]. */
export function checksumOf(sum: number): number {
  const complement = ~sum & 0xffff;
  return complement === 0 ? 0xffff : complement;
}

export function writeWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
}

export function readWord(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function readLong(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function writeLong(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = (value >>> 16) & 0xff;
  bytes[at + 2] = (value >>> 8) & 0xff;
  bytes[at + 3] = value & 0xff;
}
