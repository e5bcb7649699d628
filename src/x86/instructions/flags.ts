import { DONE, systemOperation } from '../cpu.ts';
import type { Row } from '../instruction.ts';
import { CLEAR_CARRY, COMPLEMENT_CARRY, SET_CARRY, SET_DIRECTION } from '../micro-operations/flags.ts';
import { FLAG, RAX } from '../state.ts';
import { plainRow } from './operand.ts';

/** Single flags, and the low byte of RFLAGS in AH [SDM 1 7.3.13]. */

/** SF, ZF, AF, PF and CF: what AH holds beside bit 1, which is always set. */
const IN_AH = BigInt(FLAG.sf | FLAG.zf | FLAG.af | FLAG.pf | FLAG.cf);

export const LOAD_AH = systemOperation('lahf', ({ state }) => {
  state.set(RAX + 1, 1, (state.rflags & IN_AH) | 2n);
  return DONE;
});
export const STORE_AH = systemOperation('sahf', ({ state }) => {
  state.rflags = (state.rflags & ~IN_AH) | (state.get(RAX + 1, 1) & IN_AH);
  return DONE;
});

export const FLAG_ROWS: readonly Row[] = [
  plainRow(0xf8, 'clc', (_, out) => out.emit(CLEAR_CARRY)),
  plainRow(0xf9, 'stc', (_, out) => out.emit(SET_CARRY)),
  plainRow(0xf5, 'cmc', (_, out) => out.emit(COMPLEMENT_CARRY)),
  plainRow(0xfc, 'cld', (_, out) => out.emit(SET_DIRECTION, { imm: 0n })),
  plainRow(0xfd, 'std', (_, out) => out.emit(SET_DIRECTION, { imm: BigInt(FLAG.df) })),
  plainRow(0x9f, 'lahf', (_, out) => out.call(LOAD_AH)),
  plainRow(0x9e, 'sahf', (_, out) => out.call(STORE_AH)),
];
