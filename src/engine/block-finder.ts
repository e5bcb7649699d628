import { VECTOR } from '../x86/faults.ts';
import { ACCESS_EXECUTE } from '../x86/paging.ts';
import {
  BLOCK_PC,
  CPL,
  type CpuState,
  CR0,
  CR4,
  DR0,
  DR6,
  EFER,
  EPOCH,
  EPOCH_HIGH,
  SEGMENT,
  SEGMENT_ACCESS,
  SEGMENT_BASE,
} from '../x86/state.ts';
import { instructionBreakpoints, instructionBreakpointsAt } from '../x86/system/debug-register.ts';
import { mayFetch, segmentKinds } from '../x86/system/segment-check.ts';
import type { Block, CodeCache } from './code-cache.ts';
import { MODE } from './code-mode.ts';
import { CodePages } from './code-pages.ts';
import type { EngineParts } from './engine-parts.ts';
import { LINK } from './interpreter.ts';
import { type EngineLayout, JUMP_ENTRY, jumpSlot, PAGE, RECORD } from './layout.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';
import type { PhysicalMap } from './physical-map.ts';

/** Finds the block at an address, in the processor's present mode: from the caches, or decoded anew. */
export class BlockFinder {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #mmu: Mmu;
  readonly #code: CodeCache;
  readonly #pending: Pending;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #codePages = new CodePages();
  /** Of MODE (code-mode.ts). */
  mode = 0;
  /** Base of the code segment; 0 in 64-bit code, whose RIP is linear. */
  codeBase = 0;
  /** The next instruction meets no breakpoint on it: RFLAGS.RF was set, or a load of SS is before it. */
  resumes = false;

  constructor({ buffer, layout, state, map, mmu, code, pending }: EngineParts) {
    this.#state = state;
    this.#layout = layout;
    this.#map = map;
    this.#mmu = mmu;
    this.#code = code;
    this.#pending = pending;
    this.#u8 = new Uint8Array(buffer);
    this.#i32 = new Int32Array(buffer);
  }

  /** RIP's mode and code segment are what they are from now on. */
  selectMode(): void {
    this.mode = this.#modeKey();
    const long = (this.mode & MODE.codeMask) === MODE.code64;
    this.codeBase = long ? 0 : this.#state.get32(SEGMENT_BASE + SEGMENT.cs * 8);
    if ((this.mode & MODE.breakpoints) !== 0) this.#placeStops();
    this.#mmu.select(this.mode, this.codeBase);
  }

  #modeKey(): number {
    const state = this.#state;
    const access = state.get32(SEGMENT_ACCESS + SEGMENT.cs * 4);
    const long = (state.get32(EFER) & 0x400) !== 0;
    let mode: number = long && access & 0x2000 ? MODE.code64 : access & 0x4000 ? MODE.code32 : MODE.code16;
    const cr0 = state.get32(CR0);
    const em = (cr0 & 4) !== 0;
    const ts = (cr0 & 8) !== 0;
    if (em || (state.get32(CR4) & 0x200) === 0) mode |= MODE.sseUndefined;
    if (em) mode |= MODE.mmxUndefined;
    if (ts) mode |= MODE.sseUnavailable;
    if (em || ts) mode |= MODE.x87Unavailable;
    if (ts && cr0 & 2) mode |= MODE.waitUnavailable;
    if (instructionBreakpoints(state) !== 0) mode |= MODE.breakpoints;
    return (mode & MODE.codeMask) === MODE.code64 ? mode : mode | this.#segmentMode();
  }

  #segmentMode(): number {
    const kinds = segmentKinds(this.#state);
    let mode = kinds.checked ? MODE.segments : 0;
    if (kinds.nullFs) mode |= MODE.nullFs;
    if (kinds.nullGs) mode |= MODE.nullGs;
    return kinds.otherStack ? mode | MODE.otherStack : mode;
  }

  /** May an instruction of this length be fetched at this offset in the code segment? Otherwise #GP is pending. */
  #fetchable(offset: number, length: number): boolean {
    if ((this.mode & MODE.segments) === 0 || mayFetch(this.#state, offset >>> 0, length)) return true;
    this.#pending.raise(VECTOR.generalProtection, 0);
    return false;
  }

  /** Blocks must end before every breakpoint. A place that is new makes all of them anew; the old ones do no harm. */
  #placeStops(): void {
    const met = instructionBreakpoints(this.#state);
    const { stops } = this.#code;
    const before = stops.size;
    for (let index = 0; index < 4; index++)
      if ((met & (1 << index)) !== 0) stops.add(this.#state.get32(DR0 + index * 8) % PAGE);
    if (stops.size === before) return;
    this.#code.clear();
    this.#mmu.forgetCode();
  }

  /** May a breakpoint on an instruction stand at this linear address, by its lower half? */
  #stopsAt(low: number): boolean {
    return (this.mode & MODE.breakpoints) !== 0 && this.#code.stops.has(low & (PAGE - 1));
  }

  /** Does the instruction at this linear address meet its breakpoint? #DB is pending then [SDM 3B 17.3.1.1]. */
  #breaksAt(low: number, high: number): boolean {
    const state = this.#state;
    const met = this.resumes ? 0 : instructionBreakpointsAt(state, low, high);
    if (met === 0) return false;
    state.i32[DR6 >> 2]! |= met;
    this.#pending.raise(VECTOR.debug, -1);
    return true;
  }

  /** Finds or decodes the block at BLOCK_PC. 0: a fetch fault is pending. `branch`: to be linked, or 0. */
  resolve(branch: number, step = 0): number {
    const state = this.#state;
    const pcLow = state.i32[BLOCK_PC >> 2]!;
    const high = state.i32[(BLOCK_PC >> 2) + 1]!;
    const low = (pcLow + this.codeBase) | 0;
    const stops = this.#stopsAt(low);
    if (stops && this.#breaksAt(low, high)) return 0;
    if (!this.#fetchable(pcLow, 1)) return 0;
    const page = this.#codePage(low, high);
    if (page < 0) return 0;
    const start = page * PAGE + (low & 0xfff);
    const mode = this.mode | step;
    let header = this.#code.known(start, mode);
    let crosses = false;
    if (header === 0) {
      const block = this.#block(low, high, start, mode);
      if (block === undefined) return 0;
      if (block === 'cleared') return this.resolve(0, step);
      header = block.header;
      crosses = block.secondPage !== -1;
    }
    // A block that crosses pages hangs on a second translation: it is always looked up.
    if (branch !== 0)
      this.#code.link(branch, crosses || stops || (mode & MODE.segments) !== 0 ? LINK.never : header);
    if (stops) return header;
    // Segments may end elsewhere at the next time.
    if ((mode & MODE.segments) !== 0)
      return this.#fetchable(pcLow, this.#code.instructionLength(header + RECORD.size)) ? header : 0;
    // An instruction that goes on from the last page of the address space in the first one hangs on both halves.
    if (crosses && high === -1 && low >>> 0 >= 0xffff_f000) return header;
    const epoch = state.i32[(high < 0 ? EPOCH_HIGH : EPOCH) >> 2]!;
    const entry = (this.#layout.jumpCache + jumpSlot(pcLow, high, epoch) * JUMP_ENTRY.size) >>> 2;
    this.#i32[entry] = pcLow;
    this.#i32[entry + 1] = high;
    this.#i32[entry + 2] = epoch;
    this.#i32[entry + 3] = header;
    return header;
  }

  /** RAM page that code at a linear address comes from. -1: a fault is pending. */
  #codePage(low: number, high: number): number {
    const known = this.#codePages.find(low, high, this.#mmu.codeSpace(high).generation);
    if (known >= 0) return known;
    const page = this.#mmu.translate(low, high, ACCESS_EXECUTE, this.#state.get32(CPL) === 3);
    if (page < 0) {
      this.#pending.raisePageFault(low, high);
      return -1;
    }
    this.#mmu.watchCode(low, high);
    const offset = this.#map.ramOffset(page);
    if (offset < 0) {
      // No code runs from devices or from nowhere: all such bytes read as an undefined instruction.
      this.#pending.raise(6, -1);
      return -1;
    }
    const found = Math.floor(offset / PAGE);
    this.#codePages.note(low, high, this.#mmu.codeSpace(high).generation, found);
    return found;
  }

  /** The block at a RAM offset, decoded if it must be. 'cleared': all blocks were thrown away to make room. */
  #block(low: number, high: number, start: number, mode: number): Block | 'cleared' | undefined {
    let fetchFailed = false;
    let second: { page: number; bytes: Uint8Array } | undefined;
    const secondPage = () => {
      if (second !== undefined || fetchFailed) return second;
      const nextLow = ((low & ~0xfff) + PAGE) | 0;
      const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
      const address = this.#mmu.translate(nextLow, nextHigh, ACCESS_EXECUTE, this.#state.get32(CPL) === 3);
      if (address < 0) {
        this.#pending.raisePageFault(nextLow, nextHigh);
        fetchFailed = true;
        return undefined;
      }
      this.#mmu.watchCode(nextLow, nextHigh);
      const ram = this.#map.ramOffset(address);
      const bytes =
        ram < 0
          ? new Uint8Array(15).fill(0xff)
          : this.#u8.subarray(this.#layout.ram + ram, this.#layout.ram + ram + 15);
      second = { page: ram < 0 ? -2 : ram / PAGE, bytes };
      return second;
    };
    const block = this.#code.find(start, mode, () => secondPage()?.page ?? -3);
    if (fetchFailed) return undefined;
    if (block !== undefined) return block;
    if (this.#code.full) {
      this.#code.clear();
      this.#mmu.forgetCode();
      this.#mmu.selectEpoch(mode, this.codeBase);
      return 'cleared';
    }
    return this.#code.build(start, mode, secondPage);
  }
}
