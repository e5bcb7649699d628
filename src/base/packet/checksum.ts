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
  if (to - from >= WIDE_BYTES_MIN) {
    const wide = wideSum(bytes, from, to);
    sum = foldedSum(sum + wide.sum);
    at = wide.end;
  }
  while (at + 1 < to) {
    const end = Math.min(to - 1, at + 2 * WORDS_BEFORE_FOLD);
    for (; at < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
    sum = foldedSum(sum);
  }
  if (at < to) sum += bytes[at]! << 8;
  return foldedSum(sum);
}

const WIDE_BYTES_MIN = 256;
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/**
 * The same two bytes at a time, as the host has them in memory: a sum of words whose bytes are swapped is the swapped sum
 * [RFC 1071 2.B], and starting one byte later swaps it too. `end`: from where on it is the caller's.
 */
function wideSum(bytes: Uint8Array, from: number, to: number): { sum: number; end: number } {
  const odd = (bytes.byteOffset + from) & 1;
  const start = from + odd;
  const count = ((to - start) >> 1) & ~3;
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset + start, count);
  let total = 0;
  for (let at = 0; at < count; ) {
    const end = Math.min(count, at + WORDS_BEFORE_FOLD);
    let part = 0;
    for (; at < end; at += 4) part += words[at]! + words[at + 1]! + words[at + 2]! + words[at + 3]!;
    total = foldedSum(total + part);
  }
  let sum = LITTLE_ENDIAN ? swapped(total) : total;
  let end = start + 2 * count;
  if (odd === 1) {
    // The first byte is the high half of the first word; every later one has changed its place.
    sum = foldedSum(swapped(sum) + (bytes[from]! << 8));
    // An even number of bytes has to be behind it.
    if (end < to) {
      sum = foldedSum(sum + bytes[end]!);
      end += 1;
    }
  }
  return { sum, end };
}

function swapped(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
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
