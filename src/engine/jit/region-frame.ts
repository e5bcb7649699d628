import { Code, type Label } from '../../wasm/code.ts';
import type { ValueType } from '../../wasm/opcode.ts';
import {
  BLOCK_PC,
  EPOCH,
  FLAGS_AUX,
  FLAGS_RESULT,
  GPR,
  REMAINING,
  TEMP,
  TLB_POINTER,
  UNDONE,
  XMM,
  XMM_TEMP,
} from '../../x86/state.ts';
import { PERMIT, RECORD } from '../layout.ts';
import { type FlagsKind, KIND_DIRECT } from './flags-kind.ts';

/** Parameters of a region's function. */
const PARAMETER = { cpu: 0, header: 1 } as const;

/** What a region's function returns beside a record's address, in its low bits (interpreter.ts acts on it). */
export const LEFT = {
  /** The record is a direct branch that was taken, BLOCK_PC is its target: go where it is linked to. */
  branched: 1,
  /** Go on with this record, whose block was entered and charged. */
  inside: 2,
  /** The block of this header cannot be entered here: its count is more than what remains. */
  interpret: 4,
  /** The region's pages have to be looked at first; the record is the header it was entered by. */
  permit: 8,
} as const;

/** A state register that lives in a local while the region runs. */
interface Promoted {
  readonly local: number;
  readonly offset: number;
  readonly vector: boolean;
  written: boolean;
}

/**
 * A translation that a region found: linear page, and what to add to an address in it. While a region runs no
 * translation changes, so it is looked up once as long as accesses stay in the page.
 */
interface StackPage {
  readonly tag: number;
  readonly addend: number;
}
/** What no page's address is. */
const NO_PAGE = -1n;

/**
 * Locals of one region's function, and the code before and behind its body: registers are loaded when it is entered
 * and stored when it is left, wherever that happens.
 */
export class RegionFrame {
  readonly cpu = PARAMETER.cpu;
  readonly locals: ValueType[] = [];
  readonly code = new Code();
  /** i32 */
  readonly tlb = this.local('i32');
  readonly remaining = this.local('i32');
  readonly slot = this.local('i32');
  /** i32: block to go to, plus 1, for the dispatch at a loop's head; 0: none. */
  readonly wanted = this.local('i32');
  readonly #left = this.local('i32');
  readonly #delta = this.local('i32');
  readonly #undone = this.local('i32');
  /** i32: how aux comes from the locals behind it (flags-kind.ts). */
  readonly kind = this.local('i32');
  /** i64: linear address of the block with delta 0. */
  readonly base = this.local('i64');
  readonly address = this.local('i64');
  readonly result = this.local('i64');
  readonly x = this.local('i64');
  readonly y = this.local('i64');
  readonly pair = this.local('i64');
  readonly bit = this.local('i64');
  readonly prior = this.local('i32');
  readonly priorResult = this.local('i64');
  readonly #promoted = new Map<number, Promoted>();
  readonly #temporaries = new Map<number, number>();
  readonly #pools: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  readonly #used: Record<ValueType, number> = { i32: 0, i64: 0, f32: 0, f64: 0, v128: 0 };
  /** Function indices of aux (flags-kind.ts), and of block-move.ts. */
  readonly functions: { readonly aux: number; readonly move: number; readonly fill: number };
  readonly #stackPages = new Map<'readTag' | 'writeTag', StackPage>();
  readonly #exit: Label;
  usesFlags = false;

  constructor(functions: RegionFrame['functions']) {
    this.functions = functions;
    this.#exit = this.code.open('block');
  }

  local(type: ValueType): number {
    return this.locals.push(type) + 1;
  }

  /** A local for one micro-operation. */
  scratch(type: ValueType): number {
    const pool = this.#pools[type];
    if (this.#used[type] === pool.length) pool.push(this.local(type));
    return pool[this.#used[type]++]!;
  }

  freeScratch(): void {
    this.#used.i32 = this.#used.i64 = this.#used.f32 = this.#used.f64 = this.#used.v128 = 0;
  }

  /** The local of the general register at this state offset (a multiple of 8), or of a vector register. */
  register(offset: number, written: boolean): number {
    let promoted = this.#promoted.get(offset);
    if (promoted === undefined) {
      const vector = offset >= XMM;
      promoted = { local: this.local(vector ? 'v128' : 'i64'), offset, vector, written: false };
      this.#promoted.set(offset, promoted);
    }
    if (written) promoted.written = true;
    return promoted.local;
  }

  /** Locals of the stack's page that was last read or written. */
  stackPage(tag: 'readTag' | 'writeTag'): StackPage {
    let page = this.#stackPages.get(tag);
    if (page === undefined) {
      page = { tag: this.local('i64'), addend: this.local('i32') };
      this.#stackPages.set(tag, page);
    }
    return page;
  }

  /** The local of a temporary: neither loaded nor stored but for exits within its instruction. */
  temporary(offset: number): number {
    let local = this.#temporaries.get(offset);
    if (local === undefined) {
      local = this.local(offset >= XMM ? 'v128' : 'i64');
      this.#temporaries.set(offset, local);
    }
    return local;
  }

  // ------------------------------------------------------------------------------------------ leaving

  /** Leaves; BLOCK_PC becomes base + delta. `undone`: instructions charged that have not retired. */
  leave(code: Code, left: number, delta: number, undone = 0): void {
    code.i32(left).set(this.#left);
    code.i32(delta).set(this.#delta);
    code.i32(undone).set(this.#undone);
    code.branch(this.#exit);
  }

  setKind(code: Code, kind: FlagsKind): void {
    code.i32(kind.number).set(this.kind);
  }

  /** The whole function: what loads, the body, what stores. `permits`: address of the region's permits, or 0. */
  finish(permits: number): Code {
    const { cpu } = this;
    const all = new Code();
    all.get(cpu).memory('i64.load', BLOCK_PC);
    all.get(PARAMETER.header).memory('i64.load32_s', RECORD.high).op('i64.sub').set(this.base);
    if (permits !== 0) this.#checkPermit(all, permits);
    all.get(PARAMETER.header).memory('i32.load16_u', RECORD.a).set(this.wanted);
    all.get(cpu).memory('i32.load', TLB_POINTER).set(this.tlb);
    all.get(cpu).memory('i32.load', REMAINING).set(this.remaining);
    for (const { local, offset, vector } of this.#promoted.values()) {
      all.get(cpu);
      if (vector) all.simdMemory('v128.load', offset);
      else all.memory('i64.load', offset);
      all.set(local);
    }
    for (const { tag } of this.#stackPages.values()) all.i64(NO_PAGE).set(tag);
    if (this.usesFlags) {
      all.get(cpu).memory('i64.load', FLAGS_RESULT).set(this.result);
      all.get(cpu).memory('i64.load', FLAGS_AUX).set(this.x);
    }
    const { code } = this;
    code.op('unreachable').close();
    for (const { local, offset, vector, written } of this.#promoted.values()) {
      if (!written) continue;
      code.get(cpu).get(local);
      if (vector) code.simdMemory('v128.store', offset);
      else code.memory('i64.store', offset);
    }
    if (this.usesFlags) {
      code.get(cpu).get(this.result).memory('i64.store', FLAGS_RESULT);
      code.get(cpu);
      this.pushAux(code, undefined);
      code.memory('i64.store', FLAGS_AUX);
    }
    code.get(cpu).get(this.base).get(this.#delta).op('i64.extend_i32_s').op('i64.add');
    code.memory('i64.store', BLOCK_PC);
    code.get(cpu).get(this.remaining).memory('i32.store', REMAINING);
    code.get(cpu).get(this.#undone).memory('i32.store', UNDONE);
    code.get(this.#left);
    all.append(code);
    return all;
  }

  /**
   * A region of more than one page may be entered when every page is where it was when it was compiled, as seen from
   * this base in this epoch: the engine has looked, and nothing has changed since, or the epoch would have.
   */
  #checkPermit(code: Code, permits: number): void {
    const { cpu, slot } = this;
    const epoch = this.#delta;
    // Bit 63 of the address chooses the epoch.
    code
      .get(cpu)
      .get(this.base)
      .i64(61n)
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32(4)
      .op('i32.and')
      .op('i32.add');
    code
      .memory('i32.load', EPOCH)
      .tee(epoch)
      .i32(PERMIT.count - 1)
      .op('i32.and');
    code.i32(PERMIT.shift).op('i32.shl').i32(permits).op('i32.add').set(slot);
    code.get(slot).memory('i64.load', PERMIT.base).get(this.base).op('i64.ne');
    code.get(slot).memory('i32.load', PERMIT.epoch).get(epoch).op('i32.ne');
    code.op('i32.or').hint('unlikely').open('if');
    code.get(PARAMETER.header).i32(LEFT.permit).op('i32.or').op('return');
    code.close();
    // Denied: not for ever, an accessed flag may have been set since.
    code.get(slot).memory('i32.load', PERMIT.given).i32(0).op('i32.le_s').hint('unlikely').open('if');
    code.get(slot).get(slot).memory('i32.load', PERMIT.given).i32(1).op('i32.add');
    code.memory('i32.store', PERMIT.given);
    code.get(PARAMETER.header).i32(LEFT.permit).i32(LEFT.interpret);
    code.get(slot).memory('i32.load', PERMIT.given).op('i32.eqz').op('select').op('i32.or').op('return');
    code.close();
  }

  /** Pushes aux of a kind that is known, or of the one in the local. */
  pushAux(code: Code, kind: FlagsKind | undefined): void {
    if (kind?.number === KIND_DIRECT.number) {
      code.get(this.x);
      return;
    }
    if (kind === undefined) code.get(this.kind);
    else code.i32(kind.number);
    code.get(this.x).get(this.y).get(this.result).get(this.pair).get(this.bit);
    code.get(this.prior).get(this.priorResult).call(this.functions.aux);
  }
}

export const isGeneral = (offset: number): boolean => offset >= GPR && offset < TEMP;
export const isTemporary = (offset: number): boolean => offset >= TEMP && offset < TEMP + 64;
export const isVector = (offset: number): boolean => offset >= XMM && offset < XMM_TEMP;
export const isVectorTemporary = (offset: number): boolean => offset >= XMM_TEMP && offset < XMM_TEMP + 64;
