import { assert } from '../../base/assert.ts';
import { BLOCK_PC, type CpuState, EPOCH, EPOCH_HIGH } from '../../x86/state.ts';
import type { Block } from '../code-cache.ts';
import { type EngineLayout, HEADER_REGION, PERMIT, RECORD } from '../layout.ts';
import type { Mmu } from '../mmu.ts';
import type { JitOptions } from './jit-options.ts';
import type { Region } from './region.ts';

/** The table of compiled regions that the interpreter calls. */
export interface RegionTable {
  set(index: number, region: unknown): void;
}

export interface LiveRegion extends Region {
  readonly number: number;
  /** Positions whose headers lead here. */
  readonly owned: Set<Block>;
  /** Entries until it is asked the next time whether it can grow. */
  heat: number;
}

/** Heat of a block that is not to be compiled on its own (again). */
export const COLD = 0x7fff_ffff;
/** A block is compiled until its regions have been dropped this often: what stands beside changing code is interpreted. */
const DROPS_MAX = 8;
/** So many times hotter than others a block must be that is in a region, but is entered elsewhere. */
const MEMBER_HEAT = 3;
/** Regions evicted to make room for one. */
const EVICTED_AT_ONCE = 8;

/**
 * The compiled regions that may be entered, and the headers of blocks that lead to them: entered from the interpreter,
 * permitted where their pages are mapped as when they were compiled, dropped when one of their blocks changes.
 */
export class LiveRegions {
  readonly #layout: EngineLayout;
  readonly #mmu: Mmu;
  readonly #state: CpuState;
  readonly #table: RegionTable;
  readonly #options: JitOptions;
  readonly #i32: Int32Array;
  readonly #u16: Uint16Array;
  readonly #owner = new Map<Block, LiveRegion>();
  readonly #members = new Map<Block, Set<LiveRegion>>();
  /** How often a region of the block was dropped because another block of it changed, or evicted. */
  readonly #drops = new Map<Block, number>();
  readonly #live = new Map<number, LiveRegion>();
  readonly #free: number[] = [];
  #next = 1;
  /** So many were, for whatever reason. */
  dropped = 0;

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    mmu: Mmu,
    state: CpuState,
    table: RegionTable,
    options: JitOptions,
  ) {
    this.#layout = layout;
    this.#mmu = mmu;
    this.#state = state;
    this.#table = table;
    this.#options = options;
    this.#i32 = new Int32Array(buffer);
    this.#u16 = new Uint16Array(buffer);
  }

  // ------------------------------------------------------------------------------------------ headers of blocks

  /** Number of the region that the header leads to; 0: none. */
  at(header: number): number {
    return this.#i32[(header + HEADER_REGION) >>> 2]!;
  }

  /** That region. */
  ledTo(header: number): LiveRegion {
    return this.#live.get(this.at(header))!;
  }

  /** Times that the block of a header that leads nowhere is interpreted before it is hot. */
  heatOf(header: number): number {
    return this.#i32[(header + RECORD.high) >>> 2]!;
  }

  setHeat(header: number, heat: number): void {
    this.#i32[(header + RECORD.high) >>> 2] = heat;
  }

  /**
   * A window is over: how often blocks were interpreted is counted from the beginning. Not how often regions were entered: what is
   * compiled had better be whole.
   */
  cool(blocks: Iterable<Block>): void {
    const { threshold } = this.#options;
    for (const block of blocks) {
      const heat = this.heatOf(block.header);
      if (heat === threshold || heat >= threshold * MEMBER_HEAT || this.at(block.header) !== 0) continue;
      this.setHeat(block.header, this.#members.has(block) ? threshold * MEMBER_HEAT : threshold);
    }
  }

  /** Is the block compiled in any region? */
  contain(block: Block): boolean {
    return this.#members.has(block);
  }

  /** It is not to be compiled any more. */
  worn(block: Block): boolean {
    return (this.#drops.get(block) ?? 0) >= DROPS_MAX;
  }

  // ------------------------------------------------------------------------------------------ coming

  /** A number for one more region, beside those that live and `held` that do not yet. */
  number(held: number): number {
    if (this.#live.size + held >= this.#options.live) this.evict(EVICTED_AT_ONCE);
    return this.#free.pop() ?? this.#next++;
  }

  /** Of a region that never lives. */
  giveBack(number: number): void {
    this.#free.push(number);
  }

  /** From now on its blocks are entered here, where they are entries of it; those of older regions no longer there. */
  install(region: LiveRegion, compiled: unknown): void {
    this.#table.set(region.number, compiled);
    this.#live.set(region.number, region);
    this.#setRegionHeat(region);
    const permits = this.#layout.permits + region.number * PERMIT.count * PERMIT.size;
    this.#i32.fill(0, permits >>> 2, (permits + PERMIT.count * PERMIT.size) >>> 2);
    const entries = new Set(region.entries);
    region.blocks.forEach(({ block, delta }, position) => {
      const members = this.#members.get(block);
      if (members === undefined) this.#members.set(block, new Set([region]));
      else members.add(region);
      if (!entries.has(position)) {
        if (this.#owner.get(block) === undefined)
          this.setHeat(block.header, this.#options.threshold * MEMBER_HEAT);
        return;
      }
      const before = this.#owner.get(block);
      // A block that is mapped twice is entered by its first address.
      if (before === region) return;
      if (before !== undefined) {
        before.owned.delete(block);
        if (before.owned.size === 0) this.#release(before);
      }
      this.#owner.set(block, region);
      region.owned.add(block);
      this.#u16[(block.header + RECORD.a) >>> 1] = position + 1;
      this.#i32[(block.header + RECORD.high) >>> 2] = delta;
      this.#i32[(block.header + HEADER_REGION) >>> 2] = region.number;
    });
  }

  /** So often it is entered before it is asked again. */
  reheat(region: LiveRegion, heat: number): void {
    region.heat = heat;
    this.#setRegionHeat(region);
  }

  #setRegionHeat({ number, heat }: LiveRegion): void {
    this.#i32[(this.#layout.regionHeat >>> 2) + number] = heat;
  }

  /** May the region be entered from the header, at BLOCK_PC? Notes the answer for this epoch. */
  permit(header: number): void {
    const number = this.at(header);
    const region = this.#live.get(number)!;
    const delta = this.#i32[(header + RECORD.high) >>> 2]!;
    const base = BigInt.asUintN(64, this.#state.get64(BLOCK_PC) - BigInt(delta));
    const epoch = this.#state.i32[(base >> 63n ? EPOCH_HIGH : EPOCH) >> 2]!;
    let given: number = PERMIT.yes;
    for (const [page, offset] of region.pages) {
      const linear = BigInt.asUintN(64, base - (base & 0xfffn) + BigInt(page) * 4096n);
      // A region does not reach over the end of the address space: its halves have epochs of their own.
      if (linear >> 63n !== base >> 63n || this.#mmu.codeOffset(linear, true) !== offset) given = PERMIT.no;
    }
    const slot =
      (this.#layout.permits + (number * PERMIT.count + (epoch & (PERMIT.count - 1))) * PERMIT.size) >>> 2;
    this.#i32[slot] = Number(base & 0xffff_ffffn) | 0;
    this.#i32[slot + 1] = Number(base >> 32n) | 0;
    this.#i32[slot + 2] = epoch;
    this.#i32[slot + 3] = given;
  }

  /** What is compiled is left alone, and everything interpreted; or it is used again. */
  suspend(suspended: boolean): void {
    for (const region of this.#live.values()) {
      const left = new Set(region.owned);
      region.blocks.forEach(({ block, delta }) => {
        if (!left.delete(block)) return;
        this.setHeat(block.header, suspended ? COLD : delta);
        this.#i32[(block.header + HEADER_REGION) >>> 2] = suspended ? 0 : region.number;
      });
    }
  }

  // ------------------------------------------------------------------------------------------ going

  /** Drops the oldest regions: their blocks are interpreted again until they are hot again, a few times. */
  evict(count: number): void {
    let left = count;
    for (const region of this.#live.values()) {
      if (left-- === 0) return;
      for (const block of region.owned) this.#countDrop(block);
      this.#drop(region);
    }
  }

  #countDrop(block: Block): void {
    this.#drops.set(block, (this.#drops.get(block) ?? 0) + 1);
  }

  /** The block has changed. */
  killed(block: Block): void {
    for (const region of this.#members.get(block) ?? []) {
      for (const { block: other } of region.blocks) this.#countDrop(other);
      this.#drop(region);
    }
    this.#drops.delete(block);
  }

  /** The region is not to be entered any more: one of its blocks has changed. */
  #drop(region: LiveRegion): void {
    for (const block of region.owned) {
      this.#i32[(block.header + HEADER_REGION) >>> 2] = 0;
      this.setHeat(block.header, this.#options.threshold);
      this.#owner.delete(block);
    }
    region.owned.clear();
    this.dropped++;
    this.#release(region);
  }

  /** Nothing leads to the region any more. */
  #release(region: LiveRegion): void {
    assert(this.#live.delete(region.number), 'a region is released once');
    for (const { block } of region.blocks) {
      const members = this.#members.get(block);
      members?.delete(region);
      if (members?.size === 0) this.#members.delete(block);
    }
    this.#table.set(region.number, null);
    this.#free.push(region.number);
  }

  /** Everything that was compiled is forgotten. */
  clear(): void {
    for (const region of [...this.#live.values()]) this.#release(region);
    this.#owner.clear();
    this.#members.clear();
    this.#drops.clear();
  }
}
