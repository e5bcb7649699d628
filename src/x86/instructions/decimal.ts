import { DONE, type Outcome, systemOperation } from '../cpu.ts';
import type { Row } from '../instruction.ts';
import { type CpuState, FLAG, RAX } from '../state.ts';
import { plainRow } from './operand.ts';

/** Decimal adjustments, in legacy code only [SDM 1 5.1.3]. Flags left undefined come from the result. */

const AH = RAX + 1;

/** SF, ZF and PF of a byte. */
function resultFlags(value: number): number {
  const even = (0x9669 >> ((value ^ (value >> 4)) & 15)) & 1;
  return (value & 0x80 ? FLAG.sf : 0) | (value === 0 ? FLAG.zf : 0) | (even ? FLAG.pf : 0);
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
  let value = old;
  let carry = 0;
  let auxiliary = 0;
  if ((old & 15) > 9 || flags & FLAG.af) {
    value += 6 * sign;
    auxiliary = FLAG.af;
    if (flags & FLAG.cf || value < 0 || value > 0xff) carry = FLAG.cf;
  }
  if (old > 0x99 || flags & FLAG.cf) {
    value += 0x60 * sign;
    carry = FLAG.cf;
  } else if (sign > 0) {
    carry = 0;
  }
  value &= 0xff;
  state.bytes[RAX] = value;
  setFlags(state, resultFlags(value) | carry | auxiliary);
  return DONE;
});

/** AAA and AAS: imm is +1 or -1. */
export const ADJUST_UNPACKED = systemOperation('adjust-unpacked', ({ state }, _b, _c, imm): Outcome => {
  const sign = Number(BigInt.asIntN(64, imm));
  const flags = Number(state.rflags);
  let ax = Number(state.get(RAX, 2));
  let result = 0;
  if ((ax & 15) > 9 || flags & FLAG.af) {
    ax = (ax + (sign > 0 ? 0x106 : -0x106)) & 0xffff;
    result = FLAG.af | FLAG.cf;
  }
  ax &= 0xff0f;
  state.set(RAX, 2, BigInt(ax));
  setFlags(state, resultFlags(ax & 0xff) | result);
  return DONE;
});

/** AAM: imm is the base. */
export const ADJUST_MULTIPLY = systemOperation('adjust-multiply', (cpu, _b, _c, imm): Outcome => {
  const base = Number(imm & 0xffn);
  if (base === 0) return cpu.fault(0);
  const al = cpu.state.bytes[RAX]!;
  cpu.state.bytes[AH] = Math.trunc(al / base);
  cpu.state.bytes[RAX] = al % base;
  setFlags(cpu.state, resultFlags(al % base));
  return DONE;
});

/** AAD: imm is the base. */
export const ADJUST_DIVIDE = systemOperation('adjust-divide', ({ state }, _b, _c, imm): Outcome => {
  const value = (state.bytes[RAX]! + state.bytes[AH]! * Number(imm & 0xffn)) & 0xff;
  state.set(RAX, 2, BigInt(value));
  setFlags(state, resultFlags(value));
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
