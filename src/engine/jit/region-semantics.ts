import { assert } from '../../base/assert.ts';
import type { Code } from '../../wasm/code.ts';
import type { Field, MicroOperation } from '../../x86/semantics.ts';
import {
  BLOCK_PC,
  FLAGS_AUX,
  FLAGS_RESULT,
  RAX,
  RBP,
  RCX,
  RDI,
  REMAINING,
  RSI,
  RSP,
  type Size,
  XMM,
  ZERO,
} from '../../x86/state.ts';
import { LOAD, LOAD_SIGNED, STORE } from '../expression.ts';
import { TLB_ENTRY } from '../layout.ts';
import { Node, type Statement } from '../statement-writer.ts';
import { exchangeContextWords, SIZE_SHIFT } from '../wasm-semantics.ts';
import type { FlagsKind } from './flags-kind.ts';
import { RegionFlags } from './region-flags.ts';
import {
  isGeneral,
  isTemporary,
  isVector,
  isVectorTemporary,
  LEFT,
  type RegionFrame,
} from './region-frame.ts';

/** A record of the arena, read. */
export interface RegionRecord {
  readonly address: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly immediate: bigint;
  /** Instructions charged that have not retired while this record's has not. */
  readonly undone: number;
  /** Does a new instruction begin with it? */
  readonly first: boolean;
}

/** Where control goes from a block; implemented by the region's layout. */
export interface Jumps {
  /** To the block with this delta from the region's base. `record`: the direct branch that goes there. */
  direct(code: Code, delta: number, record: number): void;
  /** The target is in the local; BLOCK_PC and the flags' kind are not yet stored. */
  indirect(code: Code, target: number): void;
}

const FIELD = { a: 'a', b: 'b', c: 'c' } as const satisfies Record<Field, Field>;

/**
 * A meaning with its operands known and the registers in locals. What a region cannot do (a translation that is not
 * cached, an exception, a call of slow-path code) it leaves to the interpreter, at the very record.
 */
export class RegionSemantics extends RegionFlags {
  readonly #tlbEntries: number;
  readonly #jumps: Jumps;
  #record!: RegionRecord;
  /** Of the block that is compiled, from the region's base. */
  #delta = 0;
  /** Temporaries that the instruction has written so far. */
  readonly #temporaries = new Set<number>();
  /** Locals of registers whose upper half is known to be zero. */
  readonly #narrow = new Set<number>();
  protected override readonly narrows = true;
  #skipKind: FlagsKind | undefined;
  #skipLabel: ReturnType<Code['open']> | undefined;

  constructor(frame: RegionFrame, tlbEntries: number, jumps: Jumps) {
    super(frame);
    this.#tlbEntries = tlbEntries;
    this.#jumps = jumps;
  }

  beginBlock(delta: number): void {
    this.#delta = delta;
    this.forgetKind();
    this.#narrow.clear();
  }

  /** Compiles one micro-operation. `skips`: it may skip the record behind it. */
  operation(operation: MicroOperation, record: RegionRecord, skips: boolean): void {
    this.#begin(record);
    if (skips) this.#skipLabel = this.code.open('block');
    operation.meaning(this);
    this.keepRegisters = this.#overwrites();
    this.emit();
    this.frame.freeScratch();
  }

  /** The record is left to the interpreter, unless the one before skips it; nothing else leads behind it. */
  leaveTo(record: RegionRecord): 'skipped' | 'ended' {
    this.#begin(record);
    this.#leaving()(this.code);
    if (this.#skipLabel === undefined) return 'ended';
    this.code.close();
    this.#skipLabel = undefined;
    this.kind = this.#skipKind;
    this.kindStored = true;
    return 'skipped';
  }

  #begin(record: RegionRecord): void {
    this.#record = record;
    if (record.first) this.#temporaries.clear();
  }

  /** What goes to the interpreter, before the present record, from where the recording is now. */
  #leaving(): (code: Code) => void {
    const frame = this.frame;
    const temporaries = [...this.#temporaries];
    const kind = this.kindToStore();
    const { address, undone } = this.#record;
    return (code) => {
      for (const offset of temporaries) {
        code.get(frame.cpu).get(frame.temporary(offset));
        if (offset >= XMM) code.simdMemory('v128.store', offset);
        else code.memory('i64.store', offset);
      }
      if (kind !== undefined) frame.setKind(code, kind);
      frame.leave(code, address | LEFT.inside, this.#delta, undone);
    };
  }

  // ---------------------------------------------------------------------------------------- registers

  /**
   * Registers are read where their value is used, which is right as long as none was written before. True: one may
   * have been, so they have to be read where the meaning reads them.
   */
  #overwrites(): boolean {
    let written = false;
    let overwrites = false;
    const look = (statements: readonly Statement[]): void => {
      for (const statement of statements) {
        if (statement.kind === 'bind') {
          if (statement.node.kind === 'fixed') overwrites ||= written;
        } else if (statement.kind === 'effect') {
          overwrites ||= written;
          if (this.#writers.has(statement)) written = true;
        } else {
          overwrites ||= written;
          look(statement.yes);
          look(statement.no);
        }
      }
    };
    if (this.#writers.size > 0) look(this.statements);
    this.#writers.clear();
    return overwrites;
  }

  readonly #writers = new Set<Statement>();

  #write(operands: readonly Node[], write: (code: Code) => void): void {
    this.effect(operands, write);
    this.#writers.add(this.statements.at(-1)!);
  }

  get(field: Field, size: Size): Node {
    return this.state(this.#record[FIELD[field]], size);
  }

  getSigned(field: Field, size: Size): Node {
    const offset = this.#record[FIELD[field]];
    if (isGeneral(offset) || isTemporary(offset)) return this.signExtend(this.#shifted(offset), size);
    return this.node('i64', 'fixed', [], (code) =>
      code.get(this.frame.cpu).memory(LOAD_SIGNED[size], offset),
    );
  }

  set(field: Field, size: Size, value: Node): void {
    this.setState(this.#record[FIELD[field]], size, value);
  }

  number(field: Field): Node {
    return this.constant(this.#record[FIELD[field]]);
  }

  immediate(): Node {
    return this.constant(this.#record.immediate);
  }

  immediateLow(): Node {
    return this.constant(BigInt.asIntN(32, this.#record.immediate));
  }

  immediateHigh(): Node {
    return this.constant(this.#record.immediate >> 32n);
  }

  #local(offset: number, written: boolean): number {
    const whole = offset & ~7;
    if (isGeneral(offset)) return this.frame.register(whole, written);
    if (written) this.#temporaries.add(whole);
    return this.frame.temporary(whole);
  }

  #register(offset: number): Node {
    const local = this.#local(offset, false);
    const node = new Node('i64', 'pure', [], (code) => code.get(local), undefined, true);
    node.unsigned32 = this.#narrow.has(local);
    node.stack = offset === RSP || offset === RBP;
    this.statements.push({ kind: 'bind', node });
    return node;
  }

  /** The register with the byte at `offset` as its lowest. */
  #shifted(offset: number): Node {
    return this.shrU(this.#register(offset), this.constant((offset & 7) * 8));
  }

  state(offset: number, size: Size): Node {
    if (isGeneral(offset) || isTemporary(offset)) return this.zeroExtend(this.#shifted(offset), size);
    if (offset === ZERO) return this.constant(0);
    if (offset === BLOCK_PC) return this.pc(this.constant(0));
    if (offset === FLAGS_RESULT) return this.flagLocal(this.frame.result);
    if (offset === FLAGS_AUX) return this.flagsAux();
    return this.node('i64', 'fixed', [], (code) => code.get(this.frame.cpu).memory(LOAD[size], offset));
  }

  setState(offset: number, size: Size, value: Node): void {
    if (isGeneral(offset) || isTemporary(offset)) {
      const local = this.#local(offset, true);
      if (size >= 4) {
        const whole = size === 4 ? this.zeroExtend(value, 4) : value;
        this.#write([whole], (code) => code.set(local));
        if (!whole.unsigned32) this.#narrow.delete(local);
        else if (this.choiceDepth === 0) this.#narrow.add(local);
        return;
      }
      const shift = this.constant((offset & 7) * 8);
      const mask = ((1n << BigInt(size * 8)) - 1n) << BigInt((offset & 7) * 8);
      const kept = this.and(this.#register(offset), this.constant(~mask));
      const whole = this.or(kept, this.shl(this.zeroExtend(value, size), shift));
      this.#write([whole], (code) => code.set(local));
      return;
    }
    if (offset === FLAGS_AUX) {
      this.replaceAux(value);
      return;
    }
    if (offset === FLAGS_RESULT) {
      this.frame.usesFlags = true;
      this.effect([value], (code) => code.set(this.frame.result));
      return;
    }
    const whole = size === 4 ? this.zeroExtend(value, 4) : value;
    this.effect(
      [],
      (code) => {
        code.get(this.frame.cpu);
        this.push(whole);
        code.memory(STORE[size === 4 ? 8 : size], offset);
      },
      [whole],
    );
  }

  getVector(field: Field): Node {
    const local = this.#vectorLocal(this.#record[FIELD[field]], false);
    const node = new Node('v128', 'pure', [], (code) => code.get(local), undefined, true);
    this.statements.push({ kind: 'bind', node });
    return node;
  }

  setVector(field: Field, value: Node): void {
    const local = this.#vectorLocal(this.#record[FIELD[field]], true);
    this.#write([value], (code) => code.set(local));
  }

  #vectorLocal(offset: number, written: boolean): number {
    if (isVector(offset)) return this.frame.register(offset, written);
    assert(isVectorTemporary(offset), 'vectors stand in vector registers and their temporaries');
    if (written) this.#temporaries.add(offset);
    return this.frame.temporary(offset);
  }

  // ---------------------------------------------------------------------------------------- memory

  load(size: Size, address: Node): Node {
    return this.#load(size, address, 'readTag');
  }

  loadForWrite(size: Size, address: Node): Node {
    return this.#load(size, address, 'writeTag');
  }

  #load(size: Size, address: Node, tag: 'readTag' | 'writeTag'): Node {
    const leave = this.#leaving();
    const node = this.node('i64', 'fixed', [address], (code) => {
      this.#translate(code, size, tag, leave, address.stack);
      code.memory(LOAD[size], 0);
    });
    node.unsigned32 = size < 8;
    return node;
  }

  store(size: Size, address: Node, value: Node): void {
    const leave = this.#leaving();
    this.effect(
      [address],
      (code) => {
        this.#translate(code, size, 'writeTag', leave, address.stack);
        this.push(value);
        code.memory(STORE[size], 0);
      },
      [value],
    );
  }

  loadVector(address: Node, aligned: boolean): Node {
    const leave = this.#leaving();
    return this.node('v128', 'fixed', [address], (code) => {
      this.#translate(code, 16, 'readTag', leave, address.stack, aligned);
      code.simdMemory('v128.load', 0);
    });
  }

  storeVector(address: Node, value: Node, aligned: boolean): void {
    const leave = this.#leaving();
    this.effect(
      [address],
      (code) => {
        this.#translate(code, 16, 'writeTag', leave, address.stack, aligned);
        this.push(value);
        code.simdMemory('v128.store', 0);
      },
      [value],
    );
  }

  /**
   * Pops a linear address and pushes its address in the wasm memory. Without a cached translation, or when it is not
   * `aligned` as it has to be, the interpreter goes on here. `stack`: it is likely in the page of the one before, and
   * aligned by its size, so that it does not leave the page.
   */
  #translate(
    code: Code,
    size: number,
    tag: 'readTag' | 'writeTag',
    leave: (code: Code) => void,
    stack: boolean,
    aligned = false,
  ): void {
    const { address, slot, tlb } = this.frame;
    const page = stack ? this.frame.stackPage(tag) : undefined;
    /** The page of the last byte. An aligned access does not leave its page; the bits of one that is not show. */
    const compared = () => {
      code.get(address);
      if (size > 1 && !aligned) code.i64(BigInt(size - 1)).op('i64.add');
      code.i64(aligned ? -4096n | 15n : -4096n).op('i64.and');
    };
    code.set(address);
    if (page !== undefined) {
      code
        .get(address)
        .i64(-4096n | BigInt(size - 1))
        .op('i64.and');
      code.get(page.tag).op('i64.ne').hint('unlikely').open('if');
    }
    code.get(address).i64(7n).op('i64.shr_u').op('i32.wrap_i64');
    code
      .i32((this.#tlbEntries - 1) << 5)
      .op('i32.and')
      .get(tlb)
      .op('i32.add')
      .set(slot);
    compared();
    code.get(slot).memory('i64.load', TLB_ENTRY[tag]).op('i64.ne');
    code.hint('unlikely').open('if');
    leave(code);
    code.close();
    if (page !== undefined) {
      code.get(slot).memory('i64.load', TLB_ENTRY[tag]).set(page.tag);
      code.get(slot).memory('i32.load', TLB_ENTRY.addend).set(page.addend);
      code.close();
      code.get(address).op('i32.wrap_i64').get(page.addend).op('i32.add');
      return;
    }
    code.get(address).op('i32.wrap_i64').get(slot).memory('i32.load', TLB_ENTRY.addend).op('i32.add');
  }

  // ---------------------------------------------------------------------------------------- control

  blockMove(kind: 'move' | 'fill', size: Size): Node {
    const frame = this.frame;
    const moved = kind === 'move' ? [RCX, RDI, RSI] : [RCX, RDI];
    const locals = moved.map((offset) => ({ offset, local: frame.register(offset, true) }));
    const element = kind === 'fill' ? [{ offset: RAX, local: frame.register(RAX, false) }] : [];
    for (const { local } of locals) this.#narrow.delete(local);
    return this.node('i32', 'fixed', [], (code) => {
      for (const { offset, local } of [...locals, ...element])
        code.get(frame.cpu).get(local).memory('i64.store', offset);
      code.get(frame.cpu).get(frame.remaining).memory('i32.store', REMAINING);
      code.get(frame.cpu).get(frame.tlb).i32(SIZE_SHIFT[size]).call(frame.functions[kind]);
      for (const { offset, local } of locals) code.get(frame.cpu).memory('i64.load', offset).set(local);
      code.get(frame.cpu).memory('i32.load', REMAINING).set(frame.remaining);
    });
  }

  skipNext(): void {
    this.#skipKind = this.kind;
    this.effect([], (code) => code.branch(this.#skipLabel!));
  }

  fault(): void {
    this.effect([], this.#leaving());
  }

  remaining(): Node {
    return this.node('i64', 'fixed', [], (code) => code.get(this.frame.remaining).op('i64.extend_i32_s'));
  }

  switchContext(): void {
    // Nothing is accessed before the region is left: what it has in a local stays as it is.
    this.effect([], (code) => exchangeContextWords(code, this.frame.cpu, this.frame.slot));
  }

  pc(offset: Node): Node {
    const base = this.node('i64', 'pure', [], (code) => code.get(this.frame.base));
    return this.add(base, this.add(this.constant(this.#delta), offset));
  }

  branch(): void {
    this.#jump();
  }

  branchIf(condition: Node): void {
    const refund = this.#record.c;
    this.when(condition, () => {
      const { remaining } = this.frame;
      if (refund > 0) this.effect([], (code) => code.get(remaining).i32(refund).op('i32.add').set(remaining));
      this.#jump();
    });
  }

  #jump(): void {
    const delta = this.#delta + Number(BigInt.asIntN(32, this.#record.immediate));
    const kind = this.kindToStore();
    const { address } = this.#record;
    this.effect([], (code) => {
      if (kind !== undefined) this.frame.setKind(code, kind);
      this.#jumps.direct(code, delta, address);
    });
  }

  branchTo(target: Node): void {
    const kind = this.kindToStore();
    const { address } = this.frame;
    this.effect([target], (code) => {
      code.set(address);
      if (kind !== undefined) this.frame.setKind(code, kind);
      this.#jumps.indirect(code, address);
    });
  }
}
