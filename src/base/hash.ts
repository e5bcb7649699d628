/**
 * Two checksums that need nothing of the host: CRC-32C for frames (finds damage) and the 128-bit MurmurHash3 for
 * outputs (tells two contents apart). Neither resists someone who chooses the content on purpose.
 */

const CRC32C_POLYNOMIAL = 0x82f63b78;

/** Eight tables of 256 words: byte i of eight is looked up in table 7 - i ("slicing by eight"). */
const crcTables = makeCrcTables();

function makeCrcTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ CRC32C_POLYNOMIAL : value >>> 1;
    tables[byte] = value;
  }
  for (let byte = 0; byte < 256; byte++) {
    for (let table = 1; table < 8; table++) {
      const before = tables[(table - 1) * 256 + byte]!;
      tables[table * 256 + byte] = (before >>> 8) ^ tables[before & 0xff]!;
    }
  }
  return tables;
}

/** CRC-32C [RFC 3720 B.4]. `seed` is the CRC of what went before, so parts can be chained. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const tables = crcTables;
  const end = bytes.length;
  let crc = ~seed;
  let at = 0;
  for (; at + 8 <= end; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      tables[1792 + (crc & 0xff)]! ^
      tables[1536 + ((crc >>> 8) & 0xff)]! ^
      tables[1280 + ((crc >>> 16) & 0xff)]! ^
      tables[1024 + (crc >>> 24)]! ^
      tables[768 + bytes[at + 4]!]! ^
      tables[512 + bytes[at + 5]!]! ^
      tables[256 + bytes[at + 6]!]! ^
      tables[bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ tables[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

const C1 = 0x239b961b;
const C2 = 0xab0e9789 | 0;
const C3 = 0x38b34ae5;
const C4 = 0xa1e38b93 | 0;

function rotateLeft(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

function finalMix(value: number): number {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

/** MurmurHash3 (x86, 128 bits) as 32 hexadecimal digits. */
export function hash128(bytes: Uint8Array, seed = 0): string {
  let h1 = seed | 0;
  let h2 = h1;
  let h3 = h1;
  let h4 = h1;
  const length = bytes.length;
  const blocksEnd = length & ~15;
  for (let at = 0; at < blocksEnd; at += 16) {
    h1 ^= Math.imul(rotateLeft(Math.imul(word(bytes, at), C1), 15), C2);
    h1 = (Math.imul(rotateLeft(h1, 19) + h2, 5) + 0x561ccd1b) | 0;
    h2 ^= Math.imul(rotateLeft(Math.imul(word(bytes, at + 4), C2), 16), C3);
    h2 = (Math.imul(rotateLeft(h2, 17) + h3, 5) + 0x0bcaa747) | 0;
    h3 ^= Math.imul(rotateLeft(Math.imul(word(bytes, at + 8), C3), 17), C4);
    h3 = (Math.imul(rotateLeft(h3, 15) + h4, 5) + 0x96cd1c35) | 0;
    h4 ^= Math.imul(rotateLeft(Math.imul(word(bytes, at + 12), C4), 18), C1);
    h4 = (Math.imul(rotateLeft(h4, 13) + h1, 5) + 0x32ac3b17) | 0;
  }
  const tail = length - blocksEnd;
  if (tail > 12) h4 ^= Math.imul(rotateLeft(Math.imul(tailWord(bytes, blocksEnd + 12), C4), 18), C1);
  if (tail > 8) h3 ^= Math.imul(rotateLeft(Math.imul(tailWord(bytes, blocksEnd + 8), C3), 17), C4);
  if (tail > 4) h2 ^= Math.imul(rotateLeft(Math.imul(tailWord(bytes, blocksEnd + 4), C2), 16), C3);
  if (tail > 0) h1 ^= Math.imul(rotateLeft(Math.imul(tailWord(bytes, blocksEnd), C1), 15), C2);

  h1 ^= length;
  h2 ^= length;
  h3 ^= length;
  h4 ^= length;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = finalMix(h1);
  h2 = finalMix(h2);
  h3 = finalMix(h3);
  h4 = finalMix(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  return hex32(h1) + hex32(h2 + h1) + hex32(h3 + h1) + hex32(h4 + h1);
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/** Up to four bytes from `at`; what lies beyond the end counts as zero. */
function tailWord(bytes: Uint8Array, at: number): number {
  const end = Math.min(bytes.length, at + 4);
  let value = 0;
  for (let index = at; index < end; index++) value |= bytes[index]! << ((index - at) * 8);
  return value;
}
