import type { ByteReader, ByteWriter } from '../base/bytes.ts';

/** A set of interrupt vectors: the shape of the local APIC's IRR, ISR and TMR [SDM 3A 11.8.4]. */
export class VectorSet {
  readonly #words = new Uint32Array(8);

  has(vector: number): boolean {
    return ((this.#words[vector >>> 5]! >>> (vector & 31)) & 1) !== 0;
  }

  add(vector: number): void {
    this.#words[vector >>> 5]! |= 1 << (vector & 31);
  }

  remove(vector: number): void {
    this.#words[vector >>> 5]! &= ~(1 << (vector & 31));
  }

  /** The member of highest priority, or -1. */
  highest(): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#words[word]!;
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  /** The 32-bit register that holds vectors 32 * index and up. */
  word(index: number): number {
    return this.#words[index & 7]!;
  }

  clear(): void {
    this.#words.fill(0);
  }

  save(writer: ByteWriter): void {
    for (const word of this.#words) writer.u32(word);
  }

  load(reader: ByteReader): void {
    for (let index = 0; index < 8; index++) this.#words[index] = reader.u32();
  }
}
