import { assert } from '../base/assert.ts';
import { OPCODE, type OpcodeName, SIMD, type SimdName, VALUE_TYPE, type ValueType } from './opcode.ts';

/** A growing byte string with the integer encodings of the binary format [WASM 5.2.2]. */
export class WasmBytes {
  #bytes = new Uint8Array(1024);
  length = 0;

  byte(value: number): void {
    if (this.length === this.#bytes.length) this.#grow(this.length + 1);
    this.#bytes[this.length++] = value;
  }

  #grow(length: number): void {
    const grown = new Uint8Array(Math.max(length, this.#bytes.length * 2));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  append(other: WasmBytes): void {
    const { length } = this;
    if (length + other.length > this.#bytes.length) this.#grow(length + other.length);
    this.#bytes.set(other.#bytes.subarray(0, other.length), length);
    this.length = length + other.length;
  }

  unsigned(value: number): void {
    do {
      const low = value & 0x7f;
      value >>>= 7;
      this.byte(value === 0 ? low : low | 0x80);
    } while (value !== 0);
  }

  /** A whole number between -2^53 and 2^53. */
  signedNumber(value: number): void {
    for (;;) {
      const low = value & 0x7f;
      value = Math.floor(value / 128);
      const done = (value === 0 && (low & 0x40) === 0) || (value === -1 && (low & 0x40) !== 0);
      this.byte(done ? low : low | 0x80);
      if (done) return;
    }
  }

  signed(value: bigint): void {
    for (;;) {
      const low = Number(value & 0x7fn);
      value >>= 7n;
      const done = (value === 0n && (low & 0x40) === 0) || (value === -1n && (low & 0x40) !== 0);
      this.byte(done ? low : low | 0x80);
      if (done) return;
    }
  }

  name(text: string): void {
    this.unsigned(text.length);
    for (let i = 0; i < text.length; i++) this.byte(text.charCodeAt(i));
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.length);
  }
}

/** A structured block that branches may name. */
export class Label {
  readonly depth: number;
  constructor(depth: number) {
    this.depth = depth;
  }
}

/** The body of one function. Tracks the nesting, so branches name labels and not distances. */
export class Code {
  readonly bytes = new WasmBytes();
  /** Which way `if` and `br_if` instructions mostly go, in the order of their offsets. */
  readonly hints: { readonly offset: number; readonly likely: boolean }[] = [];
  #depth = 0;

  /** Behind this code comes `other`, whose structure is its own. */
  append(other: Code): void {
    for (const { offset, likely } of other.hints)
      this.hints.push({ offset: this.bytes.length + offset, likely });
    this.bytes.append(other.bytes);
  }

  /** Tells of the `if` or `br_if` that follows whether it is mostly taken. */
  hint(way: 'likely' | 'unlikely'): this {
    this.hints.push({ offset: this.bytes.length, likely: way === 'likely' });
    return this;
  }

  op(name: OpcodeName): this {
    this.bytes.byte(OPCODE[name]);
    return this;
  }

  simd(name: SimdName): this {
    this.bytes.byte(0xfd);
    this.bytes.unsigned(SIMD[name]);
    return this;
  }

  i32(value: number): this {
    this.bytes.byte(OPCODE['i32.const']);
    this.bytes.signedNumber(value | 0);
    return this;
  }

  i64(value: bigint): this {
    this.bytes.byte(OPCODE['i64.const']);
    const number = Number(value);
    if (Number.isSafeInteger(number)) this.bytes.signedNumber(number);
    else this.bytes.signed(BigInt.asIntN(64, value));
    return this;
  }

  get(local: number): this {
    this.bytes.byte(OPCODE['local.get']);
    this.bytes.unsigned(local);
    return this;
  }

  set(local: number): this {
    this.bytes.byte(OPCODE['local.set']);
    this.bytes.unsigned(local);
    return this;
  }

  tee(local: number): this {
    this.bytes.byte(OPCODE['local.tee']);
    this.bytes.unsigned(local);
    return this;
  }

  /** A load or store; alignment is declared as one byte, which engines ignore on x86 and Arm. */
  memory(name: OpcodeName, offset: number): this {
    this.bytes.byte(OPCODE[name]);
    this.bytes.unsigned(0);
    this.bytes.unsigned(offset);
    return this;
  }

  simdMemory(name: 'v128.load' | 'v128.store', offset: number): this {
    this.simd(name);
    this.bytes.unsigned(0);
    this.bytes.unsigned(offset);
    return this;
  }

  lane(name: SimdName, index: number): this {
    this.simd(name);
    this.bytes.byte(index);
    return this;
  }

  v128(low: bigint, high: bigint): this {
    this.simd('v128.const');
    for (const half of [low, high])
      for (let shift = 0n; shift < 64n; shift += 8n) this.bytes.byte(Number((half >> shift) & 0xffn));
    return this;
  }

  call(functionIndex: number): this {
    this.bytes.byte(OPCODE.call);
    this.bytes.unsigned(functionIndex);
    return this;
  }

  /** Pops an index into table 0; the function there must be of this type. */
  callIndirect(typeIndex: number): this {
    this.bytes.byte(OPCODE.call_indirect);
    this.bytes.unsigned(typeIndex);
    this.bytes.byte(0);
    return this;
  }

  /** Pops target, source and length; as memmove. */
  memoryCopy(): this {
    for (const value of [0xfc, 0x0a, 0, 0]) this.bytes.byte(value);
    return this;
  }

  /** Pops target, value and length. */
  memoryFill(): this {
    for (const value of [0xfc, 0x0b, 0]) this.bytes.byte(value);
    return this;
  }

  open(kind: 'block' | 'loop' | 'if', result?: ValueType): Label {
    this.bytes.byte(OPCODE[kind]);
    this.bytes.byte(result === undefined ? 0x40 : VALUE_TYPE[result]);
    this.#depth++;
    return new Label(this.#depth);
  }

  otherwise(): this {
    this.bytes.byte(OPCODE.else);
    return this;
  }

  close(): this {
    assert(this.#depth > 0, 'every end closes a block');
    this.bytes.byte(OPCODE.end);
    this.#depth--;
    return this;
  }

  branch(label: Label): this {
    this.bytes.byte(OPCODE.br);
    this.bytes.unsigned(this.#depth - label.depth);
    return this;
  }

  branchIf(label: Label): this {
    this.bytes.byte(OPCODE.br_if);
    this.bytes.unsigned(this.#depth - label.depth);
    return this;
  }

  /** Pops an index; the last label is the default. */
  branchTable(labels: readonly Label[]): this {
    this.bytes.byte(OPCODE.br_table);
    this.bytes.unsigned(labels.length - 1);
    for (const label of labels) this.bytes.unsigned(this.#depth - label.depth);
    return this;
  }
}
