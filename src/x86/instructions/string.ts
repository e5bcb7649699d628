import { linearAddress } from '../address.ts';
import type { SystemOperation } from '../cpu.ts';
import type { Instruction, Lowering, MemoryOperand, Row } from '../instruction.ts';
import { COMPARE } from '../micro-operations/arithmetic.ts';
import type { BySize } from '../micro-operations/by-size.ts';
import { LOAD, MOVE, STORE } from '../micro-operations/move.ts';
import { ADVANCE32, ADVANCE64, BLOCK_FILL, BLOCK_MOVE } from '../micro-operations/string.ts';
import { RAX, RDI, RSI, SEGMENT, SEGMENT_BASE, type SegmentName, ZERO } from '../state.ts';
import { plainRow, T0, T1, T2, widthOf } from './operand.ts';
import {
  packRepeatForm,
  REPEAT_CMPS,
  REPEAT_LODS,
  REPEAT_MOVS,
  REPEAT_SCAS,
  REPEAT_STOS,
} from './string-repeat.ts';

/** String instructions [SDM 1 7.3.9]: one element as micro-operations, repeated ones in string-repeat.ts. */

/** The source at rSI, or the destination at ES:rDI, whichever the opcode names implicitly (decoder.ts). */
const DESTINATION: MemoryOperand = {
  base: 7,
  index: undefined,
  scale: 0,
  displacement: 0,
  absolute: undefined,
  ripRelative: false,
  segment: 'es',
};

function atDestination(instruction: Instruction): Instruction {
  return { ...instruction, memory: DESTINATION };
}

/** Moves rSI or rDI on by one element. */
export function emitAdvance(instruction: Instruction, out: Lowering, register: number, size: number): void {
  const imm = BigInt(size);
  switch (instruction.addressSize) {
    case 8:
      out.emit(ADVANCE64, { a: register, b: register, imm });
      return;
    case 4:
      out.emit(ADVANCE32, { a: register, b: register, imm });
      return;
    case 2:
      out.emit(ADVANCE32, { a: T2, b: register, imm });
      out.emit(MOVE[2], { a: register, b: T2 });
      return;
  }
}

/** Where the slow path finds a segment's base. */
function baseOf(instruction: Instruction, segment: SegmentName): number {
  const based = instruction.codeSize !== 64 || segment === 'fs' || segment === 'gs';
  return based ? SEGMENT_BASE + SEGMENT[segment] * 8 : ZERO;
}

/** Repetitions that have a quick way, for plain addresses. */
const QUICK = new Map<SystemOperation, BySize>([
  [REPEAT_MOVS, BLOCK_MOVE],
  [REPEAT_STOS, BLOCK_FILL],
]);

function repeatable(once: Row['lower'], repetition: SystemOperation): Row['lower'] {
  return (instruction, out) => {
    if (instruction.repeat === 0) {
      once(instruction, out);
      return;
    }
    const quick = QUICK.get(repetition);
    const b = baseOf(instruction, instruction.memory!.segment);
    const plain = instruction.codeSize === 64 && instruction.addressSize === 8 && b === ZERO;
    if (plain && quick !== undefined) out.emit(quick[widthOf(instruction)]);
    const end = plain && quick !== undefined ? 'orSystem' : 'system';
    out[end](repetition, {
      b,
      c: baseOf(instruction, 'es'),
      imm: packRepeatForm({
        size: widthOf(instruction),
        addressSize: instruction.addressSize,
        whileDifferent: instruction.repeat === 0xf2,
        long: instruction.codeSize === 64,
      }),
    });
  };
}

function moveString(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  out.emit32(LOAD[size], { a: T0, ...linearAddress(instruction, out) });
  out.emit32(STORE[size], { a: T0, ...linearAddress(atDestination(instruction), out) });
  emitAdvance(instruction, out, RSI, size);
  emitAdvance(instruction, out, RDI, size);
}

function storeString(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  out.emit32(STORE[size], { a: RAX, ...linearAddress(instruction, out) });
  emitAdvance(instruction, out, RDI, size);
}

function loadString(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  out.emit32(LOAD[size], { a: RAX, ...linearAddress(instruction, out) });
  emitAdvance(instruction, out, RSI, size);
}

/** AMD processors read the second operand first, which shows when both fault. */
function compareString(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  // The destination is read first, as processors do: it shows when both fault.
  out.emit32(LOAD[size], { a: T1, ...linearAddress(atDestination(instruction), out) });
  out.emit32(LOAD[size], { a: T0, ...linearAddress(instruction, out) });
  out.emit(COMPARE.register[size], { b: T0, c: T1 });
  emitAdvance(instruction, out, RSI, size);
  emitAdvance(instruction, out, RDI, size);
}

function scanString(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  out.emit32(LOAD[size], { a: T0, ...linearAddress(instruction, out) });
  out.emit(COMPARE.register[size], { b: RAX, c: T0 });
  emitAdvance(instruction, out, RDI, size);
}

const FORMS: readonly (readonly [number, string, Row['lower'], SystemOperation])[] = [
  [0xa4, 'movs', moveString, REPEAT_MOVS],
  [0xa6, 'cmps', compareString, REPEAT_CMPS],
  [0xaa, 'stos', storeString, REPEAT_STOS],
  [0xac, 'lods', loadString, REPEAT_LODS],
  [0xae, 'scas', scanString, REPEAT_SCAS],
];

export const STRING_ROWS: readonly Row[] = FORMS.flatMap(([opcode, mnemonic, once, repetition]) => [
  plainRow(opcode, mnemonic, repeatable(once, repetition)),
  plainRow(opcode + 1, mnemonic, repeatable(once, repetition)),
]);
