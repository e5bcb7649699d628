import { assert } from '../base/assert.ts';
import type {
  Field,
  FloatOperation,
  FloatUnary,
  Semantics,
  VectorFloat,
  VectorOperation,
  VectorShift,
  VectorUnary,
} from '../x86/semantics.ts';
import { BLOCK_PC, CONTEXT_WORDS, type CpuState, FLAGS_AUX, FLAGS_RESULT, type Size } from '../x86/state.ts';
import { floatLess, floatOperation, floatUnary } from './oracle-float.ts';
import { vectorFloat, vectorOperation, vectorShift, vectorUnary } from './oracle-vector.ts';

/**
 * The slow and plain reading of the micro-operation language: values are bigint, and what happens, happens at
 * once. Tests compare the other engines with it.
 */

/** Guest memory at linear addresses; undefined or false: a fault is pending in whoever implements this. */
export interface OracleMemory {
  load(size: Size, linear: bigint): bigint | undefined;
  /** Checks as a write would. */
  loadForWrite(size: Size, linear: bigint): bigint | undefined;
  store(size: Size, linear: bigint, value: bigint): boolean;
  /** 128 bits as one access, where the memory tells them from two of 64 (#AC does). */
  loadVector?(linear: bigint): bigint | undefined;
  storeVector?(linear: bigint, value: bigint): boolean;
  /** Instructions that may still be charged; only where blocks run. */
  remaining?(): number;
}

/** How a micro-operation ended. */
export type OracleOutcome =
  | { readonly kind: 'next' }
  /** The record that follows is left out. */
  | { readonly kind: 'skip' }
  /** A branch that was taken, to an address. */
  | { readonly kind: 'jump'; readonly target: bigint }
  /** The memory has a fault pending. */
  | { readonly kind: 'aborted' }
  | { readonly kind: 'fault'; readonly vector: number; readonly errorCode: number | undefined };

/** The fields of a record. */
export interface OracleRecord {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly imm: bigint;
}

/** Thrown through a meaning to leave it; never escapes from `run`. */
class Left extends Error {
  readonly outcome: OracleOutcome;

  constructor(outcome: OracleOutcome) {
    super('left');
    this.outcome = outcome;
  }
}

const NEXT: OracleOutcome = { kind: 'next' };
const NO_RECORD: OracleRecord = { a: 0, b: 0, c: 0, imm: 0n };

function cut(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}

function signed(value: bigint): bigint {
  return BigInt.asIntN(64, value);
}

function bit(value: boolean): bigint {
  return value ? 1n : 0n;
}

export class OracleSemantics implements Semantics<bigint, boolean, bigint> {
  readonly #state: CpuState;
  readonly #memory: OracleMemory;
  #record = NO_RECORD;
  #outcome = NEXT;

  constructor(state: CpuState, memory: OracleMemory) {
    this.#state = state;
    this.#memory = memory;
  }

  /** Runs one micro-operation with the fields of a record. */
  run(meaning: (s: OracleSemantics) => void, record: OracleRecord): OracleOutcome {
    this.#record = record;
    this.#outcome = NEXT;
    try {
      meaning(this);
      return this.#outcome;
    } catch (error) {
      if (error instanceof Left) return error.outcome;
      throw error;
    }
  }

  // ------------------------------------------------------------------------------------------ state

  get(field: Field, size: Size): bigint {
    return this.#state.get(this.#record[field], size);
  }

  getSigned(field: Field, size: Size): bigint {
    return this.signExtend(this.get(field, size), size);
  }

  set(field: Field, size: Size, value: bigint): void {
    this.#state.set(this.#record[field], size, cut(value));
  }

  number(field: Field): bigint {
    return BigInt(this.#record[field]);
  }

  immediate(): bigint {
    return cut(this.#record.imm);
  }

  immediateLow(): bigint {
    return cut(BigInt.asIntN(32, this.#record.imm));
  }

  immediateHigh(): bigint {
    return cut(signed(this.#record.imm) >> 32n);
  }

  state(offset: number, size: Size): bigint {
    return this.#state.get(offset, size);
  }

  setState(offset: number, size: Size, value: bigint): void {
    this.#state.set(offset, size, cut(value));
  }

  // ------------------------------------------------------------------------------------------ arithmetic

  constant(value: bigint | number): bigint {
    return cut(BigInt(value));
  }

  add(x: bigint, y: bigint): bigint {
    return cut(x + y);
  }

  sub(x: bigint, y: bigint): bigint {
    return cut(x - y);
  }

  mul(x: bigint, y: bigint): bigint {
    return cut(x * y);
  }

  divU(x: bigint, y: bigint): bigint {
    assert(y !== 0n, 'the divisor is known to be nonzero');
    return x / y;
  }

  remU(x: bigint, y: bigint): bigint {
    assert(y !== 0n, 'the divisor is known to be nonzero');
    return x % y;
  }

  divS(x: bigint, y: bigint): bigint {
    const quotient = signed(x) / signed(this.#divisor(y));
    assert(quotient === signed(quotient), 'the quotient is known to fit');
    return cut(quotient);
  }

  remS(x: bigint, y: bigint): bigint {
    return cut(signed(x) % signed(this.#divisor(y)));
  }

  #divisor(y: bigint): bigint {
    assert(y !== 0n, 'the divisor is known to be nonzero');
    return y;
  }

  and(x: bigint, y: bigint): bigint {
    return x & y;
  }

  or(x: bigint, y: bigint): bigint {
    return x | y;
  }

  xor(x: bigint, y: bigint): bigint {
    return x ^ y;
  }

  shl(x: bigint, y: bigint): bigint {
    return cut(x << (y & 63n));
  }

  shrU(x: bigint, y: bigint): bigint {
    return x >> (y & 63n);
  }

  shrS(x: bigint, y: bigint): bigint {
    return cut(signed(x) >> (y & 63n));
  }

  rotl(x: bigint, y: bigint): bigint {
    const count = y & 63n;
    return cut(x << count) | (x >> (64n - count));
  }

  rotr(x: bigint, y: bigint): bigint {
    return this.rotl(x, 64n - (y & 63n));
  }

  rotl32(x: bigint, y: bigint): bigint {
    const bits = BigInt.asUintN(32, x);
    const count = y & 31n;
    return BigInt.asUintN(32, (bits << count) | (bits >> (32n - count)));
  }

  rotr32(x: bigint, y: bigint): bigint {
    return this.rotl32(x, 32n - (y & 31n));
  }

  clz(x: bigint): bigint {
    let count = 0n;
    while (count < 64n && ((x >> (63n - count)) & 1n) === 0n) count++;
    return count;
  }

  ctz(x: bigint): bigint {
    let count = 0n;
    while (count < 64n && ((x >> count) & 1n) === 0n) count++;
    return count;
  }

  popcnt(x: bigint): bigint {
    let count = 0n;
    for (let rest = x; rest !== 0n; rest >>= 1n) count += rest & 1n;
    return count;
  }

  signExtend(x: bigint, size: Size): bigint {
    return cut(BigInt.asIntN(size * 8, x));
  }

  zeroExtend(x: bigint, size: Size): bigint {
    return BigInt.asUintN(size * 8, x);
  }

  // ------------------------------------------------------------------------------------------ conditions

  eq(x: bigint, y: bigint): boolean {
    return x === y;
  }

  ne(x: bigint, y: bigint): boolean {
    return x !== y;
  }

  ltU(x: bigint, y: bigint): boolean {
    return x < y;
  }

  ltS(x: bigint, y: bigint): boolean {
    return signed(x) < signed(y);
  }

  isZero(x: bigint): boolean {
    return x === 0n;
  }

  not(x: boolean): boolean {
    return !x;
  }

  bothOf(x: boolean, y: boolean): boolean {
    return x && y;
  }

  eitherOf(x: boolean, y: boolean): boolean {
    return x || y;
  }

  differ(x: boolean, y: boolean): boolean {
    return x !== y;
  }

  value(x: boolean): bigint {
    return bit(x);
  }

  select(condition: boolean, yes: bigint, no: bigint): bigint {
    return condition ? yes : no;
  }

  when(condition: boolean, then: () => void, otherwise?: () => void): void {
    if (condition) then();
    else otherwise?.();
  }

  setFlags(result: bigint, aux: bigint): void {
    this.#state.set64(FLAGS_RESULT, result);
    this.#state.set64(FLAGS_AUX, aux);
  }

  knownCondition(): undefined {
    return undefined;
  }

  putOff(): boolean {
    return false;
  }

  blockMove(): boolean {
    return false;
  }

  // ------------------------------------------------------------------------------------------ memory

  load(size: Size, address: bigint): bigint {
    return this.#loaded(this.#memory.load(size, address));
  }

  loadForWrite(size: Size, address: bigint): bigint {
    return this.#loaded(this.#memory.loadForWrite(size, address));
  }

  store(size: Size, address: bigint, value: bigint): void {
    if (!this.#memory.store(size, address, BigInt.asUintN(size * 8, value))) this.#abort();
  }

  #loaded(value: bigint | undefined): bigint {
    return value === undefined ? this.#abort() : value;
  }

  #abort(): never {
    throw new Left({ kind: 'aborted' });
  }

  loadVector(address: bigint, aligned: boolean): bigint {
    this.#checkAlignment(address, aligned);
    if (this.#memory.loadVector !== undefined) return this.#loaded(this.#memory.loadVector(address));
    return this.load(8, address) | (this.load(8, cut(address + 8n)) << 64n);
  }

  storeVector(address: bigint, value: bigint, aligned: boolean): void {
    this.#checkAlignment(address, aligned);
    if (this.#memory.storeVector !== undefined) {
      if (!this.#memory.storeVector(address, value)) this.#abort();
      return;
    }
    const upper = cut(address + 8n);
    // Both halves must be writable before the first is written.
    this.loadForWrite(8, address);
    this.loadForWrite(8, upper);
    this.store(8, address, BigInt.asUintN(64, value));
    this.store(8, upper, value >> 64n);
  }

  #checkAlignment(address: bigint, aligned: boolean): void {
    if (aligned && (address & 15n) !== 0n) this.fault(13, 0);
  }

  // ------------------------------------------------------------------------------------------ vectors

  getVector(field: Field): bigint {
    const offset = this.#record[field];
    return this.#state.get(offset, 8) | (this.#state.get(offset + 8, 8) << 64n);
  }

  setVector(field: Field, value: bigint): void {
    const offset = this.#record[field];
    this.#state.set(offset, 8, value);
    this.#state.set(offset + 8, 8, value >> 64n);
  }

  vector(low: bigint, high: bigint): bigint {
    return low | (high << 64n);
  }

  vectorConstant(low: bigint, high: bigint): bigint {
    return this.vector(cut(low), cut(high));
  }

  withLowLane(x: bigint, value: bigint): bigint {
    return this.vector(cut(value), x >> 64n);
  }

  anyBit(x: bigint): boolean {
    return x !== 0n;
  }

  vectorFloat(operation: VectorFloat, x: bigint, y: bigint): bigint {
    return vectorFloat(operation, x, y);
  }

  lane(x: bigint, index: 0 | 1): bigint {
    return index === 0 ? cut(x) : x >> 64n;
  }

  vectorOp(operation: VectorOperation, x: bigint, y: bigint): bigint {
    return vectorOperation(operation, x, y);
  }

  vectorUnary(operation: VectorUnary, x: bigint): bigint {
    return vectorUnary(operation, x);
  }

  vectorShift(operation: VectorShift, x: bigint, count: bigint): bigint {
    return vectorShift(operation, x, count);
  }

  shuffle(x: bigint, y: bigint, indices: readonly number[]): bigint {
    const both = x | (y << 128n);
    let result = 0n;
    indices.forEach((index, at) => {
      result |= ((both >> BigInt(index * 8)) & 0xffn) << BigInt(at * 8);
    });
    return result;
  }

  signMask(shape: 'i8x16' | 'i32x4' | 'i64x2', x: bigint): bigint {
    const width = shape === 'i8x16' ? 8 : shape === 'i32x4' ? 32 : 64;
    let mask = 0n;
    for (let index = 0; index < 128 / width; index++) {
      mask |= ((x >> BigInt(index * width + width - 1)) & 1n) << BigInt(index);
    }
    return mask;
  }

  // ------------------------------------------------------------------------------------ floating point

  float(operation: FloatOperation, x: bigint, y: bigint): bigint {
    return floatOperation(operation, x, y);
  }

  floatUnary(operation: FloatUnary, x: bigint): bigint {
    return floatUnary(operation, x);
  }

  floatLess(width: 'f32' | 'f64', x: bigint, y: bigint): boolean {
    return floatLess(width, x, y);
  }

  // ------------------------------------------------------------------------------------------ control

  skipNext(): void {
    this.#outcome = { kind: 'skip' };
  }

  fault(vector: number, errorCode?: number): never {
    throw new Left({ kind: 'fault', vector, errorCode });
  }

  switchContext(): void {
    const { i32 } = this.#state;
    for (const [present, other] of CONTEXT_WORDS) {
      const kept = i32[present >> 2]!;
      i32[present >> 2] = i32[other >> 2]!;
      i32[other >> 2] = kept;
    }
  }

  remaining(): bigint {
    return BigInt(this.#memory.remaining?.() ?? 0);
  }

  pc(offset: bigint): bigint {
    return cut(this.#state.get64(BLOCK_PC) + offset);
  }

  branch(): void {
    this.branchTo(this.pc(this.immediateLow()));
  }

  branchIf(condition: boolean): void {
    if (condition) this.branch();
  }

  branchTo(target: bigint): void {
    this.#outcome = { kind: 'jump', target };
  }
}
