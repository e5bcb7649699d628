import { emitOffset, emitOperandAddress, SET64 } from '../address.ts';
import type { Instruction, Lowering, MemoryOperand, Row } from '../instruction.ts';
import {
  BIT_MASK,
  BIT_STRING_ADDRESS,
  BIT_TEST,
  BIT_TEST_IMMEDIATE,
  BITS_COMPLEMENT,
  BITS_RESET,
  BITS_SET,
  SCAN_FORWARD,
  SCAN_REVERSE,
} from '../micro-operations/bit.ts';
import type { BySize } from '../micro-operations/by-size.ts';
import { LOAD, LOAD_FOR_WRITE, LOAD_ZERO, MOVE, MOVE_SIGNED_TO64, STORE } from '../micro-operations/move.ts';
import type { MicroOperation } from '../semantics.ts';
import { ZERO } from '../state.ts';
import { modrmRow, regOperand, rmRegister, source, T0, T1, T2, T3, T3_AS_REGISTER } from './operand.ts';

/** Bit tests and scans [SDM 2A BT, BSF]. */

type Lower = Row['lower'];

/**
 * BT (no `change`), BTS, BTR, BTC. With a bit offset in a register, memory is a bit string that reaches as far
 * as the offset does, in both directions; an immediate offset stays inside the operand.
 */
function bitTest(change: MicroOperation | undefined, immediateForm: boolean): Lower {
  return (instruction, out) => {
    const size = instruction.operandSize;
    const bits = size * 8;
    const imm = BigInt(bits - 1);
    const constant = immediateForm ? instruction.immediate & imm : undefined;
    const index = regOperand(instruction, size);
    let value = rmRegister(instruction, size);
    const address = { b: ZERO, c: ZERO, low: 0, high: 0 };
    if (instruction.memory !== undefined) {
      address.b =
        constant === undefined
          ? emitBitStringAddress(instruction, out, index)
          : emitOperandAddress(instruction, out);
      if (change !== undefined) out.emit32(LOAD_FOR_WRITE[size], { a: T0, ...address });
      else out.emit32(size === 2 ? LOAD_ZERO[2] : LOAD[size], { a: T0, ...address });
      value = T0;
    }
    if (change !== undefined) {
      if (constant !== undefined) out.emit(SET64, { a: T1, imm: 1n << constant });
      else out.emit(BIT_MASK, { a: T1, b: index, imm });
      out.emit(change, { a: T1, b: value, c: T1 });
    }
    const test = () => {
      if (constant !== undefined) out.emit(BIT_TEST_IMMEDIATE, { b: value, imm: constant });
      else out.emit(BIT_TEST, { b: value, c: index, imm });
    };
    if (change !== undefined && instruction.memory !== undefined) {
      out.emit32(STORE[size], { a: T1, ...address });
      test();
    } else {
      test();
      if (change !== undefined) out.emit(MOVE[size], { a: value, b: T1 });
    }
  };
}

/** The temporary with the linear address of the element that holds the bit; the offset wraps as addresses do. */
function emitBitStringAddress(instruction: Instruction, out: Lowering, index: number): number {
  const size = instruction.operandSize;
  let c = index;
  if (size !== 8) {
    out.emit(MOVE_SIGNED_TO64[size], { a: T2, b: index });
    c = T2;
  }
  const log = size === 2 ? 1 : size === 4 ? 2 : 3;
  emitOffset(instruction, out, T3);
  out.emit32(BIT_STRING_ADDRESS, { a: T3, b: T3, c, low: log + 3, high: log });
  const memory: MemoryOperand = {
    base: T3_AS_REGISTER,
    index: undefined,
    scale: 0,
    displacement: 0,
    absolute: undefined,
    ripRelative: false,
    segment: instruction.memory!.segment,
  };
  return emitOperandAddress({ ...instruction, memory }, out);
}

/** TZCNT and LZCNT, which this processor does not offer, execute as BSF and BSR. */
function scan(operation: BySize<2 | 4 | 8>): Lower {
  return (instruction, out) => {
    const size = instruction.operandSize;
    out.emit(operation[size], { a: regOperand(instruction, size), b: source(instruction, out, size) });
  };
}

const CHANGES: readonly (readonly [number, string, MicroOperation | undefined])[] = [
  [4, 'bt', undefined],
  [5, 'bts', BITS_SET],
  [6, 'btr', BITS_RESET],
  [7, 'btc', BITS_COMPLEMENT],
];

export const BIT_ROWS: readonly Row[] = [
  ...CHANGES.flatMap(([digit, mnemonic, change]) => {
    const lockable = change !== undefined;
    return [
      modrmRow(0x0f83 + digit * 8, mnemonic, bitTest(change, false), { lockable }),
      modrmRow(0x0fba, mnemonic, bitTest(change, true), { digit, lockable, immediate: 'b' }),
    ];
  }),
  modrmRow(0x0fbc, 'bsf', scan(SCAN_FORWARD)),
  modrmRow(0x0fbd, 'bsr', scan(SCAN_REVERSE)),
];
