import { emitOffset, linearAddress, SET64 } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { MOVE32_IF, MOVE64_IF, SET_IF } from '../micro-operations/control.ts';
import { CONDITION_NAMES } from '../micro-operations/flags.ts';
import {
  EXCHANGE,
  LOAD,
  LOAD_SIGNED_TO32,
  LOAD_SIGNED_TO64,
  LOAD_ZERO,
  MOVE,
  MOVE_SIGNED_TO32,
  MOVE_SIGNED_TO64,
  MOVE_ZERO,
  SET,
  SPREAD_SIGN,
  STORE,
  STORE_IMMEDIATE,
  SWAP_BYTES32,
  SWAP_BYTES64,
} from '../micro-operations/move.ts';
import { GPR, gprOffset, RAX, RDX, type Size } from '../state.ts';
import {
  closePlace,
  modrmRow,
  openPlace,
  plainRow,
  regOperand,
  rmRegister,
  rowsOf,
  source,
  store,
  T0,
  T0_AS_REGISTER,
  T1,
  widthOf,
} from './operand.ts';

/** Moves between registers, immediates and memory [SDM 1 5.1.1]. */

/** register = immediate, which the decoder has sign-extended. */
function emitSet(out: Lowering, size: Size, register: number, immediate: bigint): void {
  if (size <= 2) out.emit(SET[size as 1 | 2], { a: register, imm: immediate });
  else out.emit(SET64, { a: register, imm: size === 4 ? BigInt.asUintN(32, immediate) : immediate });
}

/** 88, 89: r/m = r. */
function moveToRm(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  store(instruction, out, size, regOperand(instruction, size));
}

/** MOVNTI: the hint about caches means nothing here. */
function moveNonTemporal(instruction: Instruction, out: Lowering): void {
  const size = instruction.operandSize === 8 ? 8 : 4;
  store(instruction, out, size, regOperand(instruction, size));
}

/** 8A, 8B, 63 with 32-bit operands: r = r/m. */
function moveFromRm(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  const a = regOperand(instruction, size);
  if (instruction.memory === undefined) out.emit(MOVE[size], { a, b: rmRegister(instruction, size) });
  else out.emit32(LOAD[size], { a, ...linearAddress(instruction, out) });
}

/** C6, C7: r/m = immediate. */
function moveImmediate(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  if (instruction.memory === undefined) {
    emitSet(out, size, rmRegister(instruction, size), instruction.immediate);
    return;
  }
  const { b, c, low, high } = linearAddress(instruction, out);
  out.emit32(STORE_IMMEDIATE[size], { a: high, b, c, low, high: Number(instruction.immediate) });
}

/** A0..A3: between the accumulator and an absolute address. */
function moveOffset(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  const operation = instruction.opcode & 2 ? STORE : LOAD;
  out.emit32(operation[size], { a: RAX, ...linearAddress(instruction, out) });
}

/** MOVZX of a byte or a word. */
function moveZero(instruction: Instruction, out: Lowering): void {
  const from = instruction.opcode & 1 ? 2 : 1;
  const target = regOperand(instruction, instruction.operandSize);
  // The whole register may be written unless it keeps its upper part.
  const a = instruction.operandSize === 2 ? T0 : target;
  if (instruction.memory === undefined) out.emit(MOVE_ZERO[from], { a, b: rmRegister(instruction, from) });
  else out.emit32(LOAD_ZERO[from], { a, ...linearAddress(instruction, out) });
  if (a !== target) out.emit(MOVE[2], { a: target, b: T0 });
}

/** MOVSX of a byte or a word, MOVSXD of a doubleword. */
function moveSigned(instruction: Instruction, out: Lowering, from: 1 | 2 | 4): void {
  const { operandSize } = instruction;
  const target = regOperand(instruction, operandSize);
  const a = operandSize === 2 ? T0 : target;
  if (operandSize === 8) {
    if (instruction.memory === undefined) {
      out.emit(MOVE_SIGNED_TO64[from], { a, b: rmRegister(instruction, from) });
    } else {
      out.emit32(LOAD_SIGNED_TO64[from], { a, ...linearAddress(instruction, out) });
    }
    return;
  }
  const narrow = from === 4 ? 2 : from;
  if (instruction.memory === undefined) {
    out.emit(MOVE_SIGNED_TO32[narrow], { a, b: rmRegister(instruction, narrow) });
  } else {
    out.emit32(LOAD_SIGNED_TO32[narrow], { a, ...linearAddress(instruction, out) });
  }
  if (a !== target) out.emit(MOVE[2], { a: target, b: T0 });
}

/** MOVSXD sign-extends only with REX.W; otherwise it moves [SDM 2B MOVSXD]. It always reads a doubleword. */
function moveSignedDoubleword(instruction: Instruction, out: Lowering): void {
  const size = instruction.operandSize;
  if (size === 8) moveSigned(instruction, out, 4);
  else if (size === 4) moveFromRm(instruction, out);
  else out.emit(MOVE[2], { a: regOperand(instruction, 2), b: source(instruction, out, 4) });
}

/** XCHG with r/m: locked with or without the prefix, as nothing else runs on this machine's memory. */
function exchange(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  const register = regOperand(instruction, size);
  if (instruction.memory === undefined) {
    out.emit(EXCHANGE[size], { a: rmRegister(instruction, size), b: register });
    return;
  }
  const place = openPlace(instruction, out, size);
  closePlace({ ...place, to: register }, out, size);
  out.emit(MOVE[size], { a: register, b: T0 });
}

/** 90..97; 90 without REX.B is NOP, and PAUSE with F3. */
function exchangeAccumulator(instruction: Instruction, out: Lowering): void {
  if (instruction.rm === 0) return;
  const size = instruction.operandSize;
  out.emit(EXCHANGE[size], { a: RAX, b: rmRegister(instruction, size) });
}

/** BSWAP of 16 bits, undefined in the manual, gives zero on AMD processors. */
function swapBytes(instruction: Instruction, out: Lowering): void {
  const register = GPR + instruction.rm * 8;
  if (instruction.operandSize === 2) out.emit(SET[2], { a: register, imm: 0n });
  else out.emit(instruction.operandSize === 8 ? SWAP_BYTES64 : SWAP_BYTES32, { a: register, b: register });
}

function loadEffectiveAddress(instruction: Instruction, out: Lowering): void {
  const { operandSize } = instruction;
  const target = regOperand(instruction, operandSize);
  if (operandSize === 8) {
    emitOffset(instruction, out, target);
    return;
  }
  // A result of 32 bits is the address modulo 2^32, whatever the address size above that.
  if (operandSize === 4 && instruction.addressSize === 8) {
    emitOffset({ ...instruction, addressSize: 4 }, out, target);
    return;
  }
  if (operandSize === 4) {
    emitOffset(instruction, out, target);
    return;
  }
  emitOffset(instruction, out, T0);
  out.emit(MOVE[2], { a: target, b: T0 });
}

/** CMOVcc reads its source in any case. */
function moveIf(instruction: Instruction, out: Lowering): void {
  const { operandSize } = instruction;
  const code = instruction.opcode & 15;
  const target = regOperand(instruction, operandSize);
  const b = source(instruction, out, operandSize);
  if (operandSize === 8) {
    out.emit(MOVE64_IF[code]!, { a: target, b });
  } else if (operandSize === 4) {
    out.emit(MOVE32_IF[code]!, { a: target, b });
  } else {
    out.emit(MOVE_ZERO[2], { a: T1, b: target });
    out.emit(MOVE32_IF[code]!, { a: T1, b });
    out.emit(MOVE[2], { a: target, b: T1 });
  }
}

function setIf(instruction: Instruction, out: Lowering): void {
  const operation = SET_IF[instruction.opcode & 15]!;
  if (instruction.memory === undefined) {
    out.emit(operation, { a: rmRegister(instruction, 1) });
    return;
  }
  out.emit(operation, { a: T0 });
  store(instruction, out, 1, T0);
}

/** CBW, CWDE, CDQE: the lower half of the accumulator, sign-extended. */
function widenAccumulator(instruction: Instruction, out: Lowering): void {
  switch (instruction.operandSize) {
    case 8:
      out.emit(MOVE_SIGNED_TO64[4], { a: RAX, b: RAX });
      return;
    case 4:
      out.emit(MOVE_SIGNED_TO32[2], { a: RAX, b: RAX });
      return;
    case 2:
      out.emit(MOVE_SIGNED_TO32[1], { a: T0, b: RAX });
      out.emit(MOVE[2], { a: RAX, b: T0 });
      return;
  }
}

/** XLAT: AL = the byte at rBX + AL. */
function translate(instruction: Instruction, out: Lowering): void {
  out.emit(MOVE_ZERO[1], { a: T0, b: RAX });
  const memory = { ...instruction.memory!, index: T0_AS_REGISTER };
  out.emit32(LOAD[1], { a: RAX, ...linearAddress({ ...instruction, memory }, out) });
}

const nothing = (): void => {};

export const DATA_MOVEMENT_ROWS: readonly Row[] = [
  modrmRow(0x88, 'mov', moveToRm),
  modrmRow(0x89, 'mov', moveToRm),
  modrmRow(0x8a, 'mov', moveFromRm),
  modrmRow(0x8b, 'mov', moveFromRm),
  plainRow(0xa0, 'mov', moveOffset, { immediate: 'offset' }),
  plainRow(0xa1, 'mov', moveOffset, { immediate: 'offset' }),
  plainRow(0xa2, 'mov', moveOffset, { immediate: 'offset' }),
  plainRow(0xa3, 'mov', moveOffset, { immediate: 'offset' }),
  ...rowsOf(0xb0, 8, (opcode) =>
    plainRow(
      opcode,
      'mov',
      (instruction, out) => emitSet(out, 1, rmRegister(instruction, 1), instruction.immediate),
      { immediate: 'b' },
    ),
  ),
  ...rowsOf(0xb8, 8, (opcode) =>
    plainRow(
      opcode,
      'mov',
      (instruction, out) =>
        emitSet(out, instruction.operandSize, gprOffset(instruction.rm, 8, true), instruction.immediate),
      { immediate: 'v' },
    ),
  ),
  modrmRow(0xc6, 'mov', moveImmediate, { digit: 0, immediate: 'b' }),
  modrmRow(0xc7, 'mov', moveImmediate, { digit: 0, immediate: 'z' }),
  modrmRow(0x0fc3, 'movnti', moveNonTemporal, { prefix: 'np', operand: 'memory' }),
  modrmRow(0x0fb6, 'movzx', moveZero),
  modrmRow(0x0fb7, 'movzx', moveZero),
  modrmRow(0x0fbe, 'movsx', (instruction, out) => moveSigned(instruction, out, 1)),
  modrmRow(0x0fbf, 'movsx', (instruction, out) => moveSigned(instruction, out, 2)),
  modrmRow(0x63, 'movsxd', moveSignedDoubleword, { modes: 'long' }),
  modrmRow(0x86, 'xchg', exchange, { lockable: true }),
  modrmRow(0x87, 'xchg', exchange, { lockable: true }),
  ...rowsOf(0x90, 8, (opcode) => plainRow(opcode, opcode === 0x90 ? 'nop' : 'xchg', exchangeAccumulator)),
  ...rowsOf(0x0fc8, 8, (opcode) => plainRow(opcode, 'bswap', swapBytes)),
  modrmRow(0x8d, 'lea', loadEffectiveAddress, { operand: 'memory' }),
  ...rowsOf(0x0f40, 16, (opcode) => modrmRow(opcode, `cmov${CONDITION_NAMES[opcode & 15]}`, moveIf)),
  ...rowsOf(0x0f90, 16, (opcode) => modrmRow(opcode, `set${CONDITION_NAMES[opcode & 15]}`, setIf)),
  plainRow(0x98, 'cwde', widenAccumulator),
  plainRow(0x99, 'cdq', ({ operandSize }, out) => out.emit(SPREAD_SIGN[operandSize], { a: RDX, b: RAX })),
  plainRow(0xd7, 'xlat', translate),
  // Hints: prefetches, and the reserved NOPs 0F 18..1F, ENDBR64 among them [SDM 2B NOP].
  modrmRow(0x0f0d, 'prefetchw', nothing, { operand: 'memory' }),
  ...rowsOf(0x0f18, 8, (opcode) => modrmRow(opcode, 'nop', nothing)),
];
