import type { ByteReader, ByteWriter } from './bytes.ts';
import { TruncatedError } from './bytes.ts';

/**
 * The machine's only source of entropy (design 3): RDRAND, RDSEED and virtio-rng draw from it. It is
 * deterministic: the same seeds at the same counts give the same bytes, so only the seeds are logged.
 *
 * ChaCha20 with fast key erasure: each refill makes four blocks of key stream, the first 32 bytes become the
 * next key, the rest is handed out and wiped. So a state seen later does not tell what was handed out earlier.
 */

const KEY_BYTES = 32;
const BLOCKS = 4;
const POOL_BYTES = BLOCKS * 64;

export class Entropy {
  readonly #key = new Uint32Array(KEY_BYTES / 4);
  readonly #pool = new Uint8Array(POOL_BYTES);
  /** Next byte of the pool to hand out; the pool is empty at its end. */
  #at = POOL_BYTES;

  constructor(seed: Uint8Array) {
    this.reseed(seed);
  }

  /** Mixes a seed of any length into the state. What was there before keeps its share. */
  reseed(seed: Uint8Array): void {
    for (let start = 0; start === 0 || start < seed.length; start += KEY_BYTES) {
      for (let index = 0; index < KEY_BYTES && start + index < seed.length; index += 1) {
        this.#key[index >> 2]! ^= seed[start + index]! << ((index & 3) * 8);
      }
      // Replaces the key by key stream: the next piece is mixed into a whole new state, not beside this one.
      this.#refill();
    }
    this.#pool.fill(0);
    this.#at = POOL_BYTES;
  }

  next(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      if (this.#at === POOL_BYTES) this.#refill();
      const count = Math.min(length - done, POOL_BYTES - this.#at);
      bytes.set(this.#pool.subarray(this.#at, this.#at + count), done);
      this.#pool.fill(0, this.#at, this.#at + count);
      this.#at += count;
      done += count;
    }
    return bytes;
  }

  nextU32(): number {
    const bytes = this.next(4);
    return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
  }

  nextU64(): bigint {
    const low = this.nextU32();
    return (BigInt(this.nextU32()) << 32n) | BigInt(low);
  }

  save(writer: ByteWriter): void {
    for (const word of this.#key) writer.u32(word);
    writer.bytes(this.#pool.subarray(this.#at));
  }

  load(reader: ByteReader): void {
    for (let index = 0; index < this.#key.length; index += 1) this.#key[index] = reader.u32();
    const rest = reader.bytes();
    if (rest.length > POOL_BYTES - KEY_BYTES) throw new TruncatedError('entropy pool is too large');
    this.#pool.fill(0);
    this.#at = POOL_BYTES - rest.length;
    this.#pool.set(rest, this.#at);
  }

  #refill(): void {
    const view = new DataView(this.#pool.buffer);
    for (let block = 0; block < BLOCKS; block += 1) {
      const words = chachaBlock(this.#key, block, ZERO_NONCE);
      for (let index = 0; index < 16; index += 1) view.setUint32(block * 64 + index * 4, words[index]!, true);
    }
    for (let index = 0; index < this.#key.length; index += 1) {
      this.#key[index] = view.getUint32(index * 4, true);
    }
    this.#pool.fill(0, 0, KEY_BYTES);
    this.#at = KEY_BYTES;
  }
}

const ZERO_NONCE = new Uint32Array(3);

/** One block of ChaCha20 key stream as sixteen little-endian words [RFC 8439 2.3]. */
export function chachaBlock(key: Uint32Array, counter: number, nonce: Uint32Array): Uint32Array {
  const start = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, ...key, counter, ...nonce);
  const state = start.slice();
  for (let round = 0; round < 10; round += 1) {
    quarterRound(state, 0, 4, 8, 12);
    quarterRound(state, 1, 5, 9, 13);
    quarterRound(state, 2, 6, 10, 14);
    quarterRound(state, 3, 7, 11, 15);
    quarterRound(state, 0, 5, 10, 15);
    quarterRound(state, 1, 6, 11, 12);
    quarterRound(state, 2, 7, 8, 13);
    quarterRound(state, 3, 4, 9, 14);
  }
  for (let index = 0; index < 16; index += 1) state[index] = state[index]! + start[index]!;
  return state;
}

function quarterRound(state: Uint32Array, a: number, b: number, c: number, d: number): void {
  state[a]! += state[b]!;
  state[d] = rotate(state[d]! ^ state[a]!, 16);
  state[c]! += state[d]!;
  state[b] = rotate(state[b]! ^ state[c]!, 12);
  state[a]! += state[b]!;
  state[d] = rotate(state[d]! ^ state[a]!, 8);
  state[c]! += state[d]!;
  state[b] = rotate(state[b]! ^ state[c]!, 7);
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
