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
  DR7,
  EFER,
  EPOCH,
  FLAG,
  FLAGS_REST,
  TLB_POINTER,
} from '../x86/state.ts';
import { MODES } from './code-mode.ts';
import { type EngineLayout, PAGE, TLB_CONTEXTS, TLB_ENTRY } from './layout.ts';
import type { PhysicalMap } from './physical-map.ts';

/**
 * Translation caches that the guest cannot observe (design 3): what they hold always equals what a walk would
 * give now. A RAM page that a walk read is marked; a store that changes a present entry of it drops what hangs on
 * that entry. So CR3 loads, INVLPG and the size of the cache are without effect on the guest.
 *
 * Pages are numbered by RAM offset / 4096.
 */

/** In place of a vector: the access has to be made by a single step. */
export const RESTART = -1;

/** What keeps a RAM page from being written without a slow path. */
export const PAGE_FLAG = { code: 1, table: 2 } as const;

/** One address space at one privilege. */
interface Context {
  root: number;
  /** Paging controls and privilege. */
  controls: number;
  readonly tlb: number;
  /** Mode key and code base -> epoch of the jump cache. */
  readonly epochs: Map<number, number>;
  /** Linear pages from which code runs in the present epochs. */
  readonly codePages: Set<number>;
  filled: boolean;
  lastUse: number;
}

/** What a page-table page translates, when that is one known range. */
interface TableUse {
  /** Linear page of its first entry; -1 when it is used at more than one place. */
  firstPage: number;
  /** Stores seen: many mean that the page has become data, so the marks are dropped and set anew. */
  stores: number;
}

/** A bit of a context's controls: its translation cache stays empty. */
const UNCACHED = 0x1_0000;
const CR0_AM = 0x4_0000;

/** After this many stores to one watched page everything is dropped once. */
const TABLE_STORES_MAX = 128;

export class Mmu {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #contexts: Context[] = [];
  #context: Context;
  #uses = 0;
  #nextEpoch = 1;
  readonly #tables = new Map<number, TableUse>();
  /** Misaligned accesses of the running program are #AC: CR0.AM, RFLAGS.AC and privilege 3 [SDM 3A 6.15 AC]. */
  alignmentChecked = false;
  /** The enable bits of DR7. */
  breakpoints = 0;
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
    this.flags = new Uint8Array(layout.ramBytes / PAGE);
    this.dirty = new Uint8Array(layout.ramBytes / PAGE);
    for (let index = 0; index < TLB_CONTEXTS; index++) {
      this.#contexts.push({
        root: -1,
        controls: -1,
        tlb: layout.tlb + index * layout.tlbEntries * TLB_ENTRY.size,
        epochs: new Map(),
        codePages: new Set(),
        filled: true,
        lastUse: 0,
      });
    }
    for (const context of this.#contexts) this.#empty(context);
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
    // A program that asks for alignment checks, or with breakpoints, has no translation cached: every access is looked at (LinearMemory).
    const checked = user === 1 && (cr0 & CR0_AM) !== 0 && (state.get32(FLAGS_REST) & FLAG.ac) !== 0;
    this.alignmentChecked = checked;
    this.breakpoints = state.get32(DR7) & 0xff;
    const uncached = checked || this.breakpoints !== 0;
    // CR0.WP, CR4.PSE PAE PGE, EFER.LMA NXE.
    const controls =
      (uncached ? UNCACHED : 0) |
      (paging
        ? user | ((cr0 >>> 15) & 2) | ((state.get32(CR4) & 0xb0) << 2) | (state.get32(EFER) & 0xc00)
        : user | 0x8000);
    const root = paging ? state.get32(CR3) + (state.get32(CR3 + 4) & 0xfffff) * 2 ** 32 : 0;
    const current = this.#context;
    if (current.root !== root || current.controls !== controls) this.#context = this.#find(root, controls);
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
    oldest.lastUse = ++this.#uses;
    return oldest;
  }

  selectEpoch(mode: number, codeBase: number): void {
    const context = this.#context;
    const key = codeBase * MODES + mode;
    let epoch = context.epochs.get(key);
    if (epoch === undefined) {
      epoch = this.#nextEpoch = (this.#nextEpoch + 1) | 0;
      context.epochs.set(key, epoch);
    }
    this.#state.i32[EPOCH >> 2] = epoch;
    this.#state.i32[TLB_POINTER >> 2] = context.tlb;
  }

  #empty(context: Context): void {
    if (context.filled) {
      const bytes = this.#layout.tlbEntries * TLB_ENTRY.size;
      this.#u8.fill(0xff, context.tlb, context.tlb + bytes);
      context.filled = false;
    }
    context.epochs.clear();
    context.codePages.clear();
  }

  /** Drops every translation and every way from a linear address to code. */
  flush(): void {
    for (const context of this.#contexts) this.#empty(context);
    for (const page of this.#tables.keys()) this.flags[page]! &= ~PAGE_FLAG.table;
    this.#tables.clear();
  }

  /** Drops every way from a linear address to code: blocks were thrown away. */
  forgetCode(): void {
    for (const context of this.#contexts) {
      context.epochs.clear();
      context.codePages.clear();
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
    const linearPage = (high >>> 0) * 2 ** 20 + (low >>> 12);
    for (let index = 0; index < result.entryCount; index++) {
      const offset = this.#map.ramOffset(result.entries[index]!);
      if (offset < 0) continue;
      const page = Math.floor(offset / PAGE);
      // Only last-level tables of 8-byte entries are worth knowing exactly.
      const last = result.entryCount >= 3 && result.sizeBits === 12 && index === result.entryCount - 1;
      const firstPage = last ? linearPage - (linearPage % 512) : -1;
      const use = this.#tables.get(page);
      if (use === undefined) {
        this.#tables.set(page, { firstPage, stores: 0 });
        this.flags[page]! |= PAGE_FLAG.table;
        this.dropWriteTags(page);
      } else if (use.firstPage !== firstPage) {
        use.firstPage = -1;
      }
    }
  }

  /**
   * Lets reads of a linear page, by the last walk, go without a slow path; writes too when the walk allows them and
   * nothing watches the page.
   */
  fill(low: number, high: number, ramOffset: number, user: boolean): void {
    const context = this.#context;
    if ((context.controls & UNCACHED) !== 0) return;
    // Slow-path code may access memory with another privilege than the running code's (descriptor tables, the stack
    // of an interrupt): what that may see must not become visible to the running code.
    if (user !== ((context.controls & 1) === 1)) return;
    this.watchTables(low, high);
    const write = (this.#walk.allowed & (user ? ALLOW.userWrite : ALLOW.supervisorWrite)) !== 0;
    context.filled = true;
    const entry = context.tlb + ((low >>> 12) & (this.#layout.tlbEntries - 1)) * TLB_ENTRY.size;
    const index = entry >>> 2;
    const i32 = this.#i32;
    const tag = low & ~0xfff;
    const same = i32[index] === tag && i32[index + 1] === (high | 0);
    i32[index] = tag;
    i32[index + 1] = high;
    const page = Math.floor(ramOffset / PAGE);
    if (write && this.flags[page] === 0) {
      i32[index + 2] = tag;
      i32[index + 3] = high;
      this.dirty[page] = 1;
    } else if (!same) {
      i32[index + 2] = -1;
      i32[index + 3] = -1;
    }
    i32[index + 4] = (this.#layout.ram + page * PAGE - tag) | 0;
  }

  /** Notes that code runs from this linear page, by the last walk. */
  watchCode(low: number, high: number): void {
    this.watchTables(low, high);
    this.#context.codePages.add((high >>> 0) * 2 ** 20 + (low >>> 12));
  }

  /** From now on stores to this RAM page take the slow path. */
  dropWriteTags(page: number): void {
    const i32 = this.#i32;
    const host = (this.#layout.ram + page * PAGE) | 0;
    const step = TLB_ENTRY.size >>> 2;
    for (const context of this.#contexts) {
      if (!context.filled) continue;
      const end = (context.tlb >>> 2) + this.#layout.tlbEntries * step;
      for (let index = context.tlb >>> 2; index < end; index += step) {
        if (((i32[index + 2]! + i32[index + 4]!) | 0) === host) {
          i32[index + 2] = -1;
          i32[index + 3] = -1;
        }
      }
    }
  }

  /** Every store takes the slow path once more, so that `dirty` sees it: for digests and copies. */
  dropAllWriteTags(): void {
    const i32 = this.#i32;
    const step = TLB_ENTRY.size >>> 2;
    for (const context of this.#contexts) {
      if (!context.filled) continue;
      const end = (context.tlb >>> 2) + this.#layout.tlbEntries * step;
      for (let index = context.tlb >>> 2; index < end; index += step) {
        i32[index + 2] = -1;
        i32[index + 3] = -1;
      }
    }
  }

  // ---------------------------------------------------------------------------------- page-table stores

  /** Could a store to these bytes of a watched page change a translation? */
  mayChangeTranslation(page: number, offset: number, length: number): boolean {
    // The next store drops everything.
    if ((this.#tables.get(page)?.stores ?? 0) >= TABLE_STORES_MAX) return true;
    const base = (this.#layout.ram + page * PAGE) >>> 2;
    const last = Math.min(offset + length - 1, PAGE - 1);
    for (let entry = offset & ~3; entry <= last; entry += 4) {
      // The low word of an 8-byte entry holds P; a 4-byte entry is its own. Either may be present: be careful.
      if (this.#i32[base + ((entry & ~7) >>> 2)]! & 1) return true;
      if (this.#i32[base + (entry >>> 2)]! & 1) return true;
    }
    return false;
  }

  /** Drops what hangs on the entries that were present before the store and differ now. */
  tableStored(page: number, before: Uint8Array, first: number): void {
    const use = this.#tables.get(page);
    if (use === undefined) return;
    if (++use.stores > TABLE_STORES_MAX) {
      this.flush();
      return;
    }
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
      const present = (before[at]! | before[at + 4]!) & 1;
      if (!changed || !present) continue;
      if (use.firstPage >= 0) {
        this.#dropPage(use.firstPage + (first + at) / 8);
      } else {
        this.flush();
        return;
      }
    }
  }

  #dropPage(linearPage: number): void {
    const high = Math.floor(linearPage / 2 ** 20) | 0;
    const tag = ((linearPage % 2 ** 20) << 12) | 0;
    const slot = (linearPage % this.#layout.tlbEntries) * TLB_ENTRY.size;
    const i32 = this.#i32;
    for (const context of this.#contexts) {
      if (context.codePages.has(linearPage)) {
        context.epochs.clear();
        context.codePages.clear();
      }
      if (!context.filled) continue;
      const index = (context.tlb + slot) >>> 2;
      if (i32[index] === tag && i32[index + 1] === high) {
        for (let word = 0; word < 4; word++) i32[index + word] = -1;
      }
    }
  }
}
