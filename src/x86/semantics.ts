import type { Size } from './state.ts';

/**
 * The language in which micro-operations are defined, once (design 3). A meaning is a function over this
 * interface; each engine implements it: the interpreter and the JIT emit wasm from it, the oracle computes with
 * bigint. `V` is a 64-bit value, `B` a condition, `X` a 128-bit vector.
 *
 * A record of a micro-operation has three 16-bit fields a, b, c (offsets into the vCPU state, see state.ts) and
 * a 64-bit immediate, which may be used as two signed 32-bit halves.
 *
 * Order matters and is kept: reads of state and memory happen where they stand in the text. A load or store
 * that faults ends the micro-operation at that point, so architectural state is written after the last access
 * that can fault (use loadForWrite for read-modify-write).
 */
export type Field = 'a' | 'b' | 'c';

export interface Semantics<V, B, X> {
  /** The register named by a field, zero-extended. */
  get(field: Field, size: Size): V;
  getSigned(field: Field, size: Size): V;
  /** Writes a register as the processor does: 1 and 2 keep the rest, 4 clears the upper half. */
  set(field: Field, size: Size, value: V): void;
  /** The raw 16-bit number in a field. */
  number(field: Field): V;
  immediate(): V;
  /** Low 32 bits of the immediate, sign-extended. */
  immediateLow(): V;
  /** High 32 bits of the immediate, sign-extended. */
  immediateHigh(): V;
  /** State at a fixed offset (a register that the instruction names implicitly). */
  state(offset: number, size: Size): V;
  setState(offset: number, size: Size, value: V): void;

  constant(value: bigint | number): V;
  add(x: V, y: V): V;
  sub(x: V, y: V): V;
  mul(x: V, y: V): V;
  /** Unsigned and signed quotient and remainder; the divisor is known to be nonzero and not to overflow. */
  divU(x: V, y: V): V;
  remU(x: V, y: V): V;
  divS(x: V, y: V): V;
  remS(x: V, y: V): V;
  and(x: V, y: V): V;
  or(x: V, y: V): V;
  xor(x: V, y: V): V;
  /** 64-bit shifts and rotates; counts are taken modulo 64. */
  shl(x: V, y: V): V;
  shrU(x: V, y: V): V;
  shrS(x: V, y: V): V;
  rotl(x: V, y: V): V;
  rotr(x: V, y: V): V;
  /** The same on the low 32 bits, counts modulo 32; zero-extended. */
  rotl32(x: V, y: V): V;
  rotr32(x: V, y: V): V;
  /** 64 for zero. */
  clz(x: V): V;
  ctz(x: V): V;
  popcnt(x: V): V;
  /** Low `size` bytes, sign- or zero-extended to 64 bits. */
  signExtend(x: V, size: Size): V;
  zeroExtend(x: V, size: Size): V;

  eq(x: V, y: V): B;
  ne(x: V, y: V): B;
  ltU(x: V, y: V): B;
  ltS(x: V, y: V): B;
  isZero(x: V): B;
  not(x: B): B;
  bothOf(x: B, y: B): B;
  eitherOf(x: B, y: B): B;
  differ(x: B, y: B): B;
  /** 1 or 0. */
  value(x: B): V;
  select(condition: B, yes: V, no: V): V;
  /** Structured choice; values made inside do not leave it, state does. */
  when(condition: B, then: () => void, otherwise?: () => void): void;

  /**
   * Sets FLAGS_RESULT and FLAGS_AUX (see state.ts). `result` must be sign-extended already. `origin` tells again what
   * `aux` was computed from, for engines that put its computation off until it is read.
   */
  setFlags(result: V, aux: V, origin?: FlagsOrigin<V>): void;
  /** The condition with this even code, by a shorter way than from the flags' words, when the engine knows one. */
  knownCondition(code: number): B | undefined;
  /**
   * Offers to keep a change of aux apart until aux is read: new CF and OF (`value` has CF in bit 1 and CF ^ OF in
   * bit 0, other bits do not matter) or a new CF alone (bit 0, other bits zero). False: the caller has to do it.
   */
  putOff(what: 'carry-and-overflow' | 'carry', value: V): boolean;

  /** Guest memory at a linear address; zero-extended. May fault. */
  load(size: Size, address: V): V;
  /** As load, but faults as a write would: the store to the same address that follows cannot fault. */
  loadForWrite(size: Size, address: V): V;
  store(size: Size, address: V, value: V): void;

  /** 128-bit vectors. `aligned` raises #GP(0) when the address is not a multiple of 16. */
  loadVector(address: V, aligned: boolean): X;
  storeVector(address: V, value: X, aligned: boolean): void;
  getVector(field: Field): X;
  setVector(field: Field, value: X): void;
  /** A vector of two 64-bit lanes. */
  vector(low: V, high: V): X;
  /** The same, of numbers that are known. */
  vectorConstant(low: bigint, high: bigint): X;
  /** Lane 0 or 1. */
  lane(x: X, index: 0 | 1): V;
  /** `x` with lane 0 replaced. */
  withLowLane(x: X, value: V): X;
  /** Lane-wise operations by wasm SIMD name; shifts take their count as the second lane-wise operand's V. */
  vectorOp(operation: VectorOperation, x: X, y: X): X;
  vectorUnary(operation: VectorUnary, x: X): X;
  /** Shift every lane; the count is below the lane's width. */
  vectorShift(operation: VectorShift, x: X, count: V): X;
  /** Bytes of x:y chosen by 16 constant indices 0..31 (0..15 from x). */
  shuffle(x: X, y: X, indices: readonly number[]): X;
  /** The sign bits of the lanes as an integer. */
  signMask(shape: 'i8x16' | 'i32x4' | 'i64x2', x: X): V;
  /** Is any bit set? */
  anyBit(x: X): B;

  /**
   * Floating point on bits, for the quick way of SSE arithmetic: rounds to nearest, knows denormals, reports
   * nothing. Singles stand in the low 32 bits, results zero-extended. NaN bits differ between hosts: a result may
   * only be used after a test that no NaN passes.
   */
  float(operation: FloatOperation, x: V, y: V): V;
  /** The same in every lane. */
  vectorFloat(operation: VectorFloat, x: X, y: X): X;
  /** The operand of a truncation to i64 is known to be in range. */
  floatUnary(operation: FloatUnary, x: V): V;
  /** x < y for doubles or singles; neither is a NaN. */
  floatLess(width: 'f32' | 'f64', x: V, y: V): B;

  /**
   * Goes on after the record that follows this one: a quick way that succeeded leaves out the call of the slow one,
   * which is the next record. Nothing may stand after it.
   */
  skipNext(): void;

  /**
   * Iterations of REP MOVS or REP STOS, upward, with 64-bit addresses and no segment base: makes as many as are quick
   * and lets RCX, RSI, RDI and the count tell. True: RCX is 0 now.
   */
  blockMove(kind: 'move' | 'fill', size: Size): B;

  /** Raises an exception at this instruction. */
  fault(vector: number, errorCode?: number): void;

  /** Instructions that may still be charged, the whole of the running block being charged already. */
  remaining(): V;

  /**
   * Goes over to the translations of the other privilege, where PARTNER_TLB is not 0: the privilege has changed. No
   * memory is accessed after it.
   */
  switchContext(): void;

  /** BLOCK_PC + offset. */
  pc(offset: V): V;
  /** Direct jump to BLOCK_PC + immediateLow; ends the block. */
  branch(): void;
  /**
   * Conditional direct jump to BLOCK_PC + immediateLow. Not taken: goes on with the next record. The field c of
   * the record is filled in by the block builder; leave it alone.
   */
  branchIf(condition: B): void;
  /**
   * Indirect jump; ends the block. `noted`: the record's immediate is not used, so an engine may note there where it
   * went.
   */
  branchTo(target: V, noted?: 'noted'): void;
}

/**
 * Where flags come from. `add` and `subtract`: the result is x + y or x - y, truncated to `size`, and with `carried`
 * the carry that went in besides. INC and DEC keep the carry flag. Of shifts `x` is the operand, extended as it is
 * shifted, and the count is not zero. `logic`: aux is zero.
 */
export type FlagsOrigin<V> =
  | {
      readonly kind: 'add' | 'subtract';
      readonly x: V;
      readonly y: V;
      readonly size: Size;
      readonly carried: boolean;
    }
  | { readonly kind: 'increment' | 'decrement'; readonly size: Size }
  | { readonly kind: 'shl' | 'shr' | 'sar'; readonly x: V; readonly count: V; readonly size: Size }
  | { readonly kind: 'logic'; readonly size: Size };

export type FloatOperation =
  | 'f32.add'
  | 'f32.sub'
  | 'f32.mul'
  | 'f32.div'
  | 'f64.add'
  | 'f64.sub'
  | 'f64.mul'
  | 'f64.div';
export type FloatUnary =
  | 'f32.sqrt'
  | 'f64.sqrt'
  | 'f64.promote_f32'
  | 'f32.demote_f64'
  | 'f32.convert_i64_s'
  | 'f64.convert_i64_s'
  | 'i64.trunc_f32_s'
  | 'i64.trunc_f64_s';

export type VectorFloat = `${'f32x4' | 'f64x2'}.${'add' | 'sub' | 'mul' | 'div'}`;

export type VectorOperation =
  | 'v128.and'
  | 'v128.or'
  | 'v128.xor'
  | 'v128.andnot'
  | 'i8x16.add'
  | 'i8x16.sub'
  | 'i16x8.add'
  | 'i16x8.sub'
  | 'i32x4.add'
  | 'i32x4.sub'
  | 'i64x2.add'
  | 'i64x2.sub'
  | 'i8x16.add_sat_s'
  | 'i8x16.add_sat_u'
  | 'i8x16.sub_sat_s'
  | 'i8x16.sub_sat_u'
  | 'i16x8.add_sat_s'
  | 'i16x8.add_sat_u'
  | 'i16x8.sub_sat_s'
  | 'i16x8.sub_sat_u'
  | 'i8x16.eq'
  | 'i16x8.eq'
  | 'i32x4.eq'
  | 'i64x2.eq'
  | 'i8x16.gt_s'
  | 'i16x8.gt_s'
  | 'i32x4.gt_s'
  | 'i8x16.min_u'
  | 'i8x16.max_u'
  | 'i16x8.min_s'
  | 'i16x8.max_s'
  | 'i8x16.avgr_u'
  | 'i16x8.avgr_u'
  | 'i16x8.mul'
  | 'i32x4.mul'
  | 'i32x4.dot_i16x8_s'
  /** Byte i of the result is byte y[i] of x, or 0 when y[i] is above 15. */
  | 'i8x16.swizzle'
  | 'i8x16.narrow_i16x8_s'
  | 'i8x16.narrow_i16x8_u'
  | 'i16x8.narrow_i32x4_s'
  | 'i32x4.extmul_low_i16x8_s'
  | 'i32x4.extmul_high_i16x8_s'
  | 'i32x4.extmul_low_i16x8_u'
  | 'i32x4.extmul_high_i16x8_u';
export type VectorUnary = 'v128.not' | 'i32x4.extend_low_i16x8_s' | 'i32x4.extend_high_i16x8_s';
export type VectorShift =
  | 'i16x8.shl'
  | 'i16x8.shr_s'
  | 'i16x8.shr_u'
  | 'i32x4.shl'
  | 'i32x4.shr_s'
  | 'i32x4.shr_u'
  | 'i64x2.shl'
  | 'i64x2.shr_u';

/** What a micro-operation does. Generic, so that no engine's value type can leak into it. */
export type Meaning = <V, B, X>(s: Semantics<V, B, X>) => void;

export interface MicroOperation {
  readonly name: string;
  readonly meaning: Meaning;
  /** True when the block cannot go on after it (an unconditional jump). */
  readonly ends: boolean;
  /**
   * Field c is the number of the block's instructions behind this one, filled in by the block builder. It is a quick
   * way that is left out where one instruction runs alone.
   */
  readonly counted: boolean;
}

export function microOperation(name: string, meaning: Meaning, ends = false): MicroOperation {
  return { name, meaning, ends, counted: false };
}

export function countedOperation(name: string, meaning: Meaning): MicroOperation {
  return { name, meaning, ends: false, counted: true };
}
