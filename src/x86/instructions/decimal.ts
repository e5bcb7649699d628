import { DONE, type Outcome, systemOperation } from '../cpu.ts';
import type { Row } from '../instruction.ts';
import { type CpuState, FLAG, RAX } from '../state.ts';
import { plainRow } from './operand.ts';

/**
 * Decimal adjustments, in legacy code only [SDM 1 5.1.3]. Flags that the manual leaves undefined are those of the
 * addition or subtraction that AMD Zen processors adjust with, measured.
 */

const AH = RAX + 1;

/** SF, ZF and PF of a result of `bits` bits. */
function resultFlags(value: number, bits: 8 | 16): number {
  const even = (0x9669 >> ((value ^ (value >> 4)) & 15)) & 1;
  const negative = (value >> (bits - 1)) & 1;
  return (negative ? FLAG.sf : 0) | (value === 0 ? FLAG.zf : 0) | (even ? FLAG.pf : 0);
}

/** OF, SF, ZF and PF of old + change. */
function adjustmentFlags(old: number, change: number, bits: 8 | 16): number {
  const value = (old + change) & (2 ** bits - 1);
  // The sign of the operand that is added: a change of 0 has none.
  const overflow = ((change < 0 ? old & ~value : ~old & value) >> (bits - 1)) & 1;
  return (overflow ? FLAG.of : 0) | resultFlags(value, bits);
}

function setFlags(state: CpuState, arithmetic: number): void {
  const all = FLAG.cf | FLAG.pf | FLAG.af | FLAG.zf | FLAG.sf | FLAG.of;
  state.rflags = (state.rflags & ~BigInt(all)) | BigInt(arithmetic);
}

/** DAA and DAS: imm is +1 or -1. */
export const ADJUST_PACKED = systemOperation('adjust-packed', ({ state }, _b, _c, imm): Outcome => {
  const sign = Number(BigInt.asIntN(64, imm));
  const flags = Number(state.rflags);
  const old = state.bytes[RAX]!;
  const low = (old & 15) > 9 || (flags & FLAG.af) !== 0;
  const high = old > 0x99 || (flags & FLAG.cf) !== 0;
  const change = sign * ((low ? 6 : 0) + (high ? 0x60 : 0));
  const carry = high || (sign < 0 && low && old < 6);
  state.bytes[RAX] = old + change;
  setFlags(state, adjustmentFlags(old, change, 8) | (carry ? FLAG.cf : 0) | (low ? FLAG.af : 0));
  return DONE;
});

/** AAA and AAS: imm is +1 or -1. */
export const ADJUST_UNPACKED = systemOperation('adjust-unpacked', ({ state }, _b, _c, imm): Outcome => {
  const sign = Number(BigInt.asIntN(64, imm));
  const ax = Number(state.get(RAX, 2));
  const adjusts = (ax & 15) > 9 || (state.rflags & BigInt(FLAG.af)) !== 0n;
  const change = adjusts ? sign * 0x106 : 0;
  state.set(RAX, 2, BigInt((ax + change) & 0xff0f));
  setFlags(state, adjustmentFlags(ax, change, 16) | (adjusts ? FLAG.af | FLAG.cf : 0));
  return DONE;
});

/** AAM: imm is the base. */
export const ADJUST_MULTIPLY = systemOperation('adjust-multiply', (cpu, _b, _c, imm): Outcome => {
  const base = Number(imm & 0xffn);
  if (base === 0) return cpu.fault(0);
  const al = cpu.state.bytes[RAX]!;
  cpu.state.bytes[AH] = Math.trunc(al / base);
  cpu.state.bytes[RAX] = al % base;
  setFlags(cpu.state, resultFlags(al % base, 8));
  return DONE;
});

/** AAD: imm is the base. */
export const ADJUST_DIVIDE = systemOperation('adjust-divide', ({ state }, _b, _c, imm): Outcome => {
  const al = state.bytes[RAX]!;
  const tens = (state.bytes[AH]! * Number(imm & 0xffn)) & 0xff;
  const sum = al + tens;
  state.set(RAX, 2, BigInt(sum & 0xff));
  const overflow = ~(al ^ tens) & (al ^ sum) & 0x80;
  const auxiliary = (al & 15) + (tens & 15) > 15;
  const carries = (sum > 0xff ? FLAG.cf : 0) | (auxiliary ? FLAG.af : 0) | (overflow ? FLAG.of : 0);
  setFlags(state, resultFlags(sum & 0xff, 8) | carries);
  return DONE;
});

/** SALC, never documented but always there: AL = CF in every bit. */
export const SET_AL_FROM_CARRY = systemOperation('salc', ({ state }): Outcome => {
  state.bytes[RAX] = state.rflags & 1n ? 0xff : 0;
  return DONE;
});

const legacy = { modes: 'legacy' } as const;

export const DECIMAL_ROWS: readonly Row[] = [
  plainRow(0x27, 'daa', (_, out) => out.call(ADJUST_PACKED, { imm: 1n }), legacy),
  plainRow(0x2f, 'das', (_, out) => out.call(ADJUST_PACKED, { imm: -1n }), legacy),
  plainRow(0x37, 'aaa', (_, out) => out.call(ADJUST_UNPACKED, { imm: 1n }), legacy),
  plainRow(0x3f, 'aas', (_, out) => out.call(ADJUST_UNPACKED, { imm: -1n }), legacy),
  plainRow(0xd6, 'salc', (_, out) => out.call(SET_AL_FROM_CARRY), legacy),
  plainRow(0xd4, 'aam', ({ immediate }, out) => out.call(ADJUST_MULTIPLY, { imm: immediate }), {
    ...legacy,
    immediate: 'b',
  }),
  plainRow(0xd5, 'aad', ({ immediate }, out) => out.call(ADJUST_DIVIDE, { imm: immediate }), {
    ...legacy,
    immediate: 'b',
  }),
];
