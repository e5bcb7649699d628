import { type MicroOperation, microOperation, type Semantics } from '../semantics.ts';

/** Permutations of bytes. Variable ones carry sixteen 4-bit byte indices in the immediate. */

/** Interleaves the two lanes bytewise: byte 2k from the low lane, byte 2k + 1 from the high one. */
const INTERLEAVE = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];
function indices<V, B, X>(s: Semantics<V, B, X>): X {
  const nibbles = s.constant(0x0f0f_0f0f_0f0f_0f0fn);
  const even = s.and(s.immediate(), nibbles);
  const odd = s.and(s.shrU(s.immediate(), s.constant(4)), nibbles);
  const both = s.vector(even, odd);
  return s.shuffle(both, both, INTERLEAVE);
}

/** a = bytes of b. */
export const PERMUTE = microOperation('permute', (s) =>
  s.setVector('a', s.vectorOp('i8x16.swizzle', s.getVector('b'), indices(s))),
);
/** Low half of a = bytes of b, high half = bytes of c. */
export const PERMUTE_PAIR = microOperation('permute-pair', (s) => {
  const which = indices(s);
  const low = s.vectorOp('i8x16.swizzle', s.getVector('b'), which);
  const high = s.vectorOp('i8x16.swizzle', s.getVector('c'), which);
  s.setVector('a', s.vector(s.lane(low, 0), s.lane(high, 1)));
});
/** a = b moved by bytes: the immediate holds the distance in each of its eight bytes; positive moves down. */
export const BYTE_SHIFT = microOperation('byte-shift', (s) => {
  const places = s.vector(s.constant(0x0706_0504_0302_0100n), s.constant(0x0f0e_0d0c_0b0a_0908n));
  const distance = s.vector(s.immediate(), s.immediate());
  const from = s.vectorOp('i8x16.add', places, distance);
  s.setVector('a', s.vectorOp('i8x16.swizzle', s.getVector('b'), from));
});
/** a = 0. */
export const CLEAR_VECTOR = microOperation('clear-vector', (s) =>
  s.setVector('a', s.vector(s.constant(0), s.constant(0))),
);

/** Interleaves elements of `size` bytes from one half of b and c. */
function unpack(name: string, size: number, start: 0 | 8): MicroOperation {
  const from: number[] = [];
  for (let element = start; element < start + 8; element += size) {
    for (const source of [0, 16]) {
      for (let byte = 0; byte < size; byte++) from.push(source + element + byte);
    }
  }
  return microOperation(name, (s) => s.setVector('a', s.shuffle(s.getVector('b'), s.getVector('c'), from)));
}
export const UNPACK_LOW = {
  1: unpack('unpack-low8', 1, 0),
  2: unpack('unpack-low16', 2, 0),
  4: unpack('unpack-low32', 4, 0),
  8: unpack('unpack-low64', 8, 0),
} as const;
export const UNPACK_HIGH = {
  1: unpack('unpack-high8', 1, 8),
  2: unpack('unpack-high16', 2, 8),
  4: unpack('unpack-high32', 4, 8),
  8: unpack('unpack-high64', 8, 8),
} as const;

/** The immediate of PERMUTE that moves elements of `size` bytes: result element i is element chosen[i]. */
export function permutation(size: number, chosen: readonly number[]): bigint {
  let immediate = 0n;
  for (let byte = 15; byte >= 0; byte--) {
    const index = chosen[Math.floor(byte / size)]! * size + (byte % size);
    immediate = (immediate << 4n) | BigInt(index);
  }
  return BigInt.asIntN(64, immediate);
}

export const SSE_SHUFFLE_OPERATIONS = [
  PERMUTE,
  PERMUTE_PAIR,
  BYTE_SHIFT,
  CLEAR_VECTOR,
  ...Object.values(UNPACK_LOW),
  ...Object.values(UNPACK_HIGH),
];
