import type { Privilege } from '../x86/cpu.ts';
import { VECTOR } from '../x86/faults.ts';
import { ACCESS_SEGMENT, type CpuState, SEGMENT, SEGMENT_BASE, SEGMENT_UNNAMED } from '../x86/state.ts';
import { dataBreakpointsAt } from '../x86/system/debug-register.ts';
import { code64 } from '../x86/system/mode.ts';
import { mayAccess } from '../x86/system/segment-check.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';

/** Upper half of the last canonical addresses below 2^47. */
const CANONICAL_END_HIGH = 0x7fff;

/** What an access has to pass before it is translated: its segment, the end of addresses, alignment, breakpoints. */
export class AccessRules {
  readonly #state: CpuState;
  readonly #mmu: Mmu;
  readonly #pending: Pending;

  constructor(state: CpuState, mmu: Mmu, pending: Pending) {
    this.#state = state;
    this.#mmu = mmu;
    this.#pending = pending;
  }

  /** False with #GP or #SS pending: the access reaches beyond its segment, or is of a kind that the segment forbids. */
  withinSegment(low: number, size: number, write: boolean): boolean {
    if (!this.#mmu.segmented) return true;
    const state = this.#state;
    const segment = state.i32[ACCESS_SEGMENT >> 2]!;
    if (segment === SEGMENT_UNNAMED) return true;
    const offset = (low - state.get32(SEGMENT_BASE + segment * 8)) >>> 0;
    if (mayAccess(state, segment, offset, size, write)) return true;
    this.#pending.fault(segment === SEGMENT.ss ? VECTOR.stack : VECTOR.generalProtection, 0);
    return false;
  }

  /**
   * False with #GP pending: the access reaches beyond what an address can be. In 64-bit code the lower half of the
   * canonical addresses ends at 2^47, elsewhere a flat segment at 4 GiB [SDM 1 3.3.7.1, 3A 5.3].
   */
  withinLimit(low: number, high: number, size: number): boolean {
    if ((low >>> 0) + size <= 0x1_0000_0000) return true;
    if (high === 0 ? code64(this.#state) : high !== CANONICAL_END_HIGH) return true;
    return this.#pending.refuse();
  }

  /** The same for what is `at` bytes into an operand of several parts. */
  partWithinLimit(low: number, high: number, size: number, at: number): boolean {
    // It begins where the part before it ended.
    if (at > 0 && low === 0 && high === 1 && !code64(this.#state)) return this.#pending.refuse();
    return this.withinLimit(low, high, size);
  }

  /**
   * False with #AC pending: the running program wants aligned accesses and this one is not. A processor looks at
   * this before it translates.
   */
  aligned(low: number, high: number, size: number, user: boolean): boolean {
    if (!this.#mmu.alignmentChecked || !user || (low & (size - 1)) === 0) return true;
    // An address that is not canonical comes first.
    const upper = high >> 15;
    if (upper !== 0 && upper !== -1) return this.#pending.refuse();
    this.#pending.fault(VECTOR.alignment, 0);
    return false;
  }

  /**
   * False with a restart pending: the access meets a data breakpoint, so its instruction has to run alone
   * [SDM 3B 17.2.4, 17.2.5]. Met when a byte of it is in the range that DR0..3 and DR7 tell.
   */
  watched(low: number, high: number, size: number, write: boolean): boolean {
    const met = this.#mmu.watched ? dataBreakpointsAt(this.#state, low, high, size, write) : 0;
    if (met === 0) return true;
    this.#pending.breakpointsMet |= met;
    return this.#pending.alone();
  }

  /** All of them; false: something is pending. */
  permitted(low: number, high: number, size: number, user: boolean, write: boolean): boolean {
    return this.withinSegment(low, size, write) && this.permittedLinear(low, high, size, user, write);
  }

  permittedLinear(low: number, high: number, size: number, user: boolean, write: boolean): boolean {
    return (
      this.withinLimit(low, high, size) &&
      this.aligned(low, high, size, user) &&
      this.watched(low, high, size, write)
    );
  }

  /** Tables are read without a segment. */
  throughSegment(low: number, size: number, write: boolean, privilege: Privilege | undefined): boolean {
    return privilege === 'supervisor' || this.withinSegment(low, size, write);
  }
}
