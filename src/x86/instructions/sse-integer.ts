import type { Instruction, Lowering, Row } from '../instruction.ts';
import {
  AND_NOT,
  MULTIPLY_EVEN,
  MULTIPLY_HIGH_SIGNED,
  MULTIPLY_HIGH_UNSIGNED,
  SHIFT,
  type ShiftPair,
  SUM_OF_DIFFERENCES,
  VECTOR,
} from '../micro-operations/sse-integer.ts';
import { BYTE_SHIFT, CLEAR_VECTOR } from '../micro-operations/sse-shuffle.ts';
import type { MicroOperation } from '../semantics.ts';
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
  binary(0x0f64, 'pcmpgtb', VECTOR['i8x16.gt_s']),
  binary(0x0f65, 'pcmpgtw', VECTOR['i16x8.gt_s']),
  binary(0x0f66, 'pcmpgtd', VECTOR['i32x4.gt_s']),
  binary(0x0f67, 'packuswb', VECTOR['i8x16.narrow_i16x8_u']),
  binary(0x0f6b, 'packssdw', VECTOR['i16x8.narrow_i32x4_s']),
  shiftImmediate(0x0f71, 2, 'psrlw', SHIFT.psrlw),
  shiftImmediate(0x0f71, 4, 'psraw', SHIFT.psraw),
  shiftImmediate(0x0f71, 6, 'psllw', SHIFT.psllw),
  shiftImmediate(0x0f72, 2, 'psrld', SHIFT.psrld),
  shiftImmediate(0x0f72, 4, 'psrad', SHIFT.psrad),
  shiftImmediate(0x0f72, 6, 'pslld', SHIFT.pslld),
  shiftImmediate(0x0f73, 2, 'psrlq', SHIFT.psrlq),
  byteShift(3, 'psrldq', 1),
  shiftImmediate(0x0f73, 6, 'psllq', SHIFT.psllq),
  byteShift(7, 'pslldq', -1),
  binary(0x0f74, 'pcmpeqb', VECTOR['i8x16.eq']),
  binary(0x0f75, 'pcmpeqw', VECTOR['i16x8.eq']),
  binary(0x0f76, 'pcmpeqd', VECTOR['i32x4.eq']),
  binary(0x0fd1, 'psrlw', SHIFT.psrlw.vector),
  binary(0x0fd2, 'psrld', SHIFT.psrld.vector),
  binary(0x0fd3, 'psrlq', SHIFT.psrlq.vector),
  binary(0x0fd4, 'paddq', VECTOR['i64x2.add']),
  binary(0x0fd5, 'pmullw', VECTOR['i16x8.mul']),
  binary(0x0fd8, 'psubusb', VECTOR['i8x16.sub_sat_u']),
  binary(0x0fd9, 'psubusw', VECTOR['i16x8.sub_sat_u']),
  binary(0x0fda, 'pminub', VECTOR['i8x16.min_u']),
  binary(0x0fdb, 'pand', VECTOR['v128.and']),
  binary(0x0fdc, 'paddusb', VECTOR['i8x16.add_sat_u']),
  binary(0x0fdd, 'paddusw', VECTOR['i16x8.add_sat_u']),
  binary(0x0fde, 'pmaxub', VECTOR['i8x16.max_u']),
  binary(0x0fdf, 'pandn', AND_NOT),
  binary(0x0fe0, 'pavgb', VECTOR['i8x16.avgr_u']),
  binary(0x0fe1, 'psraw', SHIFT.psraw.vector),
  binary(0x0fe2, 'psrad', SHIFT.psrad.vector),
  binary(0x0fe3, 'pavgw', VECTOR['i16x8.avgr_u']),
  binary(0x0fe4, 'pmulhuw', MULTIPLY_HIGH_UNSIGNED),
  binary(0x0fe5, 'pmulhw', MULTIPLY_HIGH_SIGNED),
  binary(0x0fe8, 'psubsb', VECTOR['i8x16.sub_sat_s']),
  binary(0x0fe9, 'psubsw', VECTOR['i16x8.sub_sat_s']),
  binary(0x0fea, 'pminsw', VECTOR['i16x8.min_s']),
  binary(0x0feb, 'por', VECTOR['v128.or']),
  binary(0x0fec, 'paddsb', VECTOR['i8x16.add_sat_s']),
  binary(0x0fed, 'paddsw', VECTOR['i16x8.add_sat_s']),
  binary(0x0fee, 'pmaxsw', VECTOR['i16x8.max_s']),
  binary(0x0fef, 'pxor', VECTOR['v128.xor']),
  binary(0x0ff1, 'psllw', SHIFT.psllw.vector),
  binary(0x0ff2, 'pslld', SHIFT.pslld.vector),
  binary(0x0ff3, 'psllq', SHIFT.psllq.vector),
  binary(0x0ff4, 'pmuludq', MULTIPLY_EVEN),
  binary(0x0ff5, 'pmaddwd', VECTOR['i32x4.dot_i16x8_s']),
  binary(0x0ff6, 'psadbw', SUM_OF_DIFFERENCES),
  binary(0x0ff8, 'psubb', VECTOR['i8x16.sub']),
  binary(0x0ff9, 'psubw', VECTOR['i16x8.sub']),
  binary(0x0ffa, 'psubd', VECTOR['i32x4.sub']),
  binary(0x0ffb, 'psubq', VECTOR['i64x2.sub']),
  binary(0x0ffc, 'paddb', VECTOR['i8x16.add']),
  binary(0x0ffd, 'paddw', VECTOR['i16x8.add']),
  binary(0x0ffe, 'paddd', VECTOR['i32x4.add']),
];
