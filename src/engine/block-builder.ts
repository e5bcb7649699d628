import { NAME_SEGMENT } from '../x86/address.ts';
import type { SystemOperation } from '../x86/cpu.ts';
import type { CodeSize, Lowering } from '../x86/instruction.ts';
import type { MicroOperation } from '../x86/semantics.ts';
import { SEGMENT_UNNAMED, type SegmentName } from '../x86/state.ts';
import { MODE } from './code-mode.ts';
import { LINK } from './interpreter.ts';
import { PAGE } from './layout.ts';
import { KEPT, type LoweredInstructions } from './lowered-instructions.ts';
import { ENGINE_OPERATION } from './operation-table.ts';

/** Where records are written, and what the block builder must know of operations. Implemented by the code cache. */
export interface RecordWriter {
  /** Appends a record of the instruction that stands at `place`; returns the record's index. */
  record(
    operation: number,
    fields: { a?: number; b?: number; c?: number },
    immediate: bigint,
    place: { offset: number; length: number; retiredBefore: number },
  ): number;
  /** Appends a record of `kept` (lowered-instructions.ts); returns its index. */
  copy(kept: Int32Array, at: number, offset: number, length: number, retiredBefore: number): number;
  number(operation: MicroOperation): number;
  branches(operation: MicroOperation): boolean;
  systemNumber(operation: SystemOperation): number;
  branchTarget(index: number): number;
  setLink(index: number, value: number): void;
}

/** One 64-bit value as its halves, in the byte order of the wasm memory. */
const WHOLE = new BigInt64Array(1);
const HALVES = new Int32Array(WHOLE.buffer);

/** Receives the micro-operations of one block. */
export class BlockBuilder implements Lowering {
  readonly #records: RecordWriter;
  readonly #codeSize: CodeSize;
  /** No quick ways of system instructions: the block runs alone, or must see RFLAGS.RF. */
  readonly #plain: boolean;
  instructions = 0;
  ended = false;
  #offset = 0;
  #nextOffset = 0;
  /** The present instruction's records depend on where it stands. */
  placed = false;
  /** Records whose field c is an operand; in all others it is the number of instructions behind them. */
  readonly usesC = new Set<number>();
  readonly #branches: number[] = [];

  readonly checksSegments: boolean;
  readonly stackSize: 2 | 4 | 8;
  readonly #mode: number;

  constructor(records: RecordWriter, codeSize: CodeSize, mode: number) {
    this.#records = records;
    this.#codeSize = codeSize;
    this.#mode = mode;
    this.#plain = (mode & (MODE.step | MODE.breakpoints | MODE.segments)) !== 0;
    this.checksSegments = (mode & MODE.segments) !== 0;
    const other = (mode & MODE.otherStack) !== 0;
    this.stackSize = codeSize === 64 ? 8 : (codeSize === 32) !== other ? 4 : 2;
  }

  isNull(segment: SegmentName): boolean {
    if (segment === 'fs') return (this.#mode & MODE.nullFs) !== 0;
    return segment === 'gs' && (this.#mode & MODE.nullGs) !== 0;
  }

  begin(length: number): void {
    this.#offset = this.#nextOffset;
    this.#nextOffset += length;
    this.placed = false;
    this.instructions++;
    if (this.checksSegments) this.emit(NAME_SEGMENT, { imm: BigInt(SEGMENT_UNNAMED) });
  }

  get offset(): number {
    this.placed = true;
    return this.#offset;
  }

  get nextOffset(): number {
    this.placed = true;
    return this.#nextOffset;
  }

  emit(operation: MicroOperation, fields: { a?: number; b?: number; c?: number; imm?: bigint } = {}): void {
    if (operation.counted && this.#plain) return;
    const index = this.#record(this.#records.number(operation), fields, fields.imm ?? 0n);
    if (this.#records.branches(operation)) {
      this.placed = true;
      this.#branches.push(index);
    } else if (!operation.counted) {
      this.usesC.add(index);
    }
    if (operation.ends) this.ended = true;
  }

  emit32(
    operation: MicroOperation,
    fields: { a?: number; b?: number; c?: number; low: number; high: number },
  ): void {
    // Every operand comes through here: put together in memory, not with bigints.
    HALVES[0] = fields.low;
    HALVES[1] = fields.high;
    this.emit(operation, { ...fields, imm: WHOLE[0]! });
  }

  call(operation: SystemOperation, fields: { b?: number; c?: number; imm?: bigint } = {}): void {
    const number = this.#records.systemNumber(operation);
    this.usesC.add(this.#record(ENGINE_OPERATION.call, { ...fields, a: number }, fields.imm ?? 0n));
  }

  system(operation: SystemOperation, fields: { b?: number; c?: number; imm?: bigint } = {}): void {
    this.orSystem(operation, fields);
    this.ended = true;
  }

  orSystem(operation: SystemOperation, fields: { b?: number; c?: number; imm?: bigint } = {}): void {
    const number = this.#records.systemNumber(operation);
    this.usesC.add(this.#record(ENGINE_OPERATION.system, { ...fields, a: number }, fields.imm ?? 0n));
  }

  fault(vector: number, errorCode?: number): void {
    this.usesC.add(this.#record(ENGINE_OPERATION.fault, { a: vector }, BigInt(errorCode ?? -1)));
    this.ended = true;
  }

  /** Appends the records of an instruction that was lowered before. */
  repeat(kept: LoweredInstructions, first: number): void {
    const { records } = kept;
    const retiredBefore = this.instructions - 1;
    const length = this.#nextOffset - this.#offset;
    for (let at = first; ; at = kept.after(at)) {
      const index = this.#records.copy(records, at, this.#offset, length, retiredBefore);
      const marks = records[at + 4]!;
      if (marks & KEPT.usesC) this.usesC.add(index);
      if (marks & KEPT.ends) this.ended = true;
      if (marks & KEPT.last) return;
    }
  }

  fallThrough(): void {
    const index = this.#record(ENGINE_OPERATION.fallThrough, {}, BigInt(this.#nextOffset));
    this.#branches.push(index);
  }

  /** Direct branches within the page may be linked; others go through the jump cache. */
  linkBranches(mode: number, start: number, crossing: boolean): void {
    const inPage = start % PAGE;
    for (const index of this.#branches) {
      const target = inPage + this.#records.branchTarget(index);
      const near = target >= 0 && target < PAGE;
      const may = near && !crossing && (mode & MODE.step) === 0 && this.#codeSize === 64;
      this.#records.setLink(index, may ? LINK.wanted : LINK.never);
    }
  }

  #record(operation: number, fields: { a?: number; b?: number; c?: number }, immediate: bigint): number {
    return this.#records.record(operation, fields, immediate, {
      offset: this.#offset,
      length: this.#nextOffset - this.#offset,
      retiredBefore: this.instructions - 1,
    });
  }
}
