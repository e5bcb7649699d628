import type { Instruction, Row } from '../instruction.ts';
import {
  PERMUTE,
  PERMUTE_PAIR,
  permutation,
  UNPACK_HIGH,
  UNPACK_LOW,
} from '../micro-operations/sse-shuffle.ts';
import type { MicroOperation } from '../semantics.ts';
import { sseRow, vectorReg, vectorSource } from './sse-operand.ts';

/** Four 2-bit numbers of an immediate byte, lowest first. */
function fourFields(immediate: bigint): [number, number, number, number] {
  const byte = Number(immediate & 0xffn);
  return [byte & 3, (byte >> 2) & 3, (byte >> 4) & 3, byte >> 6];
}

/** reg = elements of rm/m128. */
function permute(
  prefix: '66' | 'f3' | 'f2',
  mnemonic: string,
  size: number,
  choose: (fields: [number, number, number, number]) => readonly number[],
): Row {
  return sseRow(
    0x0f70,
    prefix,
    mnemonic,
    (instruction, out) => {
      const source = vectorSource(instruction, out);
      const imm = permutation(size, choose(fourFields(instruction.immediate)));
      out.emit(PERMUTE, { a: vectorReg(instruction), b: source, imm });
    },
    { immediate: 'b' },
  );
}

/** Low half of reg from reg, high half from rm/m128. */
function permutePair(
  prefix: 'np' | '66',
  mnemonic: string,
  size: number,
  choose: (instruction: Instruction) => readonly number[],
): Row {
  return sseRow(
    0x0fc6,
    prefix,
    mnemonic,
    (instruction, out) => {
      const source = vectorSource(instruction, out);
      const target = vectorReg(instruction);
      out.emit(PERMUTE_PAIR, {
        a: target,
        b: target,
        c: source,
        imm: permutation(size, choose(instruction)),
      });
    },
    { immediate: 'b' },
  );
}

function unpack(
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

export const SSE_SHUFFLE_ROWS: readonly Row[] = [
  unpack(0x0f14, 'unpcklps', UNPACK_LOW[4], 'np'),
  unpack(0x0f14, 'unpcklpd', UNPACK_LOW[8]),
  unpack(0x0f15, 'unpckhps', UNPACK_HIGH[4], 'np'),
  unpack(0x0f15, 'unpckhpd', UNPACK_HIGH[8]),
  unpack(0x0f60, 'punpcklbw', UNPACK_LOW[1]),
  unpack(0x0f61, 'punpcklwd', UNPACK_LOW[2]),
  unpack(0x0f62, 'punpckldq', UNPACK_LOW[4]),
  unpack(0x0f68, 'punpckhbw', UNPACK_HIGH[1]),
  unpack(0x0f69, 'punpckhwd', UNPACK_HIGH[2]),
  unpack(0x0f6a, 'punpckhdq', UNPACK_HIGH[4]),
  unpack(0x0f6c, 'punpcklqdq', UNPACK_LOW[8]),
  unpack(0x0f6d, 'punpckhqdq', UNPACK_HIGH[8]),
  permute('66', 'pshufd', 4, (f) => f),
  permute('f2', 'pshuflw', 2, (f) => [...f, 4, 5, 6, 7]),
  permute('f3', 'pshufhw', 2, (f) => [0, 1, 2, 3, ...f.map((x) => x + 4)]),
  permutePair('np', 'shufps', 4, ({ immediate }) => fourFields(immediate)),
  permutePair('66', 'shufpd', 8, ({ immediate }) => [Number(immediate & 1n), Number((immediate >> 1n) & 1n)]),
];
