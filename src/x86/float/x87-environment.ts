import { type CpuState, FCW, FDP, FIP, FOP, FSW, FTW, X87 } from '../state.ts';
import { loadControlWord, loadStatusWord } from './x87-unit.ts';

/** What FNSTENV, FNSAVE and FNINIT see of the unit as a whole. */

/** State after FNINIT. */
export function initializeX87(state: CpuState): void {
  state.set32(FCW, 0x37f);
  state.set32(FSW, 0);
  state.set32(FTW, 0);
  state.set32(FOP, 0);
  state.set64(FIP, 0n);
  state.set64(FDP, 0n);
}

/** Two bits per register from the abridged tags and what the registers hold [SDM 1 8.1.7]. */
function fullTags(state: CpuState): number {
  let tags = 0;
  for (let register = 0; register < 8; register++) {
    let tag = 3;
    if (state.get32(FTW) & (1 << register)) {
      const significand = state.get64(X87 + register * 16);
      const exponent = Number(state.get(X87 + register * 16 + 8, 2)) & 0x7fff;
      const normal = exponent !== 0 && exponent !== 0x7fff && significand >> 63n !== 0n;
      tag = normal ? 0 : exponent === 0 && significand === 0n ? 1 : 2;
    }
    tags |= tag << (register * 2);
  }
  return tags;
}

/** The environment as FNSTENV writes it: seven words or seven doublewords. Code and data segments read as zero. */
export function environmentBytes(state: CpuState, wide: boolean): Uint8Array {
  const bytes = new Uint8Array(wide ? 28 : 14);
  const view = new DataView(bytes.buffer);
  const ip = Number(state.get64(FIP) & 0xffff_ffffn);
  const dp = Number(state.get64(FDP) & 0xffff_ffffn);
  const words = [state.get32(FCW), state.get32(FSW), fullTags(state)];
  if (wide) {
    for (const [i, word] of words.entries()) view.setUint32(i * 4, 0xffff_0000 | word, true);
    view.setUint32(12, ip, true);
    view.setUint32(16, state.get32(FOP) << 16, true);
    view.setUint32(20, dp, true);
    view.setUint32(24, 0xffff_0000, true);
  } else {
    for (const [i, word] of words.entries()) view.setUint16(i * 2, word, true);
    view.setUint16(6, ip & 0xffff, true);
    view.setUint16(10, dp & 0xffff, true);
  }
  return bytes;
}

export function loadEnvironment(state: CpuState, bytes: Uint8Array, wide: boolean): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const word = (index: number): number => view.getUint16(index * (wide ? 4 : 2), true);
  loadControlWord(state, word(0));
  loadStatusWord(state, word(1));
  let abridged = 0;
  for (let register = 0; register < 8; register++) {
    if (((word(2) >> (register * 2)) & 3) !== 3) abridged |= 1 << register;
  }
  state.set32(FTW, abridged);
  state.set64(FIP, BigInt(wide ? view.getUint32(12, true) : view.getUint16(6, true)));
  state.set64(FDP, BigInt(wide ? view.getUint32(20, true) : view.getUint16(10, true)));
  state.set32(FOP, wide ? view.getUint16(18, true) & 0x7ff : 0);
}

/** Registers in the order ST(0) to ST(7), ten bytes each. */
export function registersToBytes(state: CpuState, bytes: Uint8Array, at: number): void {
  const top = (state.get32(FSW) >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const from = X87 + ((top + i) & 7) * 16;
    bytes.set(state.bytes.subarray(from, from + 10), at + i * 10);
  }
}
export function registersFromBytes(state: CpuState, bytes: Uint8Array, at: number): void {
  const top = (state.get32(FSW) >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    state.bytes.set(bytes.subarray(at + i * 10, at + i * 10 + 10), X87 + ((top + i) & 7) * 16);
  }
}
