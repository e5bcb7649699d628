/** The toy guest's frames and disk blocks are a few 32-bit words; the low byte comes first, as the host has it. */
export function bytesOf(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

export function wordsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
}

/** Stirs one word into a chain of states. */
export function stirred(chain: number, word: number): number {
  const mixed = Math.imul(chain ^ word, 0x2c1b3c6d);
  return ((mixed ^ (mixed >>> 13)) + 0x297a2d39) | 0;
}
