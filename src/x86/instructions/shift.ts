import { SET64 } from '../address.ts';
import { DONE, type Outcome, systemOperation } from '../cpu.ts';
import type { Instruction, Row } from '../instruction.ts';
import { MOVE } from '../micro-operations/move.ts';
import {
  RCL1,
  RCR1,
  ROL,
  ROR,
  SAR,
  SHL,
  SHLD,
  SHR,
  SHRD,
  type ShiftOperation,
} from '../micro-operations/shift.ts';
import { FLAG, RCX, type Size } from '../state.ts';
import { closePlace, modrmRow, openPlace, regOperand, T2, T3, widthOf } from './operand.ts';

/** Shifts and rotates [SDM 2B SAL, RCL, SHLD]. */

type Lower = Row['lower'];
/** Where the count comes from. */
type Count = 'one' | 'immediate' | 'cl';

/** The constant count, masked [SDM 2B SAL]; undefined for CL. */
function constantCount(instruction: Instruction, count: Count, size: Size): number | undefined {
  if (count === 'cl') return undefined;
  return count === 'one' ? 1 : Number(instruction.immediate) & (size === 8 ? 63 : 31);
}

function shift(operation: ShiftOperation, count: Count): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const place = openPlace(instruction, out, size);
    const constant = constantCount(instruction, count, size);
    const fields = { a: place.to, b: place.from };
    if (constant === undefined) out.emit(operation.cl[size], fields);
    else if (constant === 0) out.emit(MOVE[size], fields);
    else out.emit(operation.immediate[size], { ...fields, imm: BigInt(constant) });
    closePlace(place, out, size);
  };
}

/**
 * RCL and RCR: a rotation of 8 * size + 1 bits. b holds the operand (in a temporary), c the count; imm is the
 * size, plus 16 for RCR. OF after more than one step as AMD Zen processors have it, as after one.
 */
export const ROTATE_THROUGH_CARRY = systemOperation('rotate-through-carry', (cpu, b, c, imm): Outcome => {
  const size = Number(imm & 15n) as Size;
  const right = (imm & 16n) !== 0n;
  const { state } = cpu;
  const count = Number(state.get(c, 1)) & (size === 8 ? 63 : 31);
  const width = BigInt(size * 8);
  const x = state.get(b, size);
  if (count === 0) {
    state.set(b, size, x);
    return DONE;
  }
  const flags = state.rflags;
  const turns = BigInt(count) % (width + 1n);
  const whole = x | ((flags & 1n) << width);
  const left = right ? (width + 1n - turns) % (width + 1n) : turns;
  const turned = BigInt.asUintN(size * 8 + 1, (whole << left) | (whole >> (width + 1n - left)));
  const result = BigInt.asUintN(size * 8, turned);
  const carry = turned >> width;
  const sign = result >> (width - 1n);
  const overflow = sign ^ (right ? (result >> (width - 2n)) & 1n : carry);
  state.set(b, size, result);
  state.rflags = (flags & ~BigInt(FLAG.cf | FLAG.of)) | carry | (overflow << 11n);
  return DONE;
});

function rotateThroughCarry(right: boolean, count: Count): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const place = openPlace(instruction, out, size);
    const constant = constantCount(instruction, count, size);
    if (constant === 1 && size === 8) {
      out.emit(right ? RCR1 : RCL1, { a: place.to, b: place.from });
    } else {
      let c = RCX;
      if (constant !== undefined) {
        c = T3;
        out.emit(SET64, { a: T3, imm: BigInt(constant) });
      }
      if (place.to !== place.from) out.emit(MOVE[size], { a: place.to, b: place.from });
      out.call(ROTATE_THROUGH_CARRY, { b: place.to, c, imm: BigInt(size | (right ? 16 : 0)) });
    }
    closePlace(place, out, size);
  };
}

/**
 * SHLD and SHRD of 16 bits, whose counts reach beyond the operand: then the second operand follows twice, CF is 0
 * above 16 and OF as AMD Zen processors have it. b: the operand (temporary), c: count in byte 0 of a temporary,
 * imm: offset of the second operand, plus 0x10000 for SHRD.
 */
export const DOUBLE_SHIFT_16 = systemOperation('double-shift16', (cpu, b, c, imm): Outcome => {
  const { state } = cpu;
  const count = BigInt(Number(state.get(c, 1)) & 31);
  if (count === 0n) return DONE;
  const x = state.get(b, 2);
  const y = state.get(Number(imm & 0xffffn), 2);
  let result: bigint;
  let carry: bigint;
  let overflow: bigint;
  if (imm >> 16n) {
    result = BigInt.asUintN(16, ((y << 32n) | (y << 16n) | x) >> count);
    carry = (x >> (count - 1n)) & 1n;
    overflow = (result >> 15n) ^ ((result >> 14n) & 1n);
  } else {
    result = BigInt.asUintN(16, (((x << 32n) | (y << 16n) | y) << count) >> 32n);
    carry = ((x << count) >> 16n) & 1n;
    overflow = carry ^ (((x << count) >> 15n) & 1n);
  }
  state.set(b, 2, result);
  const kept = state.rflags & ~BigInt(FLAG.cf | FLAG.of | FLAG.sf | FLAG.zf | FLAG.pf | FLAG.af);
  const even = ((0x9669 >> Number((result ^ (result >> 4n)) & 15n)) & 1) !== 0;
  state.rflags =
    kept |
    carry |
    BigInt(FLAG.af | (even ? FLAG.pf : 0) | (result === 0n ? FLAG.zf : 0)) |
    ((result >> 15n) << 7n) |
    (overflow << 11n);
  return DONE;
});

function doubleShift(operation: ShiftOperation<4 | 8>, right: boolean, count: Count): Lower {
  return (instruction, out) => {
    const size = instruction.operandSize;
    const second = regOperand(instruction, size);
    const place = openPlace(instruction, out, size);
    const constant = constantCount(instruction, count, size);
    const fields = { a: place.to, b: place.from };
    if (constant === 0) {
      out.emit(MOVE[size], fields);
    } else if (size !== 2) {
      if (constant === undefined) out.emit(operation.cl[size], { ...fields, c: second });
      else out.emit(operation.immediate[size], { ...fields, c: second, imm: BigInt(constant) });
    } else {
      let c = RCX;
      if (constant !== undefined) {
        c = T3;
        out.emit(SET64, { a: T3, imm: BigInt(constant) });
      }
      // The operand may be CX or the second operand itself: work on a copy.
      out.emit(MOVE[2], { a: T2, b: place.from });
      out.call(DOUBLE_SHIFT_16, { b: T2, c, imm: BigInt(second | (right ? 0x10000 : 0)) });
      out.emit(MOVE[2], { a: place.to, b: T2 });
    }
    closePlace(place, out, size);
  };
}

const ROTATIONS: readonly (readonly [number, string, (count: Count) => Lower])[] = [
  [0, 'rol', (count) => shift(ROL, count)],
  [1, 'ror', (count) => shift(ROR, count)],
  [2, 'rcl', (count) => rotateThroughCarry(false, count)],
  [3, 'rcr', (count) => rotateThroughCarry(true, count)],
  [4, 'shl', (count) => shift(SHL, count)],
  [5, 'shr', (count) => shift(SHR, count)],
  // /6 is a second name of SHL on every processor.
  [6, 'shl', (count) => shift(SHL, count)],
  [7, 'sar', (count) => shift(SAR, count)],
];

export const SHIFT_ROWS: readonly Row[] = [
  ...ROTATIONS.flatMap(([digit, mnemonic, lower]) => [
    modrmRow(0xc0, mnemonic, lower('immediate'), { digit, immediate: 'b' }),
    modrmRow(0xc1, mnemonic, lower('immediate'), { digit, immediate: 'b' }),
    modrmRow(0xd0, mnemonic, lower('one'), { digit }),
    modrmRow(0xd1, mnemonic, lower('one'), { digit }),
    modrmRow(0xd2, mnemonic, lower('cl'), { digit }),
    modrmRow(0xd3, mnemonic, lower('cl'), { digit }),
  ]),
  modrmRow(0x0fa4, 'shld', doubleShift(SHLD, false, 'immediate'), { immediate: 'b' }),
  modrmRow(0x0fa5, 'shld', doubleShift(SHLD, false, 'cl')),
  modrmRow(0x0fac, 'shrd', doubleShift(SHRD, true, 'immediate'), { immediate: 'b' }),
  modrmRow(0x0fad, 'shrd', doubleShift(SHRD, true, 'cl')),
];
