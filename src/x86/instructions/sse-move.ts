import { emitLinearAddress } from '../address.ts';
import { ABORTED, type Cpu, DONE, type Outcome, type SystemOperation, systemOperation } from '../cpu.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import {
  EXTRACT16,
  INSERT16,
  LOAD_HIGH_HALF,
  LOAD_LOW_HALF,
  LOAD_VECTOR,
  LOAD_VECTOR_ALIGNED,
  LOAD_VECTOR16,
  LOAD_VECTOR32,
  LOAD_VECTOR64,
  MERGE_LOW_HALF,
  MERGE_LOW32,
  MOVE_LOW_HALF,
  MOVE_VECTOR,
  SIGN_MASK8,
  SIGN_MASK32,
  SIGN_MASK64,
  STORE_HIGH_HALF,
  STORE_LOW_HALF,
  STORE_LOW32,
  STORE_VECTOR,
  STORE_VECTOR_ALIGNED,
  VECTOR_FROM32,
  VECTOR_FROM64,
  VECTOR_TO32,
  VECTOR_TO64,
} from '../micro-operations/sse-move.ts';
import { UNPACK_HIGH, UNPACK_LOW } from '../micro-operations/sse-shuffle.ts';
import type { MicroOperation } from '../semantics.ts';
import { TEMP, XMM_TEMP } from '../state.ts';
import { emitMemory, generalReg, generalRm, sseRow, vectorReg, vectorRm } from './sse-operand.ts';

type Prefix = NonNullable<Row['prefix']>;

/** reg = rm, where rm is a register (through `move`) or memory (through `load`). */
function load(
  opcode: number,
  prefix: Prefix,
  mnemonic: string,
  move: MicroOperation,
  from: MicroOperation,
): Row {
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    if (instruction.memory !== undefined) emitMemory(instruction, out, from, vectorReg(instruction));
    else out.emit(move, { a: vectorReg(instruction), b: vectorRm(instruction) });
  });
}
/** rm = reg. */
function store(
  opcode: number,
  prefix: Prefix,
  mnemonic: string,
  move: MicroOperation,
  to: MicroOperation,
): Row {
  return sseRow(opcode, prefix, mnemonic, (instruction, out) => {
    if (instruction.memory !== undefined) emitMemory(instruction, out, to, vectorReg(instruction));
    else out.emit(move, { a: vectorRm(instruction), b: vectorReg(instruction) });
  });
}
function memoryOnly(opcode: number, prefix: Prefix, mnemonic: string, operation: MicroOperation): Row {
  return sseRow(
    opcode,
    prefix,
    mnemonic,
    (instruction, out) => emitMemory(instruction, out, operation, vectorReg(instruction)),
    { operand: 'memory' },
  );
}
/** General register reg = something about vector register rm. */
function toGeneral(opcode: number, prefix: Prefix, mnemonic: string, operation: MicroOperation): Row {
  return sseRow(
    opcode,
    prefix,
    mnemonic,
    (instruction, out) => out.emit(operation, { a: generalReg(instruction), b: vectorRm(instruction) }),
    { operand: 'register' },
  );
}

function lowerMovdToVector(instruction: Instruction, out: Lowering): void {
  const wide = instruction.rexW;
  if (instruction.memory !== undefined) {
    emitMemory(instruction, out, wide ? LOAD_VECTOR64 : LOAD_VECTOR32, vectorReg(instruction));
  } else {
    const operation = wide ? VECTOR_FROM64 : VECTOR_FROM32;
    out.emit(operation, { a: vectorReg(instruction), b: generalRm(instruction) });
  }
}
function lowerMovdFromVector(instruction: Instruction, out: Lowering): void {
  const wide = instruction.rexW;
  if (instruction.memory !== undefined) {
    emitMemory(instruction, out, wide ? STORE_LOW_HALF : STORE_LOW32, vectorReg(instruction));
  } else {
    out.emit(wide ? VECTOR_TO64 : VECTOR_TO32, { a: generalRm(instruction), b: vectorReg(instruction) });
  }
}

/**
 * Stores the bytes of vector b whose mask bytes in vector c have the sign set, at the address in temporary imm.
 * Processors may or may not check what the mask leaves out; as on AMD's, all of the operand must be writable.
 */
export function maskedStore(name: string, length: 8 | 16): SystemOperation {
  return systemOperation(name, (cpu: Cpu, b, c, imm): Outcome => {
    const { state } = cpu;
    const start = state.get64(Number(imm));
    if (!cpu.probe(start, length, 'write')) return ABORTED;
    for (let i = 0; i < length; i++) {
      if ((state.bytes[c + i]! & 0x80) === 0) continue;
      const address = BigInt.asUintN(64, start + BigInt(i));
      if (!cpu.store(1, address, BigInt(state.bytes[b + i]!))) return ABORTED;
    }
    return DONE;
  });
}
const MASKMOVDQU = maskedStore('maskmovdqu', 16);
function lowerMaskmovdqu(instruction: Instruction, out: Lowering): void {
  emitLinearAddress(instruction, out, TEMP);
  out.call(MASKMOVDQU, { b: vectorReg(instruction), c: vectorRm(instruction), imm: BigInt(TEMP) });
}

export const SSE_MOVE_ROWS: readonly Row[] = [
  load(0x0f10, 'np', 'movups', MOVE_VECTOR, LOAD_VECTOR),
  load(0x0f10, '66', 'movupd', MOVE_VECTOR, LOAD_VECTOR),
  load(0x0f10, 'f3', 'movss', MERGE_LOW32, LOAD_VECTOR32),
  load(0x0f10, 'f2', 'movsd', MERGE_LOW_HALF, LOAD_VECTOR64),
  store(0x0f11, 'np', 'movups', MOVE_VECTOR, STORE_VECTOR),
  store(0x0f11, '66', 'movupd', MOVE_VECTOR, STORE_VECTOR),
  store(0x0f11, 'f3', 'movss', MERGE_LOW32, STORE_LOW32),
  store(0x0f11, 'f2', 'movsd', MERGE_LOW_HALF, STORE_LOW_HALF),
  // Without memory, 0F 12 and 0F 16 move between halves.
  sseRow(0x0f12, 'np', 'movlps', (instruction, out) => {
    const target = vectorReg(instruction);
    if (instruction.memory !== undefined) emitMemory(instruction, out, LOAD_LOW_HALF, target);
    else out.emit(UNPACK_HIGH[8], { a: target, b: vectorRm(instruction), c: target });
  }),
  memoryOnly(0x0f12, '66', 'movlpd', LOAD_LOW_HALF),
  memoryOnly(0x0f13, 'np', 'movlps', STORE_LOW_HALF),
  memoryOnly(0x0f13, '66', 'movlpd', STORE_LOW_HALF),
  sseRow(0x0f16, 'np', 'movhps', (instruction, out) => {
    const target = vectorReg(instruction);
    if (instruction.memory !== undefined) emitMemory(instruction, out, LOAD_HIGH_HALF, target);
    else out.emit(UNPACK_LOW[8], { a: target, b: target, c: vectorRm(instruction) });
  }),
  memoryOnly(0x0f16, '66', 'movhpd', LOAD_HIGH_HALF),
  memoryOnly(0x0f17, 'np', 'movhps', STORE_HIGH_HALF),
  memoryOnly(0x0f17, '66', 'movhpd', STORE_HIGH_HALF),
  load(0x0f28, 'np', 'movaps', MOVE_VECTOR, LOAD_VECTOR_ALIGNED),
  load(0x0f28, '66', 'movapd', MOVE_VECTOR, LOAD_VECTOR_ALIGNED),
  store(0x0f29, 'np', 'movaps', MOVE_VECTOR, STORE_VECTOR_ALIGNED),
  store(0x0f29, '66', 'movapd', MOVE_VECTOR, STORE_VECTOR_ALIGNED),
  memoryOnly(0x0f2b, 'np', 'movntps', STORE_VECTOR_ALIGNED),
  memoryOnly(0x0f2b, '66', 'movntpd', STORE_VECTOR_ALIGNED),
  toGeneral(0x0f50, 'np', 'movmskps', SIGN_MASK32),
  toGeneral(0x0f50, '66', 'movmskpd', SIGN_MASK64),
  sseRow(0x0f6e, '66', 'movd', lowerMovdToVector),
  load(0x0f6f, '66', 'movdqa', MOVE_VECTOR, LOAD_VECTOR_ALIGNED),
  load(0x0f6f, 'f3', 'movdqu', MOVE_VECTOR, LOAD_VECTOR),
  sseRow(0x0f7e, '66', 'movd', lowerMovdFromVector),
  load(0x0f7e, 'f3', 'movq', MOVE_LOW_HALF, LOAD_VECTOR64),
  store(0x0f7f, '66', 'movdqa', MOVE_VECTOR, STORE_VECTOR_ALIGNED),
  store(0x0f7f, 'f3', 'movdqu', MOVE_VECTOR, STORE_VECTOR),
  sseRow(
    0x0fc4,
    '66',
    'pinsrw',
    (instruction, out) => {
      if (instruction.memory !== undefined) emitMemory(instruction, out, LOAD_VECTOR16, XMM_TEMP);
      else out.emit(VECTOR_FROM32, { a: XMM_TEMP, b: generalRm(instruction) });
      out.emit(INSERT16, { a: vectorReg(instruction), b: XMM_TEMP, imm: instruction.immediate & 7n });
    },
    { immediate: 'b' },
  ),
  sseRow(
    0x0fc5,
    '66',
    'pextrw',
    (instruction, out) => {
      const imm = instruction.immediate & 7n;
      out.emit(EXTRACT16, { a: generalReg(instruction), b: vectorRm(instruction), imm });
    },
    { immediate: 'b', operand: 'register' },
  ),
  store(0x0fd6, '66', 'movq', MOVE_LOW_HALF, STORE_LOW_HALF),
  toGeneral(0x0fd7, '66', 'pmovmskb', SIGN_MASK8),
  memoryOnly(0x0fe7, '66', 'movntdq', STORE_VECTOR_ALIGNED),
  sseRow(0x0ff7, '66', 'maskmovdqu', lowerMaskmovdqu, { operand: 'register' }),
];
