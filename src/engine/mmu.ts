import {
  ACCESS_EXECUTE,
  type AccessKind,
  ALLOW,
  type PhysicalMemory,
  WalkResult,
  walk,
} from '../x86/paging.ts';
import { CPL, type CpuState, CR0, CR3, CR4, EFER, FLAG, FLAGS_REST } from '../x86/state.ts';
import { dataBreakpoints } from '../x86/system/debug-register.ts';
import { AddressSpaces, LONG_MODE, UNCACHED, UNPAGED, USER } from './address-spaces.ts';
import { MODE } from './code-mode.ts';
import type { CodeSpace } from './code-space.ts';
import { type EngineLayout, PAGE, PAGE_FLAG } from './layout.ts';
import type { PhysicalMap } from './physical-map.ts';
import { PLACE_MANY, placeOf } from './table-place.ts';
import { TableStores } from './table-stores.ts';
import { Tlb } from './tlb.ts';
import { WatchedTables } from './watched-tables.ts';

/** In place of a vector: the access has to be made by a single step. */
export const RESTART = -1;

const CR0_AM = 0x4_0000;

/**
 * Translation caches that the guest cannot observe (design 3): what they hold always equals what a walk would
 * give now. A RAM page that a walk read is marked; a store that changes a present entry of it drops what hangs on
 * that entry. So CR3 loads, INVLPG and the size of the cache are without effect on the guest.
 *
 * Pages are numbered by RAM offset / 4096.
 */
export class Mmu {
  readonly #state: CpuState;
  readonly #map: PhysicalMap;
  readonly #i32: Int32Array;
  readonly #tlb: Tlb;
  readonly #tables: WatchedTables;
  readonly #spaces: AddressSpaces;
  /** What stores to page tables lead to. */
  readonly tableStores: TableStores;
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
    this.#map = map;
    this.#i32 = new Int32Array(buffer);
    this.flags = new Uint8Array(buffer, layout.pageFlags, layout.ramBytes / PAGE);
    this.dirty = new Uint8Array(buffer, layout.pageDirty, layout.ramBytes / PAGE);
    this.#tlb = new Tlb(buffer, layout);
    this.#tables = new WatchedTables(buffer, layout, this.#tlb);
    this.#spaces = new AddressSpaces(buffer, layout, state, map, this.#tlb, this.#tables);
    this.tableStores = new TableStores(buffer, layout, map, this.#tables, this.#spaces);
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

  // ---------------------------------------------------------------------------------- address spaces

  /**
   * Selects the address space for the present CR3, controls and privilege, and the epoch for this mode and base of the
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
    this.#spaces.select(root, controls, mode, codeBase);
  }

  /** The same address space, at another mode or base of the code segment. */
  selectEpoch(mode: number, codeBase: number): void {
    this.#spaces.selectEpoch(mode, codeBase);
  }

  /** Drops every translation and every way from a linear address to code. */
  flush(): void {
    this.#spaces.flush();
  }

  /** Drops every way from a linear address to code: blocks were thrown away. */
  forgetCode(): void {
    this.#spaces.forgetCode();
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
      this.#tables.watch(Math.floor(offset / PAGE), place);
    }
  }

  /**
   * Lets reads of a linear page, by the last walk, go without a slow path; writes too when the walk allows them and
   * nothing watches the page.
   */
  fill(low: number, high: number, ramOffset: number, user: boolean): void {
    const context = this.#spaces.present();
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

  /** The half that addresses with this upper half belong to, in the present address space. */
  codeSpace(high: number): CodeSpace {
    return this.#spaces.codeSpace(high);
  }

  /** From now on stores to this RAM page take the slow path. */
  dropWriteTags(page: number): void {
    this.#tlb.dropWriteTags(page);
  }

  /** Every store takes the slow path once more, so that `dirty` sees it: for digests and copies. */
  dropAllWriteTags(): void {
    this.#tlb.dropAllWriteTags();
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
}
