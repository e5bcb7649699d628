import { emitLinearAddress } from '../address.ts';
import { systemOperation } from '../cpu.ts';
import { F32, F64, type FloatFormat } from '../float/format.ts';
import { floatToIntegers, integerToFloat } from '../float/sse-convert.ts';
import type { Row } from '../instruction.ts';
import { MMX_CHECK, MMX_ENTER, MMX_LEAVE } from '../micro-operations/mmx.ts';
import { type ShiftPair, VECTOR } from '../micro-operations/sse-integer.ts';
import {
  EXTRACT16,
  INSERT16,
  LOAD_VECTOR16,
  LOAD_VECTOR32,
  LOAD_VECTOR64,
  MOVE_LOW_HALF,
  SIGN_MASK8,
  STORE_LOW_HALF,
  STORE_LOW32,
  VECTOR_FROM32,
  VECTOR_FROM64,
  VECTOR_TO32,
  VECTOR_TO64,
} from '../micro-operations/sse-move.ts';
import {
  BYTE_SHIFT,
  CLEAR_VECTOR,
  PERMUTE,
  permutation,
  UNPACK_LOW,
} from '../micro-operations/sse-shuffle.ts';
import type { MicroOperation } from '../semantics.ts';
import { TEMP } from '../state.ts';
import {
  FIRST,
  mmxReadRow,
  mmxRow,
  RESULT,
  readReg,
  readRm,
  readSource,
  SECOND,
  writeReg,
  writeRm,
} from './mmx-operand.ts';
import { PACKED_OPERATIONS, PACKED_SHIFTS } from './packed-integer.ts';
import { maskedStore } from './sse-move.ts';
import {
  emitMemory,
  generalReg,
  generalRm,
  scalarSource,
  sseRow,
  vectorReg,
  vectorRm,
  vectorSource,
} from './sse-operand.ts';

/** MMX, and what SSE and SSE2 added for its registers. */

/** reg = reg operation mm/m64; the low half of the vector operation's result. */
function binary(opcode: number, mnemonic: string, operation: MicroOperation): Row {
  return mmxRow(opcode, mnemonic, (instruction, out) => {
    readReg(instruction, out);
    readSource(instruction, out);
    out.emit(operation, { a: RESULT, b: FIRST, c: SECOND });
    writeReg(instruction, out);
  });
}

/** Narrows reg and mm/m64 into one register: as one vector, they are the halves. */
function pack(opcode: number, mnemonic: string, operation: MicroOperation): Row {
  return mmxRow(opcode, mnemonic, (instruction, out) => {
    readReg(instruction, out);
    readSource(instruction, out);
    out.emit(UNPACK_LOW[8], { a: FIRST, b: FIRST, c: SECOND });
    out.emit(operation, { a: RESULT, b: FIRST, c: FIRST });
    writeReg(instruction, out);
  });
}

/** The low halves of reg and mm/m32 interleaved. */
function unpackLow(opcode: number, mnemonic: string, operation: MicroOperation): Row {
  return mmxRow(opcode, mnemonic, (instruction, out) => {
    readReg(instruction, out);
    readSource(instruction, out, 4);
    out.emit(operation, { a: RESULT, b: FIRST, c: SECOND });
    writeReg(instruction, out);
  });
}

/** The high halves of reg and mm/m64: the upper half of what interleaving all of them gives. */
function unpackHigh(opcode: number, mnemonic: string, operation: MicroOperation): Row {
  return mmxRow(opcode, mnemonic, (instruction, out) => {
    readReg(instruction, out);
    readSource(instruction, out);
    out.emit(operation, { a: RESULT, b: FIRST, c: SECOND });
    out.emit(BYTE_SHIFT, { a: RESULT, b: RESULT, imm: 0x0808_0808_0808_0808n });
    writeReg(instruction, out);
  });
}

/** Shift of register rm by an immediate count (groups 12, 13 and 14). */
function shiftImmediate(opcode: number, digit: number, mnemonic: string, shift: ShiftPair): Row {
  return mmxRow(
    opcode,
    mnemonic,
    (instruction, out) => {
      const count = Number(instruction.immediate & 0xffn);
      if (count >= shift.width && !shift.signed) {
        out.emit(CLEAR_VECTOR, { a: RESULT });
      } else {
        readRm(instruction, out, FIRST);
        const imm = BigInt(Math.min(count, shift.width - 1));
        out.emit(shift.immediate, { a: RESULT, b: FIRST, imm });
      }
      writeRm(instruction, out);
    },
    { digit, immediate: 'b', operand: 'register' },
  );
}

/** mm/m64 = reg. */
function store(opcode: number, mnemonic: string, more: Partial<Row> = {}): Row {
  return mmxRow(
    opcode,
    mnemonic,
    (instruction, out) => {
      readReg(instruction, out);
      if (instruction.memory === undefined) {
        writeRm(instruction, out, FIRST);
      } else {
        emitMemory(instruction, out, STORE_LOW_HALF, FIRST);
        out.emit(MMX_ENTER);
      }
    },
    more,
  );
}

const MASKMOVQ = maskedStore('maskmovq', 8);

const MOVES: readonly Row[] = [
  mmxRow(0x0f6e, 'movd', (instruction, out) => {
    const wide = instruction.rexW;
    if (instruction.memory !== undefined) {
      emitMemory(instruction, out, wide ? LOAD_VECTOR64 : LOAD_VECTOR32, RESULT);
    } else {
      out.emit(wide ? VECTOR_FROM64 : VECTOR_FROM32, { a: RESULT, b: generalRm(instruction) });
    }
    writeReg(instruction, out);
  }),
  mmxRow(0x0f6f, 'movq', (instruction, out) => {
    readSource(instruction, out);
    writeReg(instruction, out, SECOND);
  }),
  mmxReadRow(0x0f7e, 'movd', (instruction, out) => {
    const wide = instruction.rexW;
    readReg(instruction, out);
    if (instruction.memory !== undefined) {
      emitMemory(instruction, out, wide ? STORE_LOW_HALF : STORE_LOW32, FIRST);
    } else {
      out.emit(wide ? VECTOR_TO64 : VECTOR_TO32, { a: generalRm(instruction), b: FIRST });
    }
  }),
  store(0x0f7f, 'movq'),
  store(0x0fe7, 'movntq', { operand: 'memory' }),
  mmxRow(
    0x0fc4,
    'pinsrw',
    (instruction, out) => {
      if (instruction.memory !== undefined) emitMemory(instruction, out, LOAD_VECTOR16, SECOND);
      else out.emit(VECTOR_FROM32, { a: SECOND, b: generalRm(instruction) });
      readReg(instruction, out);
      out.emit(INSERT16, { a: RESULT, b: SECOND, imm: instruction.immediate & 3n });
      writeReg(instruction, out);
    },
    { immediate: 'b' },
  ),
  mmxReadRow(
    0x0fc5,
    'pextrw',
    (instruction, out) => {
      readRm(instruction, out, FIRST);
      out.emit(EXTRACT16, { a: generalReg(instruction), b: FIRST, imm: instruction.immediate & 3n });
    },
    { immediate: 'b', operand: 'register' },
  ),
  mmxReadRow(
    0x0fd7,
    'pmovmskb',
    (instruction, out) => {
      readRm(instruction, out, FIRST);
      out.emit(SIGN_MASK8, { a: generalReg(instruction), b: FIRST });
    },
    { operand: 'register' },
  ),
  mmxRow(
    0x0ff7,
    'maskmovq',
    (instruction, out) => {
      readReg(instruction, out);
      readRm(instruction, out, SECOND);
      emitLinearAddress(instruction, out, TEMP);
      // The x87 unit changes even when the store faults: so processors do.
      out.emit(MMX_ENTER);
      out.call(MASKMOVQ, { b: FIRST, c: SECOND, imm: BigInt(TEMP) });
    },
    { operand: 'register' },
  ),
  mmxReadRow(
    0x0fd6,
    'movq2dq',
    (instruction, out) => {
      readRm(instruction, out, FIRST);
      out.emit(MOVE_LOW_HALF, { a: vectorReg(instruction), b: FIRST });
    },
    { prefix: 'f3', operand: 'register', unit: 'sse' },
  ),
  mmxRow(0x0fd6, 'movdq2q', (instruction, out) => writeReg(instruction, out, vectorRm(instruction)), {
    prefix: 'f2',
    operand: 'register',
    unit: 'sse',
  }),
  mmxRow(
    0x0f70,
    'pshufw',
    (instruction, out) => {
      readSource(instruction, out);
      const byte = Number(instruction.immediate & 0xffn);
      const chosen = [byte & 3, (byte >> 2) & 3, (byte >> 4) & 3, byte >> 6, 4, 5, 6, 7];
      out.emit(PERMUTE, { a: RESULT, b: SECOND, imm: permutation(2, chosen) });
      writeReg(instruction, out);
    },
    { immediate: 'b' },
  ),
  {
    opcode: 0x0f77,
    mnemonic: 'emms',
    modrm: false,
    immediate: 'none',
    prefix: 'np',
    unit: 'mmx',
    lower: (_instruction, out) => {
      out.emit(MMX_CHECK);
      out.emit(MMX_LEAVE);
    },
  },
];

/**
 * CVTPI2PS and CVTPI2PD: two integers of mm/m64 to floating point. With memory, no MM register takes part: the x87
 * unit stays as it is. Processors change it before they report a floating-point exception, here and below.
 */
function fromIntegers(prefix: 'np' | '66', mnemonic: string, format: FloatFormat): Row {
  const operation = systemOperation(mnemonic, integerToFloat(4, format, 2));
  return sseRow(0x0f2a, prefix, mnemonic, (instruction, out) => {
    if (instruction.memory === undefined) out.emit(MMX_CHECK);
    readSource(instruction, out);
    if (instruction.memory === undefined) out.emit(MMX_ENTER);
    out.call(operation, { b: vectorReg(instruction), c: SECOND });
  });
}

/** CVTPS2PI, CVTPD2PI and the truncating forms. */
function toIntegers(opcode: number, mnemonic: string, format: FloatFormat, truncate: boolean): Row {
  const operation = systemOperation(mnemonic, floatToIntegers(format, 2, truncate));
  const single = format === F32;
  return mmxRow(
    opcode,
    mnemonic,
    (instruction, out) => {
      const c = single ? scalarSource(instruction, out, 8) : vectorSource(instruction, out);
      out.emit(MMX_ENTER);
      out.call(operation, { b: SECOND, c });
      writeReg(instruction, out, SECOND);
    },
    { prefix: single ? 'np' : '66', unit: 'sse' },
  );
}

const CONVERSIONS: readonly Row[] = [
  fromIntegers('np', 'cvtpi2ps', F32),
  fromIntegers('66', 'cvtpi2pd', F64),
  toIntegers(0x0f2c, 'cvttps2pi', F32, true),
  toIntegers(0x0f2c, 'cvttpd2pi', F64, true),
  toIntegers(0x0f2d, 'cvtps2pi', F32, false),
  toIntegers(0x0f2d, 'cvtpd2pi', F64, false),
];

const ARITHMETIC: readonly Row[] = [
  unpackLow(0x0f60, 'punpcklbw', UNPACK_LOW[1]),
  unpackLow(0x0f61, 'punpcklwd', UNPACK_LOW[2]),
  unpackLow(0x0f62, 'punpckldq', UNPACK_LOW[4]),
  pack(0x0f63, 'packsswb', VECTOR['i8x16.narrow_i16x8_s']),
  pack(0x0f67, 'packuswb', VECTOR['i8x16.narrow_i16x8_u']),
  unpackHigh(0x0f68, 'punpckhbw', UNPACK_LOW[1]),
  unpackHigh(0x0f69, 'punpckhwd', UNPACK_LOW[2]),
  unpackHigh(0x0f6a, 'punpckhdq', UNPACK_LOW[4]),
  pack(0x0f6b, 'packssdw', VECTOR['i16x8.narrow_i32x4_s']),
  ...PACKED_OPERATIONS.map(([opcode, mnemonic, operation]) => binary(opcode, mnemonic, operation)),
  ...PACKED_SHIFTS.map(([opcode, digit, mnemonic, shift]) => shiftImmediate(opcode, digit, mnemonic, shift)),
];

export const MMX_ROWS: readonly Row[] = [...MOVES, ...ARITHMETIC, ...CONVERSIONS];
