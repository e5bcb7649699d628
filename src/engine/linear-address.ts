import type { Privilege } from '../x86/cpu.ts';
import { CPL, type CpuState } from '../x86/state.ts';

/** A linear address is a bigint where slow-path code says it, and two words of 32 bits each where it is looked up. */
export function lowHalf(linear: bigint): number {
  return Number(linear & 0xffff_ffffn) | 0;
}

export function highHalf(linear: bigint): number {
  return Number((linear >> 32n) & 0xffff_ffffn) | 0;
}

/** Is an access one of a program's, by the rules of paging? */
export function runsAsUser(state: CpuState, privilege: Privilege | undefined): boolean {
  return privilege !== 'supervisor' && state.get32(CPL) === 3;
}
