import {
  type CpuState,
  EPOCH,
  EPOCH_HIGH,
  PARTNER_EPOCH,
  PARTNER_EPOCH_HIGH,
  PARTNER_TLB,
  REFILL_ROOT,
  TLB_POINTER,
} from '../x86/state.ts';
import { CodeSpace, EpochSource } from './code-space.ts';
import { type EngineLayout, PAGE, TLB_CONTEXTS } from './layout.ts';
import type { PhysicalMap } from './physical-map.ts';
import { type LinearRange, PLACE_ROOT } from './table-place.ts';
import type { Tlb } from './tlb.ts';
import type { WatchedTables } from './watched-tables.ts';

/** One address space at one privilege. */
export interface Context {
  /** Number of its translation cache. */
  readonly index: number;
  root: number;
  /** Paging controls and privilege. */
  controls: number;
  /** RAM page of the root of 4-level tables, or -1. */
  rootPage: number;
  /** Code below and above the middle of the address space; above it may be shared (docs/ENGINE.md). */
  readonly low: CodeSpace;
  high: CodeSpace | undefined;
  /** The same address space at the other privilege, when it was looked for and found. */
  partner: Context | undefined;
  lastUse: number;
}

/** Bits of a context's controls: the accesses' privilege; its translation cache stays empty; no paging. */
export const USER = 1;
export const UNCACHED = 0x1_0000;
export const UNPAGED = 0x8000;
/** EFER.LMA and NXE. */
export const LONG_MODE = 0x400;
const NO_EXECUTE = 0x800;

/** Entries of a root from this one on translate addresses with bit 63 set. */
export const UPPER_ENTRY = 256;

/**
 * The address spaces for which translations and ways to code are kept, each with its privilege; of those that are not in
 * use the oldest makes room. A program's two privileges are partners, so that SYSCALL and SYSRET go over in generated
 * code; the kernel's half of several programs is one, as long as their roots say the same about it.
 */
export class AddressSpaces {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #i32: Int32Array;
  readonly #tlb: Tlb;
  readonly #tables: WatchedTables;
  readonly #contexts: Context[] = [];
  #context: Context;
  #uses = 0;
  readonly #epochs = new EpochSource();

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    state: CpuState,
    map: PhysicalMap,
    tlb: Tlb,
    tables: WatchedTables,
  ) {
    this.#state = state;
    this.#layout = layout;
    this.#map = map;
    this.#i32 = new Int32Array(buffer);
    this.#tlb = tlb;
    this.#tables = tables;
    for (let index = 0; index < TLB_CONTEXTS; index++) {
      this.#contexts.push({
        index,
        root: -1,
        controls: -1,
        rootPage: -1,
        low: new CodeSpace(this.#epochs),
        high: undefined,
        partner: undefined,
        lastUse: 0,
      });
    }
    this.#context = this.#contexts[0]!;
  }

  // ---------------------------------------------------------------------------------- the present one

  /** From now on this address space is the present one, and the epoch that of this mode and base of the code segment. */
  select(root: number, controls: number, mode: number, codeBase: number): void {
    const current = this.present();
    if (current.root !== root || current.controls !== controls) {
      this.#context = this.#find(root, controls);
      this.#state.i32[TLB_POINTER >> 2] = this.#tlb.address(this.#context.index);
    }
    this.selectEpoch(mode, codeBase);
  }

  #find(root: number, controls: number): Context {
    let oldest = this.#contexts[0]!;
    for (const context of this.#contexts) {
      if (context.root === root && context.controls === controls) {
        context.lastUse = ++this.#uses;
        return context;
      }
      if (context.lastUse < oldest.lastUse) oldest = context;
    }
    this.#empty(oldest);
    oldest.root = root;
    oldest.controls = controls;
    oldest.rootPage = this.#rootPage(root, controls);
    oldest.lastUse = ++this.#uses;
    return oldest;
  }

  #rootPage(root: number, controls: number): number {
    if ((controls & (UNPAGED | LONG_MODE)) !== LONG_MODE) return -1;
    const offset = this.#map.ramOffset(root - (root % PAGE));
    return offset < 0 ? -1 : Math.floor(offset / PAGE);
  }

  selectEpoch(mode: number, codeBase: number): void {
    const context = this.present();
    const { i32 } = this.#state;
    i32[EPOCH >> 2] = context.low.epoch(mode, codeBase);
    i32[EPOCH_HIGH >> 2] = this.#high(context).epoch(mode, codeBase);
    i32[TLB_POINTER >> 2] = this.#tlb.address(context.index);
    const refill = context.rootPage >= 0 && (context.controls & (UNCACHED | NO_EXECUTE)) === NO_EXECUTE;
    i32[REFILL_ROOT >> 2] = refill ? this.#layout.ram + context.rootPage * PAGE : 0;
    const partner = (context.controls & UNCACHED) === 0 ? this.#partner(context) : undefined;
    i32[PARTNER_TLB >> 2] = partner === undefined ? 0 : this.#tlb.address(partner.index);
    if (partner === undefined) return;
    i32[PARTNER_EPOCH >> 2] = partner.low.epoch(mode, codeBase);
    i32[PARTNER_EPOCH_HIGH >> 2] = this.#high(partner).epoch(mode, codeBase);
  }

  /** The context that is running: SYSCALL and SYSRET go over to the partner and back without a word. */
  present(): Context {
    const { partner } = this.#context;
    if (partner !== undefined && this.#state.i32[TLB_POINTER >> 2] === this.#tlb.address(partner.index)) {
      this.#context = partner;
      partner.lastUse = ++this.#uses;
    }
    return this.#context;
  }

  /** The same address space at the other privilege, when it is known. */
  #partner(context: Context): Context | undefined {
    const { root, partner } = context;
    const controls = context.controls ^ USER;
    if (partner !== undefined && partner.root === root && partner.controls === controls) return partner;
    context.partner = this.#contexts.find((other) => other.root === root && other.controls === controls);
    if (context.partner !== undefined) context.partner.partner = context;
    return context.partner;
  }

  /** The half that addresses with this upper half belong to, in the present context. */
  codeSpace(high: number): CodeSpace {
    const context = this.present();
    return high >= 0 ? context.low : this.#high(context);
  }

  #high(context: Context): CodeSpace {
    context.high ??= this.#upperHalf(context);
    return context.high;
  }

  /** That of a context whose upper half is translated by the same entries, at the same privilege; or a new one. */
  #upperHalf(context: Context): CodeSpace {
    if (context.rootPage >= 0) {
      for (const other of this.#contexts) {
        if (other.high === undefined || other.controls !== context.controls || other.rootPage < 0) continue;
        if (!this.#sameUpperHalf(context.rootPage, other.rootPage)) continue;
        this.#tables.watch(context.rootPage, PLACE_ROOT);
        this.#tables.watch(other.rootPage, PLACE_ROOT);
        return other.high;
      }
    }
    return new CodeSpace(this.#epochs);
  }

  /** Are the entries equal, and needs none of them a flag set when it is used? */
  #sameUpperHalf(page: number, otherPage: number): boolean {
    const i32 = this.#i32;
    const from = (this.#layout.ram + page * PAGE + UPPER_ENTRY * 8) >>> 2;
    const apart = ((otherPage - page) * PAGE) >> 2;
    for (let index = from; index < from + (PAGE - UPPER_ENTRY * 8) / 4; index += 2) {
      const entry = i32[index]!;
      if (entry !== i32[index + apart] || i32[index + 1] !== i32[index + 1 + apart]) return false;
      if ((entry & 0x21) === 1) return false;
    }
    return true;
  }

  #empty(context: Context): void {
    this.#tlb.empty(context.index);
    context.low.end();
    context.high = undefined;
  }

  // ---------------------------------------------------------------------------------- what hangs on them

  /** Drops every translation and every way from a linear address to code. */
  flush(): void {
    for (const context of this.#contexts) this.#empty(context);
    this.#tables.releaseAll();
  }

  /** Drops every way from a linear address to code: blocks were thrown away. */
  forgetCode(): void {
    for (const context of this.#contexts) {
      context.low.end();
      context.high?.end();
    }
  }

  /** Is the page the root of one? */
  isRoot(page: number): boolean {
    for (const context of this.#contexts) if (context.rootPage === page) return true;
    return false;
  }

  /** Contexts with this root share their upper half no longer. */
  separate(page: number): void {
    for (const context of this.#contexts) if (context.rootPage === page) context.high = undefined;
  }

  /** Everything that hangs on the root of 4-level tables hangs on the contexts that have it. */
  emptyRoot(page: number, wholly: boolean): void {
    for (const context of this.#contexts) {
      if (context.rootPage !== page) continue;
      if (wholly) this.#empty(context);
      else this.#emptyLowerHalf(context);
    }
  }

  /** Drops all translations, but the ways to code of the lower half only: nothing of the upper half has changed. */
  #emptyLowerHalf(context: Context): void {
    this.#tlb.empty(context.index);
    context.low.end();
  }

  /** In every address space: half a terabyte of a program's has changed. */
  emptyLowerHalves(): void {
    for (const context of this.#contexts) this.#emptyLowerHalf(context);
  }

  dropRange({ low, high, mask }: LinearRange): void {
    this.#tlb.dropRange(low, high, mask);
    for (const context of this.#contexts) (high < 0 ? context.high : context.low)?.dropped(low, high, mask);
  }

  /** Does code run from the page at this linear address, in any of them? */
  runCodeFrom({ low, high }: LinearRange): boolean {
    for (const context of this.#contexts)
      if ((high < 0 ? context.high : context.low)?.runsFrom(low, high)) return true;
    return false;
  }

  /** Roots of the others than this one. */
  otherRoots(page: number): number[] {
    return this.#contexts.flatMap(({ rootPage }) => (rootPage < 0 || rootPage === page ? [] : [rootPage]));
  }
}
