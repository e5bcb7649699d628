import type { Instruction, Lowering, Row } from '../instruction.ts';
import { AND_NOT, type ShiftPair, VECTOR } from '../micro-operations/sse-integer.ts';
import { BYTE_SHIFT, CLEAR_VECTOR } from '../micro-operations/sse-shuffle.ts';
import type { MicroOperation } from '../semantics.ts';
import { PACKED_OPERATIONS, PACKED_SHIFTS } from './packed-integer.ts';
import { sseRow, vectorReg, vectorRm, vectorSource } from './sse-operand.ts';

/** reg = reg operation rm/m128. */
function binary(
  opcode: number,
  mnemonic: string,
  operation: MicroOperation,
  prefix: 'np' | '66' = '66',
): Row {
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    const source = vectorSource(instruction, out);
    const target = vectorReg(instruction);
    out.emit(operation, { a: target, b: target, c: source });
  });
}

/** Shift of register rm by an immediate count (groups 12, 13 and 14). */
function shiftImmediate(opcode: number, digit: number, mnemonic: string, shift: ShiftPair): Row {
  const lower = (instruction: Instruction, out: Lowering): void => {
    const target = vectorRm(instruction);
    const count = Number(instruction.immediate & 0xffn);
    if (count >= shift.width && !shift.signed) {
      out.emit(CLEAR_VECTOR, { a: target });
      return;
    }
    const imm = BigInt(Math.min(count, shift.width - 1));
    out.emit(shift.immediate, { a: target, b: target, imm });
  };
  return sseRow(opcode, '66', mnemonic, lower, { digit, immediate: 'b', operand: 'register' });
}

/** Shift of the whole register by bytes; `direction` is 1 towards the low end. */
function byteShift(digit: number, mnemonic: string, direction: 1 | -1): Row {
  const lower = (instruction: Instruction, out: Lowering): void => {
    const target = vectorRm(instruction);
    const count = Number(instruction.immediate & 0xffn);
    if (count > 15) {
      out.emit(CLEAR_VECTOR, { a: target });
      return;
    }
    const distance = BigInt((count * direction) & 0xff);
    out.emit(BYTE_SHIFT, {
      a: target,
      b: target,
      imm: BigInt.asIntN(64, distance * 0x0101_0101_0101_0101n),
    });
  };
  return sseRow(0x0f73, '66', mnemonic, lower, { digit, immediate: 'b', operand: 'register' });
}

export const SSE_INTEGER_ROWS: readonly Row[] = [
  binary(0x0f54, 'andps', VECTOR['v128.and'], 'np'),
  binary(0x0f54, 'andpd', VECTOR['v128.and']),
  binary(0x0f55, 'andnps', AND_NOT, 'np'),
  binary(0x0f55, 'andnpd', AND_NOT),
  binary(0x0f56, 'orps', VECTOR['v128.or'], 'np'),
  binary(0x0f56, 'orpd', VECTOR['v128.or']),
  binary(0x0f57, 'xorps', VECTOR['v128.xor'], 'np'),
  binary(0x0f57, 'xorpd', VECTOR['v128.xor']),
  binary(0x0f63, 'packsswb', VECTOR['i8x16.narrow_i16x8_s']),
  binary(0x0f67, 'packuswb', VECTOR['i8x16.narrow_i16x8_u']),
  binary(0x0f6b, 'packssdw', VECTOR['i16x8.narrow_i32x4_s']),
  byteShift(3, 'psrldq', 1),
  byteShift(7, 'pslldq', -1),
  ...PACKED_OPERATIONS.map(([opcode, mnemonic, operation]) => binary(opcode, mnemonic, operation)),
  ...PACKED_SHIFTS.map(([opcode, digit, mnemonic, shift]) => shiftImmediate(opcode, digit, mnemonic, shift)),
];
