import { CALL, CALL_INDIRECT } from '../../x86/micro-operations/control.ts';
import { BLOCK_PC, type CpuState } from '../../x86/state.ts';
import type { Block, CodeCache } from '../code-cache.ts';
import { MODE } from '../code-mode.ts';
import { PAGE, RECORD } from '../layout.ts';
import type { Mmu } from '../mmu.ts';
import type { OperationTable } from '../operation-table.ts';
import type { JitOptions } from './jit-options.ts';
import { COLD, type LiveRegions } from './live-regions.ts';
import type { Region, RegionBlock } from './region.ts';
import type { RegionCompiler } from './region-compiler.ts';

/** A return compares its target with this many places at most. */
const RETURN_SITES_MAX = 8;

/** What a region is grown with. */
export interface GrowthBasis {
  readonly state: CpuState;
  readonly mmu: Mmu;
  readonly code: CodeCache;
  readonly table: OperationTable;
  readonly compiler: RegionCompiler;
  readonly regions: LiveRegions;
}

/**
 * Which blocks are compiled together: a hot block and the warm ones that it leads to, by branches, calls, returns and the
 * indirect jumps of the last time, also on other pages of 64-bit code.
 */
export class RegionGrowth {
  readonly #state: CpuState;
  readonly #mmu: Mmu;
  readonly #code: CodeCache;
  readonly #table: OperationTable;
  readonly #compiler: RegionCompiler;
  readonly #regions: LiveRegions;
  readonly #options: JitOptions;

  constructor({ state, mmu, code, table, compiler, regions }: GrowthBasis, options: JitOptions) {
    this.#state = state;
    this.#mmu = mmu;
    this.#code = code;
    this.#table = table;
    this.#compiler = compiler;
    this.#regions = regions;
    this.#options = options;
  }

  /** The region around a block that begins at BLOCK_PC. */
  grow(seed: Block, growth: number, maxBlocks: number): Region {
    const { maxRecords } = this.#options;
    const start = this.#state.get64(BLOCK_PC);
    const chosen = new Map<number, RegionBlock>();
    const returns = new Set<number>();
    const pages = new Map<number, number>();
    const inPage = seed.start % PAGE;
    pages.set(0, seed.start - inPage);
    let records = 0;
    const add = (delta: number, known?: Block): RegionBlock | undefined => {
      const page = Math.floor((inPage + delta) / PAGE);
      let offset = pages.get(page);
      if (offset === undefined) {
        if ((seed.mode & MODE.codeMask) !== MODE.code64) return undefined;
        offset = this.#mmu.codeOffset(BigInt.asUintN(64, start + BigInt(delta)), false);
        if (offset < 0) return undefined;
      }
      const at = offset + ((((inPage + delta) % PAGE) + PAGE) % PAGE);
      const block = known ?? this.#code.find(at, seed.mode, () => -3);
      if (block === undefined || block.secondPage !== -1) return undefined;
      if (block !== seed && !this.#warm(block, growth)) return undefined;
      records += (block.recordsEnd - block.header) / RECORD.size;
      pages.set(page, offset);
      const entry = { block, delta };
      chosen.set(delta, entry);
      return entry;
    };
    const queue: RegionBlock[] = [];
    const first = add(0, seed)!;
    queue.push(first);
    for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
      const successors = this.#compiler.targets(entry);
      const site = this.#returnSite(entry);
      if (site !== undefined) successors.push(site);
      const noted = this.#predicted(entry, start);
      if (noted !== undefined) successors.push(noted);
      for (const delta of successors) {
        if (chosen.has(delta) || chosen.size >= maxBlocks || records >= maxRecords) continue;
        const next = add(delta);
        if (next !== undefined) queue.push(next);
      }
      if (site !== undefined && chosen.has(site)) returns.add(site);
    }
    return this.#ordered(chosen, returns, pages, start, growth);
  }

  /**
   * Has the block run often enough to be worth compiling along? One that is in a region already is compiled again
   * only into a region that lacks it.
   */
  #warm(block: Block, growth: number): boolean {
    if (this.#regions.worn(block)) return false;
    if (growth > 0 ? this.#regions.contain(block) : this.#regions.at(block.header) !== 0) return true;
    const heat = this.#regions.heatOf(block.header);
    return heat === COLD || heat <= this.#options.threshold - this.#options.threshold / 16;
  }

  /** Where the call that ends the block returns to, or undefined. */
  #returnSite({ block, delta }: RegionBlock): number | undefined {
    const last = block.recordsEnd - RECORD.size;
    const number = this.#code.operation(last);
    if (number !== this.#table.number(CALL) && number !== this.#table.number(CALL_INDIRECT)) return undefined;
    return delta + this.#code.fields(last).a;
  }

  /** Delta of the block that the indirect jump at the end of this one went to last. */
  #predicted(entry: RegionBlock, start: bigint): number | undefined {
    const low = this.#compiler.noted(entry);
    return low === undefined ? undefined : (low - Number(BigInt.asIntN(32, start))) | 0;
  }

  /** Reverse postorder, so that most jumps go forward. */
  #ordered(
    chosen: ReadonlyMap<number, RegionBlock>,
    returns: ReadonlySet<number>,
    pages: Map<number, number>,
    start: bigint,
    growth: number,
  ): Region {
    const order: RegionBlock[] = [];
    const seen = new Set<number>();
    const stack: { entry: RegionBlock; next: number[] }[] = [];
    const visit = (delta: number): void => {
      const entry = chosen.get(delta);
      if (entry === undefined || seen.has(delta)) return;
      seen.add(delta);
      const next = this.#compiler.targets(entry);
      const site = this.#returnSite(entry);
      if (site !== undefined) next.unshift(site);
      const noted = this.#predicted(entry, start);
      if (noted !== undefined) next.push(noted);
      stack.push({ entry, next });
    };
    visit(0);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const delta = top.next.shift();
      if (delta === undefined) {
        order.push(top.entry);
        stack.pop();
      } else {
        visit(delta);
      }
    }
    order.reverse();
    const position = new Map(order.map(({ delta }, index) => [delta, index]));
    const entries = new Set([0]);
    order.forEach((entry, from) => {
      for (const delta of this.#compiler.targets(entry)) {
        const to = position.get(delta);
        if (to !== undefined && to <= from) entries.add(to);
      }
    });
    const predicted = new Map<number, number>();
    order.forEach((entry, from) => {
      const to = position.get(this.#predicted(entry, start) ?? Number.NaN);
      if (to === undefined) return;
      predicted.set(from, to);
      if (to <= from) entries.add(to);
    });
    const returnSites: number[] = [];
    for (const delta of returns) {
      const at = position.get(delta);
      if (at === undefined) continue;
      entries.add(at);
      returnSites.push(at);
    }
    return {
      blocks: order,
      entries: [...entries],
      returnSites: returnSites.slice(0, RETURN_SITES_MAX),
      predicted,
      growth,
      pages,
    };
  }
}
