import type { Random } from '../../sim/random.ts';

/** Values at which lengths, signs and tags turn over. */
const EDGES = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff];
const LENGTHS = [0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0400_0000, 0x0400_0001];

/** A few changes of one kind or another; sometimes none. `other` gives bytes to mix in. */
export function mutated(random: Random, bytes: Uint8Array, other: Uint8Array): Buffer<ArrayBuffer> {
  let result = Buffer.from(bytes);
  for (let changes = random.below(4); changes > 0; changes--) result = changed(random, result, other);
  return result;
}

function changed(random: Random, bytes: Buffer<ArrayBuffer>, other: Uint8Array): Buffer<ArrayBuffer> {
  const at = random.below(bytes.length + 1);
  const length = random.below(Math.min(16, bytes.length - at) + 1);
  switch (random.below(8)) {
    case 0:
      if (at < bytes.length) bytes[at]! ^= 1 << random.below(8);
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = random.pick(EDGES);
      return bytes;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 5: {
      const from = random.below(other.length + 1);
      const piece = other.subarray(from, from + 1 + random.below(32));
      return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
    }
    case 6:
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(random.pick(LENGTHS), at);
      return bytes;
    default:
      if (at + 4 <= bytes.length) bytes.writeUInt32BE(random.pick(LENGTHS), at);
      return bytes;
  }
}
