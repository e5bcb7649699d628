import type { Instruction, Lowering, Row } from '../instruction.ts';
import { SEGMENT } from '../state.ts';
import { IN_DX, IN_IMMEDIATE, INS, OUT_DX, OUT_IMMEDIATE, OUTS } from '../system/port.ts';
import { plainRow } from './operand.ts';

/** IN, OUT, INS, OUTS [SDM 2A IN, INS; 2B OUT, OUTS]. */

/** 1, 2 or 4 bytes: there are no 8-byte ports. */
function portSize(instruction: Instruction): number {
  return instruction.opcode & 1 ? Math.min(instruction.operandSize, 4) : 1;
}

function immediatePort(operation: typeof IN_IMMEDIATE) {
  return (instruction: Instruction, out: Lowering): void =>
    out.system(operation, { b: portSize(instruction), c: Number(instruction.immediate & 0xffn) });
}

function dxPort(operation: typeof IN_DX) {
  return (instruction: Instruction, out: Lowering): void =>
    out.system(operation, { b: portSize(instruction) });
}

function stringPort(operation: typeof INS) {
  return (instruction: Instruction, out: Lowering): void => {
    const segment = SEGMENT[instruction.memory!.segment];
    const repeated = instruction.repeat !== 0 ? 1 : 0;
    out.system(operation, {
      b: portSize(instruction),
      c: instruction.addressSize,
      imm: BigInt(repeated | (segment << 1)),
    });
  };
}

export const SYSTEM_PORT_ROWS: readonly Row[] = [
  plainRow(0xe4, 'in', immediatePort(IN_IMMEDIATE), { immediate: 'b' }),
  plainRow(0xe5, 'in', immediatePort(IN_IMMEDIATE), { immediate: 'b' }),
  plainRow(0xe6, 'out', immediatePort(OUT_IMMEDIATE), { immediate: 'b' }),
  plainRow(0xe7, 'out', immediatePort(OUT_IMMEDIATE), { immediate: 'b' }),
  plainRow(0xec, 'in', dxPort(IN_DX)),
  plainRow(0xed, 'in', dxPort(IN_DX)),
  plainRow(0xee, 'out', dxPort(OUT_DX)),
  plainRow(0xef, 'out', dxPort(OUT_DX)),
  plainRow(0x6c, 'ins', stringPort(INS)),
  plainRow(0x6d, 'ins', stringPort(INS)),
  plainRow(0x6e, 'outs', stringPort(OUTS)),
  plainRow(0x6f, 'outs', stringPort(OUTS)),
];
