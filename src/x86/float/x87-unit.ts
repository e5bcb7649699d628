import type { Cpu } from '../cpu.ts';
import { BLOCK_PC, type CpuState, FCW, FDP, FIP, FOP, FSW, FTW, X87 } from '../state.ts';
import { defaultNan, F80, type Float, unpack } from './format.ts';
import { BEFORE_OPERATION, EXCEPTION, type FloatStatus, isMasked, x87Status } from './status.ts';

/** Bits of the x87 status word [SDM 1 8.1.3]. */
export const STATUS = {
  stackFault: 0x0040,
  summary: 0x0080,
  c0: 0x0100,
  c1: 0x0200,
  c2: 0x0400,
  c3: 0x4000,
  busy: 0x8000,
} as const;
const CONDITIONS = STATUS.c0 | STATUS.c1 | STATUS.c2 | STATUS.c3;
const EXCEPTIONS = 0x3f;

export const INDEFINITE = defaultNan(F80);

/** The register stack and the status word during one instruction. Registers are named as in ST(i). */
export class X87Unit {
  readonly cpu: Cpu;
  readonly state: CpuState;
  readonly status: FloatStatus;

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    this.state = cpu.state;
    this.status = x87Status(cpu.state.get32(FCW));
  }

  get #top(): number {
    return (this.state.get32(FSW) >> 11) & 7;
  }

  #physical(i: number): number {
    return (this.#top + i) & 7;
  }

  isEmpty(i: number): boolean {
    return (this.state.get32(FTW) & (1 << this.#physical(i))) === 0;
  }

  get(i: number): bigint {
    const at = X87 + this.#physical(i) * 16;
    return this.state.get64(at) | (this.state.get(at + 8, 2) << 64n);
  }

  float(i: number): Float {
    return unpack(F80, this.get(i));
  }

  set(i: number, bits: bigint): void {
    const physical = this.#physical(i);
    const at = X87 + physical * 16;
    this.state.set64(at, BigInt.asUintN(64, bits));
    this.state.set64(at + 8, bits >> 64n);
    this.state.set32(FTW, this.state.get32(FTW) | (1 << physical));
  }

  free(i: number): void {
    this.state.set32(FTW, this.state.get32(FTW) & ~(1 << this.#physical(i)));
  }

  /** Moves TOP by +1 or -1 without touching tags. */
  rotate(by: number): void {
    const status = this.state.get32(FSW);
    this.state.set32(FSW, (status & ~0x3800) | (((this.#top + by) & 7) << 11));
  }

  pop(): void {
    this.free(0);
    this.rotate(1);
  }

  /** Makes room and writes; the caller has found ST(7) empty. */
  push(bits: bigint): void {
    this.rotate(-1);
    this.set(0, bits);
  }

  setC2(on: boolean): void {
    const status = this.state.get32(FSW) & ~STATUS.c2;
    this.state.set32(FSW, on ? status | STATUS.c2 : status);
  }

  /** Replaces all four condition codes. */
  setConditions(bits: number): void {
    this.state.set32(FSW, (this.state.get32(FSW) & ~CONDITIONS) | bits);
  }

  setC1(on: boolean): void {
    const status = this.state.get32(FSW) & ~STATUS.c1;
    this.state.set32(FSW, on ? status | STATUS.c1 : status);
  }

  /**
   * Reports the exceptions of the operation, and in C1 whether it rounded up. False: one that stops the operation
   * is unmasked, and no register may change [SDM 1 8.4].
   */
  complete(keepsC1 = false): boolean {
    const unmasked = this.status.flags & ~this.status.masks;
    const stops = (unmasked & BEFORE_OPERATION) !== 0;
    if (!keepsC1) this.setC1(this.status.roundedUp && !stops);
    this.#raise(stops ? this.status.flags & BEFORE_OPERATION : this.status.flags);
    return !stops;
  }

  /** Overflow (of the stack) or underflow: true when masked, so that the indefinite answers. */
  stackFault(overflow: boolean): boolean {
    this.setC1(overflow);
    this.#raise(EXCEPTION.invalid | STATUS.stackFault);
    return isMasked(this.status, EXCEPTION.invalid);
  }

  #raise(flags: number): void {
    let status = this.state.get32(FSW) | flags;
    if (flags & EXCEPTIONS & ~this.status.masks) status |= STATUS.summary | STATUS.busy;
    this.state.set32(FSW, status);
  }

  /** An exception is waiting to be delivered. */
  get pending(): boolean {
    return (this.state.get32(FSW) & STATUS.summary) !== 0;
  }
}

/** ES and B follow from flags and masks whenever one of them is loaded. */
export function loadStatusWord(state: CpuState, value: number): void {
  const unmasked = value & EXCEPTIONS & ~state.get32(FCW);
  const rest = value & 0x7f7f;
  state.set32(FSW, unmasked ? rest | STATUS.summary | STATUS.busy : rest);
}

/** Bits 7 and 15:13 do not exist, bit 6 reads as one. */
export function loadControlWord(state: CpuState, value: number): void {
  state.set32(FCW, (value & 0x1f3f) | 0x40);
  loadStatusWord(state, state.get32(FSW));
}

/**
 * Pointers to the last instruction that was not a control instruction, and to its memory operand if it had one;
 * followed at every instruction, as AMD processors do.
 */
export function notePointers(
  state: CpuState,
  offset: number,
  opcode: number,
  operand: bigint | undefined,
): void {
  state.set64(FIP, BigInt.asUintN(64, state.get64(BLOCK_PC) + BigInt(offset)));
  state.set32(FOP, opcode);
  if (operand !== undefined) state.set64(FDP, operand);
}
