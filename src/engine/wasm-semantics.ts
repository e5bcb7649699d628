import type { Code, Label } from '../wasm/code.ts';
import type { ValueType } from '../wasm/opcode.ts';
import type { Field } from '../x86/semantics.ts';
import {
  BLOCK_PC,
  CONTEXT_WORDS,
  FLAGS_AUX,
  FLAGS_RESULT,
  REMAINING,
  type Size,
  SLOW_ADDRESS,
  SLOW_VALUE,
  TLB_POINTER,
} from '../x86/state.ts';
import { LOAD, LOAD_SIGNED, STORE, WasmExpressions } from './expression.ts';
import { TLB_ENTRY } from './layout.ts';
import type { Node } from './statement-writer.ts';

/** Locals that every emitted function has, and how the record's fields are reached in it. */
export interface Frame {
  /** i32: vCPU base pointer. */
  readonly cpu: number;
  /** i32: current record (also handed to slow paths). */
  readonly record: number;
  /** i32: translation cache. */
  readonly tlb: number;
  /** i32: instructions that may still be charged. */
  readonly remaining: number;
  /** Scratch. */
  readonly address: number;
  readonly entry: number;
  readonly tlbEntries: number;
  /** Leaves the function; the reason was stored or is the slow path's. */
  readonly exit: Label;
  /** Function index of slow(record, access) -> status. */
  readonly slow: number;
  /** Function indices of block-move.ts. */
  readonly blockMove: { readonly move: number; readonly fill: number };
  local(type: ValueType): number;
  /** Pushes the i32 address (without the constant part) of a field; returns the constant part. */
  fieldAddress(code: Code, field: Field): number;
  fieldNumber(code: Code, field: Field): void;
  immediate(code: Code): void;
  immediateHalf(code: Code, half: 'low' | 'high'): void;
  fault(code: Code, vector: number, errorCode: number | undefined): void;
  /** BLOCK_PC is already advanced; goes to the direct target of the record. `conditional`: refunds first. */
  takeBranch(code: Code, conditional: boolean): void;
  takeIndirect(code: Code, noted: boolean): void;
  skipNext(code: Code): void;
}

/** log2 of a size. */
export const SIZE_SHIFT: Record<Size, number> = { 1: 0, 2: 1, 4: 2, 8: 3 };

/** Slow-path access kinds, with the size in the low bits. */
export const ACCESS = { load: 0x000, loadForWrite: 0x100, store: 0x200 } as const;

/** A meaning with all operands in a record and all registers in memory: what the interpreter is made of. */
export class WasmSemantics extends WasmExpressions {
  readonly #frame: Frame;
  /** Whether the meaning contains a direct branch. */
  branches = false;
  /** Whether it may skip the record behind it. */
  skips = false;

  constructor(frame: Frame, code: Code) {
    super(code);
    this.#frame = frame;
  }

  protected override newLocal(type: ValueType): number {
    return this.#frame.local(type);
  }

  // ---------------------------------------------------------------------------------------- registers

  get(field: Field, size: Size): Node {
    return this.node('i64', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.memory(LOAD[size], offset);
    });
  }

  getSigned(field: Field, size: Size): Node {
    return this.node('i64', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.memory(LOAD_SIGNED[size], offset);
    });
  }

  set(field: Field, size: Size, value: Node): void {
    const whole = size === 4 ? this.zeroExtend(value, 4) : value;
    this.effect(
      [],
      (code) => {
        const offset = this.#frame.fieldAddress(code, field);
        this.push(whole);
        code.memory(STORE[size === 4 ? 8 : size], offset);
      },
      [whole],
    );
  }

  number(field: Field): Node {
    return this.node('i64', 'fixed', [], (code) => this.#frame.fieldNumber(code, field));
  }

  immediate(): Node {
    return this.node('i64', 'fixed', [], (code) => this.#frame.immediate(code));
  }

  immediateLow(): Node {
    return this.node('i64', 'fixed', [], (code) => this.#frame.immediateHalf(code, 'low'));
  }

  immediateHigh(): Node {
    return this.node('i64', 'fixed', [], (code) => this.#frame.immediateHalf(code, 'high'));
  }

  state(offset: number, size: Size): Node {
    return this.node('i64', 'fixed', [], (code) => code.get(this.#frame.cpu).memory(LOAD[size], offset));
  }

  setState(offset: number, size: Size, value: Node): void {
    const whole = size === 4 ? this.zeroExtend(value, 4) : value;
    this.effect(
      [],
      (code) => {
        code.get(this.#frame.cpu);
        this.push(whole);
        code.memory(STORE[size === 4 ? 8 : size], offset);
      },
      [whole],
    );
  }

  setFlags(result: Node, aux: Node): void {
    this.setState(FLAGS_RESULT, 8, result);
    this.setState(FLAGS_AUX, 8, aux);
  }

  knownCondition(): undefined {
    return undefined;
  }

  putOff(): boolean {
    return false;
  }

  // ---------------------------------------------------------------------------------------- memory

  load(size: Size, address: Node): Node {
    return this.#load(size, address, 'readTag', ACCESS.load);
  }

  loadForWrite(size: Size, address: Node): Node {
    return this.#load(size, address, 'writeTag', ACCESS.loadForWrite);
  }

  #load(size: Size, address: Node, tag: 'readTag' | 'writeTag', access: number): Node {
    return this.node('i64', 'fixed', [address], (code) => {
      this.#translate(code, size, tag);
      code.hint('likely').open('if', 'i64');
      this.#hostAddress(code);
      code.memory(LOAD[size], 0);
      code.otherwise();
      this.#slow(code, access | size);
      code.get(this.#frame.cpu).memory('i64.load', SLOW_VALUE);
      code.close();
    });
  }

  store(size: Size, address: Node, value: Node): void {
    this.effect(
      [address],
      (code) => {
        this.#translate(code, size, 'writeTag');
        code.hint('likely').open('if');
        this.#hostAddress(code);
        this.push(value);
        code.memory(STORE[size], 0);
        code.otherwise();
        code.get(this.#frame.cpu);
        this.push(value);
        code.memory('i64.store', SLOW_VALUE);
        this.#slow(code, ACCESS.store | size);
        code.close();
      },
      [value, value],
    );
  }

  /** Pops the linear address; pushes whether the translation cache has all of the access. */
  #translate(code: Code, size: number, tag: 'readTag' | 'writeTag'): void {
    const { address, entry, tlb, tlbEntries } = this.#frame;
    // One compare settles page, permission and page crossing: the last byte must lie in the entry's page.
    code.tee(address).i64(7n).op('i64.shr_u').op('i32.wrap_i64');
    code
      .i32((tlbEntries - 1) << 5)
      .op('i32.and')
      .get(tlb)
      .op('i32.add')
      .set(entry);
    code.get(address);
    if (size > 1) code.i64(BigInt(size - 1)).op('i64.add');
    code.i64(-4096n).op('i64.and');
    code.get(entry).memory('i64.load', TLB_ENTRY[tag]).op('i64.eq');
  }

  #hostAddress(code: Code): void {
    code.get(this.#frame.address).op('i32.wrap_i64');
    code.get(this.#frame.entry).memory('i32.load', TLB_ENTRY.addend).op('i32.add');
  }

  #slow(code: Code, access: number): void {
    const { cpu, address, remaining, record, slow, exit } = this.#frame;
    code.get(cpu).get(address).memory('i64.store', SLOW_ADDRESS);
    code.get(cpu).get(remaining).memory('i32.store', REMAINING);
    code.get(record).i32(access).call(slow).branchIf(exit);
  }

  // ---------------------------------------------------------------------------------------- vectors

  loadVector(address: Node, aligned: boolean): Node {
    if (aligned) this.#requireAligned(address);
    return this.node('v128', 'fixed', [address], (code) => {
      this.#translate(code, 16, 'readTag');
      code.hint('likely').open('if', 'v128');
      this.#hostAddress(code);
      code.simdMemory('v128.load', 0);
      code.otherwise();
      this.#slow(code, ACCESS.load | 16);
      code.get(this.#frame.cpu).simdMemory('v128.load', SLOW_VALUE);
      code.close();
    });
  }

  storeVector(address: Node, value: Node, aligned: boolean): void {
    if (aligned) this.#requireAligned(address);
    this.effect(
      [address],
      (code) => {
        this.#translate(code, 16, 'writeTag');
        code.hint('likely').open('if');
        this.#hostAddress(code);
        this.push(value);
        code.simdMemory('v128.store', 0);
        code.otherwise();
        code.get(this.#frame.cpu);
        this.push(value);
        code.simdMemory('v128.store', SLOW_VALUE);
        this.#slow(code, ACCESS.store | 16);
        code.close();
      },
      [value, value],
    );
  }

  #requireAligned(address: Node): void {
    const misaligned = this.not(this.isZero(this.and(address, this.constant(15n))));
    this.when(misaligned, () => this.fault(13, 0));
  }

  getVector(field: Field): Node {
    return this.node('v128', 'fixed', [], (code) => {
      const offset = this.#frame.fieldAddress(code, field);
      code.simdMemory('v128.load', offset);
    });
  }

  setVector(field: Field, value: Node): void {
    this.effect(
      [],
      (code) => {
        const offset = this.#frame.fieldAddress(code, field);
        this.push(value);
        code.simdMemory('v128.store', offset);
      },
      [value],
    );
  }

  // ---------------------------------------------------------------------------------------- control

  blockMove(kind: 'move' | 'fill', size: Size): Node {
    const { cpu, tlb, remaining } = this.#frame;
    return this.node('i32', 'fixed', [], (code) => {
      code.get(cpu).get(remaining).memory('i32.store', REMAINING);
      code.get(cpu).get(tlb).i32(SIZE_SHIFT[size]).call(this.#frame.blockMove[kind]);
      code.get(cpu).memory('i32.load', REMAINING).set(remaining);
    });
  }

  skipNext(): void {
    this.skips = true;
    this.effect([], (code) => this.#frame.skipNext(code));
  }

  fault(vector: number, errorCode?: number): void {
    this.effect([], (code) => this.#frame.fault(code, vector, errorCode));
  }

  remaining(): Node {
    return this.node('i64', 'fixed', [], (code) => code.get(this.#frame.remaining).op('i64.extend_i32_s'));
  }

  switchContext(): void {
    this.effect([], (code) => {
      const { cpu, entry, tlb } = this.#frame;
      exchangeContextWords(code, cpu, entry);
      code.get(cpu).memory('i32.load', TLB_POINTER).set(tlb);
    });
  }

  pc(offset: Node): Node {
    return this.add(this.state(BLOCK_PC, 8), offset);
  }

  branch(): void {
    this.branches = true;
    this.setState(BLOCK_PC, 8, this.pc(this.immediateLow()));
    this.effect([], (code) => this.#frame.takeBranch(code, false));
  }

  branchIf(condition: Node): void {
    this.branches = true;
    this.when(condition, () => {
      this.setState(BLOCK_PC, 8, this.pc(this.immediateLow()));
      this.effect([], (code) => this.#frame.takeBranch(code, true));
    });
  }

  branchTo(target: Node, noted?: 'noted'): void {
    this.setState(BLOCK_PC, 8, target);
    this.effect([], (code) => this.#frame.takeIndirect(code, noted === 'noted'));
  }
}

/** Semantics.switchContext without what is in locals. */
export function exchangeContextWords(code: Code, cpu: number, scratch: number): void {
  for (const [present, other] of CONTEXT_WORDS) {
    code.get(cpu).memory('i32.load', present).set(scratch);
    code.get(cpu).get(cpu).memory('i32.load', other).memory('i32.store', present);
    code.get(cpu).get(scratch).memory('i32.store', other);
  }
}
