import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { MessageInterrupts, MmioHandler } from './device.ts';

export const MSIX_ENTRY_SIZE = 16;
const ENTRY_MASKED = 1;
const CONTROL_WORD = 3;

/** The table of a function's MSI-X vectors and their pending bits [PCI 3.0 6.8.2]. */
export class Msix {
  readonly vectors: number;
  readonly #messages: MessageInterrupts;
  readonly #entries: Uint32Array;
  readonly #pending: Uint32Array;
  #enabled = false;
  #masked = false;

  constructor(vectors: number, messages: MessageInterrupts) {
    this.vectors = vectors;
    this.#messages = messages;
    this.#entries = new Uint32Array(vectors * 4);
    this.#pending = new Uint32Array((vectors + 31) >>> 5);
    this.reset();
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /** The enable and function mask bits of the capability. */
  setControl(enabled: boolean, masked: boolean): void {
    this.#enabled = enabled;
    this.#masked = masked;
    for (let vector = 0; vector < this.vectors; vector++) this.#release(vector);
  }

  /** Sends the vector's message, or keeps it pending while masked. A vector out of range does nothing. */
  notify(vector: number): void {
    if (!this.#enabled || vector >= this.vectors) return;
    this.#pending[vector >>> 5]! |= 1 << (vector & 31);
    this.#release(vector);
  }

  readonly table: MmioHandler = {
    readMmio: (offset, size) => readWords(this.#entries, offset, size),
    writeMmio: (offset, size, value) => {
      if ((offset & 3) !== 0 || size < 4) return;
      this.#writeWord(offset >>> 2, Number(value & 0xffffffffn));
      if (size === 8) this.#writeWord((offset >>> 2) + 1, Number(value >> 32n));
    },
  };

  readonly pendingBits: MmioHandler = {
    readMmio: (offset, size) => readWords(this.#pending, offset, size),
    writeMmio: () => {},
  };

  reset(): void {
    this.#enabled = false;
    this.#masked = false;
    this.#pending.fill(0);
    this.#entries.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) {
      this.#entries[vector * 4 + CONTROL_WORD] = ENTRY_MASKED;
    }
  }

  save(writer: ByteWriter): void {
    for (const word of this.#entries) writer.u32(word);
    for (const word of this.#pending) writer.u32(word);
    writer.bool(this.#enabled).bool(this.#masked);
  }

  load(reader: ByteReader): void {
    for (let index = 0; index < this.#entries.length; index++) this.#entries[index] = reader.u32();
    for (let index = 0; index < this.#pending.length; index++) this.#pending[index] = reader.u32();
    this.#enabled = reader.bool();
    this.#masked = reader.bool();
  }

  #writeWord(index: number, value: number): void {
    if (index >= this.#entries.length) return;
    const word = index & 3;
    if (word === CONTROL_WORD) value &= ENTRY_MASKED;
    else if (word === 0) value &= ~3;
    this.#entries[index] = value;
    this.#release(index >>> 2);
  }

  #release(vector: number): void {
    const bit = 1 << (vector & 31);
    if (!this.#enabled || this.#masked || (this.#pending[vector >>> 5]! & bit) === 0) return;
    const at = vector * 4;
    if ((this.#entries[at + CONTROL_WORD]! & ENTRY_MASKED) !== 0) return;
    this.#pending[vector >>> 5]! &= ~bit;
    const address = (BigInt(this.#entries[at + 1]!) << 32n) | BigInt(this.#entries[at]!);
    this.#messages.send(address, this.#entries[at + 2]!);
  }
}

function readWords(words: Uint32Array, offset: number, size: number): bigint {
  const low = words[offset >>> 2] ?? 0;
  const high = words[(offset >>> 2) + 1] ?? 0;
  const both = ((BigInt(high) << 32n) | BigInt(low)) >> BigInt(8 * (offset & 3));
  return BigInt.asUintN(8 * size, both);
}
