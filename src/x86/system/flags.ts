import { type CpuState, FLAG, FLAGS_AUX, FLAGS_REST, FLAGS_RESULT } from '../state.ts';
import { instructionBreakpoints } from './debug-register.ts';

/**
 * RFLAGS as a 32-bit number: the same as CpuState.rflags, without bigints, because system calls, interrupts and
 * their returns go through here. Bits 63:22 of RFLAGS are always zero.
 */
export function readFlags(state: CpuState): number {
  const resultLow = state.u32[FLAGS_RESULT >>> 2]!;
  const resultHigh = state.u32[(FLAGS_RESULT >>> 2) + 1]!;
  const auxLow = state.u32[FLAGS_AUX >>> 2]!;
  const auxHigh = state.u32[(FLAGS_AUX >>> 2) + 1]!;
  let parity = (resultLow ^ (auxLow >>> 8)) & 0xff;
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  let flags = state.u32[FLAGS_REST >>> 2]! | (auxHigh >>> 31);
  if ((parity & 1) === 0) flags |= FLAG.pf;
  flags |= (auxLow & 8) << 1;
  if ((resultLow | resultHigh) === 0) flags |= FLAG.zf;
  flags |= ((resultHigh >>> 31) ^ (auxLow & 1)) << 7;
  flags |= ((auxHigh >>> 31) ^ ((auxHigh >>> 30) & 1)) << 11;
  return flags;
}

/** TF IF DF IOPL NT AC VIF VIP ID. RF and VM are never stored: see writeFlags. */
const REST = 0x3c_7700;

/**
 * Stores RFLAGS; the caller has masked what may not change. RF only matters to breakpoints on instructions: `keepResume`
 * keeps it. VM would enter virtual-8086 mode, which is not offered, and stays zero.
 */
export function writeFlags(state: CpuState, flags: number): void {
  const zf = (flags & FLAG.zf) !== 0;
  // A result of 0 is even, 1 is odd; aux carries the difference (state.ts).
  const odd = ((flags & FLAG.pf) !== 0) !== zf;
  const cf = flags & 1;
  const differ = cf ^ ((flags >>> 11) & 1);
  const sf = (flags >>> 7) & 1;
  state.u32[FLAGS_RESULT >>> 2] = zf ? 0 : 1;
  state.u32[(FLAGS_RESULT >>> 2) + 1] = 0;
  state.u32[FLAGS_AUX >>> 2] = sf | ((flags & FLAG.af) >>> 1) | (odd ? 0x100 : 0);
  state.u32[(FLAGS_AUX >>> 2) + 1] = (cf << 31) | (differ << 30);
  state.u32[FLAGS_REST >>> 2] = (flags & REST) | 2;
  state.u32[(FLAGS_REST >>> 2) + 1] = 0;
}

/** IRET loads RF. It is stored where it matters: while there are breakpoints on instructions, for one instruction. */
export function keepResume(state: CpuState, image: number): void {
  if ((image & FLAG.rf) !== 0 && instructionBreakpoints(state) !== 0) state.u32[FLAGS_REST >>> 2]! |= FLAG.rf;
}

/** What IRET and POPF may change at this privilege [SDM 2 POPF, table of flag effects]. */
export function changeableFlags(privilege: number, ioPrivilege: number, size: 2 | 4 | 8): number {
  let mask = FLAG.cf | FLAG.pf | FLAG.af | FLAG.zf | FLAG.sf | FLAG.tf | FLAG.df | FLAG.of | FLAG.nt;
  if (size !== 2) mask |= FLAG.ac | FLAG.id;
  if (privilege <= ioPrivilege) mask |= FLAG.if;
  if (privilege === 0) mask |= FLAG.iopl;
  return mask;
}

export function setZeroFlag(state: CpuState, zero: boolean): void {
  const flags = readFlags(state);
  writeFlags(state, zero ? flags | FLAG.zf : flags & ~FLAG.zf);
}
