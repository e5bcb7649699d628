import {
  ACCESS_EXECUTE,
  type AccessKind,
  ALLOW,
  type PhysicalMemory,
  WalkResult,
  walk,
} from '../x86/paging.ts';
import {
  CPL,
  type CpuState,
  CR0,
  CR3,
  CR4,
  EFER,
  EPOCH,
  EPOCH_HIGH,
  FLAG,
  FLAGS_REST,
  PARTNER_EPOCH,
  PARTNER_EPOCH_HIGH,
  PARTNER_TLB,
  REFILL_ROOT,
  TLB_POINTER,
} from '../x86/state.ts';
import { dataBreakpoints } from '../x86/system/debug-register.ts';
import { MODE } from './code-mode.ts';
import { CodeSpace, EpochSource } from './code-space.ts';
import { type EngineLayout, PAGE, PAGE_FLAG, TLB_CONTEXTS } from './layout.ts';
import type { PhysicalMap } from './physical-map.ts';
import {
  type LinearRange,
  PLACE_MANY,
  PLACE_ROOT,
  PLACE_SHIFT,
  placeOf,
  rangeOfEntry,
} from './table-place.ts';
import { Tlb } from './tlb.ts';
import { WatchedTables } from './watched-tables.ts';

/**
 * Translation caches that the guest cannot observe (design 3): what they hold always equals what a walk would
 * give now. A RAM page that a walk read is marked; a store that changes a present entry of it drops what hangs on
 * that entry. So CR3 loads, INVLPG and the size of the cache are without effect on the guest.
 *
 * Pages are numbered by RAM offset / 4096.
 */

/** In place of a vector: the access has to be made by a single step. */
export const RESTART = -1;

/** One address space at one privilege. */
interface Context {
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
const USER = 1;
const UNCACHED = 0x1_0000;
const UNPAGED = 0x8000;
/** EFER.LMA and NXE. */
const LONG_MODE = 0x400;
const NO_EXECUTE = 0x800;
const CR0_AM = 0x4_0000;

/** Entries of a root from this one on translate addresses with bit 63 set. */
const UPPER_ENTRY = 256;

export class Mmu {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #contexts: Context[] = [];
  #context: Context;
  #uses = 0;
  readonly #epochs = new EpochSource();
  readonly #tlb: Tlb;
  readonly #tables: WatchedTables;
  readonly #range: LinearRange = { low: 0, high: 0, mask: 0 };
  /** Misaligned accesses of the running program are #AC: CR0.AM, RFLAGS.AC and privilege 3 [SDM 3A 6.15 AC]. */
  alignmentChecked = false;
  /** There are data breakpoints. */
  watched = false;
  /** Accesses are checked against the segment that they go through. */
  segmented = false;
  /** One byte of PAGE_FLAG bits for each RAM page. */
  readonly flags: Uint8Array;
  /** Written since the last digest. */
  readonly dirty: Uint8Array;
  readonly #walk: WalkResult = new WalkResult();
  readonly #memory: PhysicalMemory;
  /** The same, but nothing is stored: it is only noted that something would be. */
  readonly #untouched: PhysicalMemory;
  #stored = false;
  /**
   * A store by the walker (A and D bits) is a store like any other for code in that page. False: it may only be
   * made by a single step. `fetches`: no block is running.
   */
  storedByWalker: (page: number, offset: number, length: number, fetches: boolean) => boolean = () => true;
  #fetches = false;
  #refused = false;

  constructor(buffer: SharedArrayBuffer, layout: EngineLayout, state: CpuState, map: PhysicalMap) {
    this.#state = state;
    this.#layout = layout;
    this.#map = map;
    this.#u8 = new Uint8Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.flags = new Uint8Array(buffer, layout.pageFlags, layout.ramBytes / PAGE);
    this.dirty = new Uint8Array(buffer, layout.pageDirty, layout.ramBytes / PAGE);
    this.#tlb = new Tlb(buffer, layout);
    this.#tables = new WatchedTables(buffer, layout);
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
    this.#memory = {
      read32: (address) => {
        const offset = map.ramOffset(address);
        return offset < 0 ? 0xffff_ffff : this.#i32[(layout.ram + offset) >>> 2]! >>> 0;
      },
      write32: (address, value) => {
        const offset = map.ramOffset(address);
        if (offset < 0) return;
        const page = Math.floor(offset / PAGE);
        if (
          this.flags[page]! & PAGE_FLAG.code &&
          !this.storedByWalker(page, offset % PAGE, 4, this.#fetches)
        ) {
          this.#refused = true;
          return;
        }
        this.#i32[(layout.ram + offset) >>> 2] = value;
        this.dirty[page] = 1;
      },
    };
    this.#untouched = {
      read32: (address) => this.#memory.read32(address),
      write32: () => {
        this.#stored = true;
      },
    };
  }

  // ---------------------------------------------------------------------------------- contexts

  /**
   * Selects the context for the present CR3, controls and privilege, and the epoch for this mode and base of the
   * code segment.
   */
  select(mode: number, codeBase: number): void {
    const state = this.#state;
    const cr0 = state.get32(CR0);
    const paging = cr0 >>> 31;
    const user = state.get32(CPL) === 3 ? 1 : 0;
    // A program that asks for alignment checks, or has data breakpoints or segments of its own, has no translation cached: every access is looked at (LinearMemory).
    const checked =
      user === 1 && (cr0 & 1) !== 0 && (cr0 & CR0_AM) !== 0 && (state.get32(FLAGS_REST) & FLAG.ac) !== 0;
    this.alignmentChecked = checked;
    this.watched = dataBreakpoints(state) !== 0;
    this.segmented = (mode & MODE.segments) !== 0;
    const uncached = checked || this.watched || this.segmented;
    // CR0.WP, CR4.PSE PAE, EFER.LMA NXE; CR4.PGE changes no walk.
    const controls =
      (uncached ? UNCACHED : 0) |
      (paging
        ? user | ((cr0 >>> 15) & 2) | ((state.get32(CR4) & 0x30) << 2) | (state.get32(EFER) & 0xc00)
        : user | UNPAGED);
    const root = paging ? state.get32(CR3) + (state.get32(CR3 + 4) & 0xfffff) * 2 ** 32 : 0;
    const current = this.#present();
    if (current.root !== root || current.controls !== controls) {
      this.#context = this.#find(root, controls);
      state.i32[TLB_POINTER >> 2] = this.#tlb.address(this.#context.index);
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
    const context = this.#present();
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
  #present(): Context {
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

  /** That of a context whose upper half is translated by the same entries, at the same privilege; or a new one. */
  #upperHalf(context: Context): CodeSpace {
    if (context.rootPage >= 0) {
      for (const other of this.#contexts) {
        if (other.high === undefined || other.controls !== context.controls || other.rootPage < 0) continue;
        if (!this.#sameUpperHalf(context.rootPage, other.rootPage)) continue;
        this.#watch(context.rootPage, PLACE_ROOT);
        this.#watch(other.rootPage, PLACE_ROOT);
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

  // ---------------------------------------------------------------------------------- translation

  /** Why the last translation failed. */
  faultVector = 0;
  faultError = 0;

  /**
   * Walks the tables. Returns the guest physical address of the page's first byte, or -1 with faultVector and
   * faultError set. Sets A and D bits as the access does; the vector is RESTART when that has to be a single step.
   */
  translate(low: number, high: number, access: AccessKind, user: boolean): number {
    const result = this.#walk;
    this.#fetches = access === ACCESS_EXECUTE;
    if (!walk(this.#memory, this.#state, low, high, access, user, result)) {
      this.faultVector = result.vector;
      this.faultError = result.errorCode;
      return -1;
    }
    if (this.#refused) {
      this.#refused = false;
      this.faultVector = RESTART;
      return -1;
    }
    return result.page;
  }

  /**
   * RAM offset of the page that code at a linear address comes from, when it could be fetched without any effect (its
   * accessed flags are set); else -1. `watch`: code runs from it from now on.
   */
  codeOffset(linear: bigint, watch: boolean): number {
    const low = Number(linear & 0xffff_ffffn) | 0;
    const high = Number(linear >> 32n) | 0;
    this.#stored = false;
    const user = this.#state.get32(CPL) === 3;
    if (!walk(this.#untouched, this.#state, low, high, ACCESS_EXECUTE, user, this.#walk) || this.#stored)
      return -1;
    const offset = this.#map.ramOffset(this.#walk.page);
    if (offset >= 0 && watch) this.watchCode(low, high);
    return offset;
  }

  /** Marks the tables of the last successful walk: from now on stores to them are watched. */
  watchTables(low: number, high: number): void {
    const result = this.#walk;
    const count = result.entryCount;
    const long = count > 0 && (this.#state.get32(EFER) & LONG_MODE) !== 0;
    for (let index = 0; index < count; index++) {
      const offset = this.#map.ramOffset(result.entries[index]!);
      if (offset < 0) continue;
      let place = PLACE_MANY;
      if (long) place = placeOf(4 - index, low, high);
      // In PAE paging only last-level tables are worth knowing exactly, in 32-bit paging none.
      else if (count === 3 && index === 2) place = placeOf(1, low, high);
      this.#watch(Math.floor(offset / PAGE), place);
    }
  }

  #watch(page: number, place: number): void {
    if (this.#tables.watch(page, place)) this.#tlb.dropWriteTags(page);
  }

  /**
   * Lets reads of a linear page, by the last walk, go without a slow path; writes too when the walk allows them and
   * nothing watches the page.
   */
  fill(low: number, high: number, ramOffset: number, user: boolean): void {
    const context = this.#present();
    if ((context.controls & UNCACHED) !== 0) return;
    // Slow-path code may access memory with another privilege than the running code's (descriptor tables, the stack
    // of an interrupt): what that may see must not become visible to the running code.
    if (user !== ((context.controls & USER) === USER)) return;
    this.watchTables(low, high);
    const page = Math.floor(ramOffset / PAGE);
    const allowed = (this.#walk.allowed & (user ? ALLOW.userWrite : ALLOW.supervisorWrite)) !== 0;
    const write = allowed && this.flags[page] === 0;
    if (write) this.dirty[page] = 1;
    this.#tlb.fill(context.index, low, high, page, write);
  }

  /** Notes that code runs from this linear page, by the last walk. */
  watchCode(low: number, high: number): void {
    this.watchTables(low, high);
    this.codeSpace(high).add(low, high);
  }

  /** The half that addresses with this upper half belong to, in the present context. */
  codeSpace(high: number): CodeSpace {
    const context = this.#present();
    return high >= 0 ? context.low : this.#high(context);
  }

  #high(context: Context): CodeSpace {
    context.high ??= this.#upperHalf(context);
    return context.high;
  }

  /** From now on stores to this RAM page take the slow path. */
  dropWriteTags(page: number): void {
    this.#tlb.dropWriteTags(page);
  }

  /** Every store takes the slow path once more, so that `dirty` sees it: for digests and copies. */
  dropAllWriteTags(): void {
    this.#tlb.dropAllWriteTags();
  }

  // ---------------------------------------------------------------------------------- page-table stores

  /** Could a store to these bytes of a watched page change a translation? */
  mayChangeTranslation(page: number, offset: number, length: number): boolean {
    // The next store drops what hangs on the page; or it may end the sharing of an address space's upper half.
    if (this.#tables.worn(page)) return true;
    if (offset + length > UPPER_ENTRY * 8 && this.#isRoot(page)) return true;
    const base = (this.#layout.ram + page * PAGE) >>> 2;
    const last = Math.min(offset + length - 1, PAGE - 1);
    for (let entry = offset & ~3; entry <= last; entry += 4) {
      // The low word of an 8-byte entry holds P; a 4-byte entry is its own. Either may be present: be careful.
      if (this.#i32[base + ((entry & ~7) >>> 2)]! & 1) return true;
      if (this.#i32[base + (entry >>> 2)]! & 1) return true;
    }
    return false;
  }

  /**
   * Is what the store may change the translation of pages of 4 KiB that no code runs from? Then it may be made within
   * a block: accesses look their translation up each time, fetches do not.
   */
  changesOnlyData(page: number, offset: number, length: number): boolean {
    const place = this.#tables.place(page);
    if (place >>> PLACE_SHIFT !== 1 || this.#tables.worn(page)) return false;
    const range = this.#range;
    for (let index = offset >>> 3; index <= (offset + length - 1) >>> 3; index++) {
      rangeOfEntry(place, index, range);
      for (const { low, high } of this.#contexts) {
        if ((range.high < 0 ? high : low)?.runsFrom(range.low, range.high)) return false;
      }
    }
    return true;
  }

  /** RAM pages of the tables that the last walk read. */
  walkedTables(): number[] {
    const { entries, entryCount } = this.#walk;
    const pages: number[] = [];
    for (let index = 0; index < entryCount; index++) {
      const offset = this.#map.ramOffset(entries[index]!);
      if (offset >= 0) pages.push(Math.floor(offset / PAGE));
    }
    return pages;
  }

  #isRoot(page: number): boolean {
    for (const context of this.#contexts) if (context.rootPage === page) return true;
    return false;
  }

  /**
   * Drops what hangs on the entries that were present before the store and differ now. `alone`: no block goes on
   * behind the store, so the page may be let go, and with it the tables of that block.
   */
  tableStored(page: number, before: Uint8Array, first: number, alone: boolean): void {
    const place = this.#tables.place(page);
    if (place === 0) return;
    if (alone && this.#tables.worn(page)) {
      this.#release(page, place);
      return;
    }
    this.#tables.stored(page);
    const start = this.#layout.ram + page * PAGE + first;
    for (let at = 0; at < before.length; at += 8) {
      let changed = false;
      for (let byte = 0; byte < 8; byte++) {
        const old = before[at + byte]!;
        const now = this.#u8[start + at + byte]!;
        // Setting A or D changes no translation; clearing them does: the next use has to set them again.
        const harmless = byte === 0 ? now & ~old & 0x60 : 0;
        if (old !== (now & ~harmless)) changed = true;
      }
      if (!changed) continue;
      const index = (first + at) / 8;
      // Whether it was present or not: from now on this root's upper half is its own.
      if (index >= UPPER_ENTRY) this.#separate(page);
      if (((before[at]! | before[at + 4]!) & 1) === 0) continue;
      if (place === PLACE_MANY) {
        this.flush();
        return;
      }
      if (place === PLACE_ROOT) this.#dropRootEntry(page, index, before, at);
      else this.#dropEntry(place, index, before, at);
    }
  }

  /** Contexts with this root share their upper half no longer. */
  #separate(page: number): void {
    for (const context of this.#contexts) if (context.rootPage === page) context.high = undefined;
  }

  /** What an entry of a root translated is dropped. */
  #dropRootEntry(page: number, index: number, before: Uint8Array, at: number): void {
    this.#emptyRoot(page, index >= UPPER_ENTRY);
    const child = this.#tableOf(before, at);
    if (child < 0 || this.#tables.place(child) !== placeOf(3, 0, index << 7)) return;
    // Another address space may have the table at the same place; only its root's entry leads there.
    for (const { rootPage } of this.#contexts) {
      if (rootPage < 0 || rootPage === page) continue;
      const entry = this.#layout.ram + rootPage * PAGE + index * 8;
      if (this.#tableOf(this.#u8, entry) === child) return;
    }
    this.#tables.release(child);
  }

  /** RAM page of the table that an entry of a table of level 2 to 4 names; -1: none. */
  #tableOf(bytes: Uint8Array, at: number): number {
    const low = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    const offset = this.#map.ramOffset(((low & ~0xfff) >>> 0) + bytes[at + 4]! * 2 ** 32);
    return offset < 0 ? -1 : Math.floor(offset / PAGE);
  }

  /** Everything that hangs on the root of 4-level tables hangs on the contexts that have it. */
  #emptyRoot(page: number, wholly: boolean): void {
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

  /** What an entry of a table of level 1 to 3 translated is dropped, in every context. */
  #dropEntry(place: number, index: number, before: Uint8Array, at: number): void {
    const range = this.#range;
    rangeOfEntry(place, index, range);
    this.#dropRange(range);
    const level = place >>> PLACE_SHIFT;
    if (level === 1 || before[at]! & 0x80) return;
    // The table that the entry named: when it is used nowhere else, nothing hangs on it any more.
    const child = this.#tableOf(before, at);
    if (child >= 0 && this.#tables.place(child) === placeOf(level - 1, range.low, range.high))
      this.#tables.release(child);
  }

  /** Is what the table at this place translates in the upper half of the address space? */
  #isUpper(place: number): boolean {
    rangeOfEntry(place, 0, this.#range);
    return this.#range.high < 0;
  }

  #dropRange({ low, high, mask }: LinearRange): void {
    this.#tlb.dropRange(low, high, mask);
    for (const context of this.#contexts) (high < 0 ? context.high : context.low)?.dropped(low, high, mask);
  }

  /** A watched page becomes data: what hangs on it is dropped. */
  letGo(page: number): void {
    this.#separate(page);
    this.#release(page, this.#tables.place(page));
  }

  /** Drops everything that hangs on a page that walks used, and watches it no longer: it has become data. */
  #release(page: number, place: number): void {
    const level = place === PLACE_MANY ? 0 : place >>> PLACE_SHIFT;
    if (level === 4) {
      this.#emptyRoot(page, true);
    } else if (level === 3 && !this.#isUpper(place)) {
      // Half a terabyte of a program's.
      for (const context of this.#contexts) this.#emptyLowerHalf(context);
    } else if (level === 1 || level === 2) {
      const range = this.#range;
      rangeOfEntry(place, 0, range);
      // All of its 512 entries.
      range.mask <<= 9;
      this.#dropRange(range);
    } else {
      this.flush();
      return;
    }
    this.#tables.release(page);
  }
}
