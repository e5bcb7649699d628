/**
 * What instructions were lowered to, by their bytes: the same few thousand instructions make up most of what is
 * decoded, and copying their records costs a hundredth of decoding them again. Only what does not depend on where
 * the instruction stands is kept here. No two instructions' bytes begin one with the other, so the shortest entry that
 * the bytes begin with is the instruction.
 */

/** Longer ones are rare, and decoded each time. */
export const KEPT_BYTES = 8;
const SLOTS = 1 << 16;
const SLOT_WORDS = 4;
/** When they are used up, all is forgotten. */
const RECORDS = 1 << 16;
const RECORD_WORDS = 5;

/** Instead of the index of a first record. */
export const UNKNOWN = -1;
export const NO_RECORDS = -2;

/** Marks of a kept record. */
export const KEPT = {
  /** Field c is an operand. */
  usesC: 1,
  /** The block ends with it. */
  ends: 2,
  /** It is the instruction's last. */
  last: 4,
} as const;

export class LoweredInstructions {
  /** First bytes, next bytes, length and mode, index of its first record; mode and length are never both 0. */
  readonly #slots = new Int32Array(SLOTS * SLOT_WORDS);
  /** Operation and a, b and c, the immediate's halves, KEPT. */
  readonly records = new Int32Array(RECORDS * RECORD_WORDS);
  #used = 0;
  /** Of the instruction that was found last. */
  length = 0;

  /** Index in `records` of the first record of the instruction that the `available` bytes begin with; or UNKNOWN. */
  find(bytes: Uint8Array, at: number, available: number, mode: number): number {
    const slots = this.#slots;
    const most = Math.min(available, KEPT_BYTES);
    let low = 0;
    let high = 0;
    for (let length = 1; length <= most; length++) {
      const byte = bytes[at + length - 1]!;
      if (length <= 4) low |= byte << (length * 8 - 8);
      else high |= byte << (length * 8 - 40);
      const kind = (mode << 4) | length;
      const slot = slotOf(low, high, kind);
      if (slots[slot] !== low || slots[slot + 1] !== high || slots[slot + 2] !== kind) continue;
      this.length = length;
      return slots[slot + 3]!;
    }
    return UNKNOWN;
  }

  /** Begins to keep an instruction of at most KEPT_BYTES bytes; its records follow by `add`. */
  begin(bytes: Uint8Array, at: number, length: number, mode: number, recordCount: number): void {
    if (this.#used + recordCount > RECORDS) {
      this.#slots.fill(0);
      this.#used = 0;
    }
    let low = 0;
    let high = 0;
    for (let index = 0; index < length; index++) {
      if (index < 4) low |= bytes[at + index]! << (index * 8);
      else high |= bytes[at + index]! << (index * 8 - 32);
    }
    const kind = (mode << 4) | length;
    const slot = slotOf(low, high, kind);
    this.#slots[slot] = low;
    this.#slots[slot + 1] = high;
    this.#slots[slot + 2] = kind;
    this.#slots[slot + 3] = recordCount === 0 ? NO_RECORDS : this.#used * RECORD_WORDS;
  }

  /** Its words as they stand in the arena, and KEPT marks. */
  add(operationAndA: number, bAndC: number, low: number, high: number, marks: number): void {
    const at = this.#used++ * RECORD_WORDS;
    this.records[at] = operationAndA;
    this.records[at + 1] = bAndC;
    this.records[at + 2] = low;
    this.records[at + 3] = high;
    this.records[at + 4] = marks;
  }

  /** Index of the record behind one. */
  after(at: number): number {
    return at + RECORD_WORDS;
  }
}

function slotOf(low: number, high: number, kind: number): number {
  const mixed = Math.imul(low, 0x9e37_79b1) ^ Math.imul(high, 0x85eb_ca6b) ^ Math.imul(kind, 0xc2b2_ae35);
  return ((mixed ^ (mixed >>> 15)) & (SLOTS - 1)) * SLOT_WORDS;
}
