import type { Instruction, Lowering } from './instruction.ts';
import { microOperation, type Semantics } from './semantics.ts';
import {
  ACCESS_SEGMENT,
  BLOCK_PC,
  GPR,
  SEGMENT,
  SEGMENT_BASE,
  type SegmentName,
  TEMP,
  ZERO,
} from './state.ts';

/**
 * Effective addresses [SDM 1 3.7.5]. Every micro-operation that touches memory takes its address the same way:
 * field b is the base, field c the index, the low immediate the displacement, the high one the scale.
 */
export function effectiveAddress<V, B, X>(s: Semantics<V, B, X>): V {
  return s.add(s.add(s.get('b', 8), s.shl(s.get('c', 8), s.immediateHigh())), s.immediateLow());
}

/** Fields of a memory micro-operation; the caller adds `a`. */
export interface AddressFields {
  readonly b: number;
  readonly c: number;
  readonly low: number;
  readonly high: number;
}

/** The temporary that holds an address which does not fit base + index * scale + displacement. */
export const ADDRESS_TEMP = TEMP + 7 * 8;
/** The same for an address in the stack segment: what is #GP elsewhere is #SS there. */
export const STACK_ADDRESS_TEMP = TEMP + 6 * 8;

/** a = effective address, 64 bits. */
export const LEA64 = microOperation('lea64', (s) => s.set('a', 8, effectiveAddress(s)));
/** a = effective address modulo 2^32. */
export const LEA32 = microOperation('lea32', (s) => s.set('a', 4, effectiveAddress(s)));
/** a = effective address modulo 2^16, zero-extended. */
export const LEA16 = microOperation('lea16', (s) => s.set('a', 8, s.zeroExtend(effectiveAddress(s), 2)));
/** a = b + c, 64 bits: adds a segment base. */
const ADD_BASE = microOperation('add-base64', (s) => s.set('a', 8, s.add(s.get('b', 8), s.get('c', 8))));
/** a = (b + c) modulo 2^32. */
const ADD_BASE32 = microOperation('add-base32', (s) => s.set('a', 4, s.add(s.get('b', 8), s.get('c', 8))));
/** a = immediate. */
export const SET64 = microOperation('set64', (s) => s.set('a', 8, s.immediate()));

/** The next access goes through the segment whose number is the immediate. */
export const NAME_SEGMENT = microOperation('name-segment', (s) =>
  s.setState(ACCESS_SEGMENT, 4, s.immediate()),
);

const GP = 13;

/** Outside 64-bit code: before an access through this segment. */
function emitSegment(segment: SegmentName, out: Lowering): void {
  if (out.isNull(segment)) out.fault(GP, 0);
  if (out.checksSegments) out.emit(NAME_SEGMENT, { imm: BigInt(SEGMENT[segment]) });
}

function fields(instruction: Instruction, out: Lowering): AddressFields {
  const memory = instruction.memory!;
  if (memory.ripRelative) {
    return { b: BLOCK_PC, c: ZERO, low: (out.nextOffset + memory.displacement) | 0, high: 0 };
  }
  return {
    b: memory.base === undefined ? ZERO : GPR + memory.base * 8,
    c: memory.index === undefined ? ZERO : GPR + memory.index * 8,
    low: memory.displacement,
    high: memory.scale,
  };
}

/** Does the distance from BLOCK_PC, not from the instruction, still fit a displacement? */
function reachable(instruction: Instruction, out: Lowering): boolean {
  const distance = out.nextOffset + instruction.memory!.displacement;
  return distance === (distance | 0);
}

/** The offset within the segment, as LEA gives it; written to `target` as a 64-bit value cut to the address size. */
export function emitOffset(instruction: Instruction, out: Lowering, target: number): void {
  const memory = instruction.memory!;
  if (memory.absolute !== undefined) {
    out.emit(SET64, { a: target, imm: memory.absolute });
    return;
  }
  if (memory.ripRelative && !reachable(instruction, out)) {
    out.emit(SET64, { a: target, imm: BigInt(out.nextOffset + memory.displacement) });
    out.emit(instruction.addressSize === 8 ? ADD_BASE : ADD_BASE32, { a: target, b: target, c: BLOCK_PC });
    return;
  }
  const lea = instruction.addressSize === 8 ? LEA64 : instruction.addressSize === 4 ? LEA32 : LEA16;
  out.emit32(lea, { a: target, ...fields(instruction, out) });
}

/** Emits what is needed to form the linear address of the memory operand and returns the fields that name it. */
export function linearAddress(instruction: Instruction, out: Lowering): AddressFields {
  const memory = instruction.memory!;
  const long = instruction.codeSize === 64;
  const based = !long || memory.segment === 'fs' || memory.segment === 'gs';
  const inRange = !memory.ripRelative || reachable(instruction, out);
  if (!based && instruction.addressSize === 8 && memory.absolute === undefined && inRange) {
    return fields(instruction, out);
  }
  const address = memory.segment === 'ss' ? STACK_ADDRESS_TEMP : ADDRESS_TEMP;
  emitOffset(instruction, out, address);
  if (!long) emitSegment(memory.segment, out);
  if (based) {
    const base = SEGMENT_BASE + SEGMENT[memory.segment] * 8;
    out.emit(long ? ADD_BASE : ADD_BASE32, { a: address, b: address, c: base });
  }
  return { b: address, c: ZERO, low: 0, high: 0 };
}

/** The linear address alone, in a temporary that tells whether it is in the stack segment: the `b` of a call. */
export function emitOperandAddress(instruction: Instruction, out: Lowering): number {
  const target = instruction.memory!.segment === 'ss' ? STACK_ADDRESS_TEMP : ADDRESS_TEMP;
  emitLinearAddress(instruction, out, target);
  return target;
}

/** The linear address alone, in `target`: for slow-path code that takes an address from the state. */
export function emitLinearAddress(instruction: Instruction, out: Lowering, target: number): void {
  out.emit32(LEA64, { a: target, ...linearAddress(instruction, out) });
}

export const ADDRESS_OPERATIONS = [LEA64, LEA32, LEA16, ADD_BASE, ADD_BASE32, SET64, NAME_SEGMENT];
