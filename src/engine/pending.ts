import type { Outcome, PendingFault } from '../x86/cpu.ts';
import { ABORTED } from '../x86/cpu.ts';
import { VECTOR } from '../x86/faults.ts';
import { type Mmu, RESTART } from './mmu.ts';

/**
 * What keeps the instruction that executes from its access: a fault, or that the access has side effects beyond RAM (a
 * device's register, a store into code or into a live page table). Those are only made while one instruction runs alone;
 * otherwise that is asked for, and nothing has changed.
 */
export class Pending {
  readonly #mmu: Mmu;
  /** True while one instruction runs alone, so accesses with side effects may be made. */
  stepping = false;
  /** Breakpoints on data or ports that the instruction met, as bits 3:0 of DR6; their trap follows it. */
  breakpointsMet = 0;
  /** A vector, or RESTART: nothing was changed, and the access has to be made by a single step. */
  #pending: number | undefined;
  /** What is pending says that the address cannot be: it is not canonical, or beyond the segment's limit. */
  #outOfRange = false;
  /** The fault that is to be taken; vector -1 when there is none, error code -1 when it has none. */
  #faultVector = -1;
  #faultError = -1;
  #faultLow = 0;
  #faultHigh = 0;

  constructor(mmu: Mmu) {
    this.#mmu = mmu;
  }

  /** Nothing is pending: an instruction begins. */
  begin(): void {
    this.#pending = undefined;
  }

  get restartWanted(): boolean {
    return this.#pending === RESTART;
  }

  /** May an access with side effects be made? False: a restart is pending. */
  alone(): boolean {
    if (!this.stepping) this.#pending = RESTART;
    return this.stepping;
  }

  raise(vector: number, errorCode: number): void {
    this.#faultVector = vector;
    this.#faultError = errorCode;
  }

  /** The last translation failed at this address. */
  raisePageFault(low: number, high: number): void {
    this.#faultLow = low;
    this.#faultHigh = high;
    this.raise(this.#mmu.faultVector, this.#mmu.faultError);
  }

  /** The access that failed was to the stack: what is #GP elsewhere, an address out of range, is #SS there. */
  stackFault(): void {
    if (this.#outOfRange && this.#pending === VECTOR.generalProtection) this.fault(VECTOR.stack, 0);
  }

  fault(vector: number, errorCode?: number): Outcome {
    this.#outOfRange = false;
    this.#pending = vector;
    this.raise(vector, errorCode ?? -1);
    return ABORTED;
  }

  takeFault(): PendingFault | undefined {
    if (this.#faultVector < 0) return undefined;
    const address = (BigInt(this.#faultHigh >>> 0) << 32n) | BigInt(this.#faultLow >>> 0);
    const fault = { vector: this.#faultVector, errorCode: Math.max(this.#faultError, 0), address };
    this.#faultVector = -1;
    this.#pending = undefined;
    return fault;
  }

  /** #GP: the address of the access cannot be. */
  refuse(): false {
    this.fault(VECTOR.generalProtection, 0);
    this.#outOfRange = true;
    return false;
  }

  /** The last translation failed, for an access at this address. */
  untranslated(low: number, high: number): void {
    this.raisePageFault(low, high);
    this.#pending = this.#mmu.faultVector;
    this.#outOfRange = true;
  }
}
