import { assert } from '../../base/assert.ts';
import { compile, instantiate, type WasmMemory, type WasmModule } from '../../wasm/webassembly.ts';
import { CALL, CALL_INDIRECT } from '../../x86/micro-operations/control.ts';
import type { CpuState } from '../../x86/state.ts';
import { BLOCK_PC, EPOCH, EPOCH_HIGH } from '../../x86/state.ts';
import type { Block, CodeCache } from '../code-cache.ts';
import { INTERPRETED, MODE } from '../code-mode.ts';
import { type EngineLayout, HEADER_REGION, PAGE, PERMIT, RECORD, REGIONS } from '../layout.ts';
import type { Mmu } from '../mmu.ts';
import type { OperationTable } from '../operation-table.ts';
import type { Region, RegionBlock } from './region.ts';
import { RegionCompiler } from './region-compiler.ts';

/** The table of compiled regions that the interpreter calls. */
export interface RegionTable {
  set(index: number, region: unknown): void;
}

/** Compiles modules of regions elsewhere while the guest runs on. It may serve several machines, one after the other. */
export interface ModuleCompiler {
  /** It has so much to do, also of machines that are gone, that it should be given no more. */
  readonly full: boolean;
  /** A number by which the module is known when it is ready. */
  compile(bytes: Uint8Array<ArrayBuffer>): number;
  /** One that is ready. */
  take(): CompiledModule | undefined;
}

export interface CompiledModule {
  readonly number: number;
  readonly module: WasmModule;
}

export interface JitOptions {
  /** Times that a block is interpreted before it is compiled. */
  readonly threshold: number;
  readonly maxBlocks: number;
  readonly maxRecords: number;
  /** Regions that make a module, and runs of the engine that the first of them waits for the others. */
  readonly batch: number;
  readonly patience: number;
  /** Times that a region is entered before it is grown anew. */
  readonly regrow: number;
  /** Regions kept at a time; the oldest make room, a few at once. */
  readonly live: number;
  /**
   * For tests: a seed by which regions become small, wait, arrive late and are evicted at any moment. Nothing that a
   * guest sees may depend on it.
   */
  readonly shake?: number;
  /** Without it modules are compiled here, while the guest waits. */
  readonly modules?: ModuleCompiler;
}

export const JIT_DEFAULTS: JitOptions = {
  threshold: 6000,
  maxBlocks: 64,
  maxRecords: 400,
  batch: 8,
  patience: 100,
  regrow: 50_000,
  live: REGIONS - 1,
};

/** Heat of a block that is not to be compiled on its own (again). */
const COLD = 0x7fff_ffff;
/** A block is compiled until its regions have been dropped this often: what stands beside changing code is interpreted. */
const DROPS_MAX = 8;
/** Growing anew goes on from what was grown anew at most this often; each time takes four times as many entries. */
const GROWTHS_MAX = 3;
const REGROW_SHIFT = 2;
/** A return compares its target with this many places at most. */
const RETURN_SITES_MAX = 8;
/** So many times hotter than others a block must be that is in a region, but is entered elsewhere. */
const MEMBER_HEAT = 3;
/** When shaken: so many compiled regions wait at most. */
const ARRIVING_MAX = 64;
/** Modules that are being compiled at a time; what becomes hot meanwhile has to wait. */
const COMPILING_MAX = 16;
/** Regions evicted to make room for one. */
const EVICTED_AT_ONCE = 8;

interface LiveRegion extends Region {
  readonly number: number;
  /** Positions whose headers lead here. */
  readonly owned: Set<Block>;
  /** Entries until it is asked the next time whether it can grow. */
  heat: number;
}

/** Finds hot blocks, compiles them together with what they lead to, and keeps the compiled regions. */
export class Jit {
  readonly #memory: WasmMemory;
  readonly #layout: EngineLayout;
  readonly #table: OperationTable;
  readonly #code: CodeCache;
  readonly #mmu: Mmu;
  readonly #state: CpuState;
  readonly #regions: RegionTable;
  readonly #compiler: RegionCompiler;
  readonly #options: JitOptions;
  readonly #i32: Int32Array;
  readonly #u16: Uint16Array;
  readonly #owner = new Map<Block, LiveRegion>();
  readonly #members = new Map<Block, Set<LiveRegion>>();
  /** How often a region of the block was dropped because another block of it changed, or evicted. */
  readonly #drops = new Map<Block, number>();
  readonly #live = new Map<number, LiveRegion>();
  readonly #free: number[] = [];
  /** Regions to be compiled, those that each module under way has, and the blocks of all of them. */
  readonly #pending: Region[] = [];
  readonly #compiling = new Map<number, Map<number, LiveRegion>>();
  readonly #waiting = new Set<Block>();
  /** Compiled, but not yet to be entered: only when shaken. */
  readonly #arriving: { region: LiveRegion; compiled: unknown }[] = [];
  #shaken: number;
  #suspended = false;
  /** Runs of the engine since the first of them came. */
  #age = 0;
  #next = 1;
  /** For those who tune it. */
  readonly statistics = { regions: 0, blocks: 0, bytes: 0, dropped: 0 };

  constructor(
    memory: WasmMemory,
    layout: EngineLayout,
    table: OperationTable,
    code: CodeCache,
    mmu: Mmu,
    state: CpuState,
    regions: RegionTable,
    options: JitOptions,
  ) {
    this.#memory = memory;
    this.#layout = layout;
    this.#table = table;
    this.#code = code;
    this.#mmu = mmu;
    this.#state = state;
    this.#regions = regions;
    this.#compiler = new RegionCompiler(layout, table, code);
    this.#options = options;
    this.#shaken = options.shake ?? 0;
    this.#i32 = new Int32Array(memory.buffer);
    this.#u16 = new Uint16Array(memory.buffer);
    code.heat = options.threshold;
    code.onKill = (block) => this.#killed(block);
    code.onClear = () => this.#clear();
  }

  // ------------------------------------------------------------------------------------------ hot blocks

  /** The block at BLOCK_PC has been interpreted often. */
  hot(header: number): void {
    if (this.#regionOf(header) !== 0) {
      this.#enteredOften(header);
      return;
    }
    if (this.#suspended || this.#busy) {
      this.#setHeat(header, this.#options.threshold);
      return;
    }
    const seed = this.#code.blockAt(header);
    this.#setHeat(header, COLD);
    // A block that crosses pages is one instruction; what follows it is compiled.
    if (seed === undefined || (seed.mode & INTERPRETED) !== 0 || seed.secondPage !== -1) return;
    if ((this.#drops.get(seed) ?? 0) >= DROPS_MAX) return;
    if (this.#waiting.has(seed)) {
      this.#setHeat(header, this.#options.threshold);
      return;
    }
    this.#enqueue(this.#grow(seed, 0));
  }

  /**
   * The region has been entered often, this time at the header. When it was grown, what it leads to was not yet warm,
   * or where its indirect jumps go not known; now they may be within it.
   */
  #enteredOften(header: number): void {
    const region = this.#live.get(this.#regionOf(header))!;
    region.heat = Math.min(region.heat * (1 << REGROW_SHIFT), COLD);
    this.#setRegionHeat(region);
    const seed = this.#code.blockAt(header);
    if (seed === undefined || region.growth === GROWTHS_MAX || this.#waiting.has(seed)) return;
    if (this.#busy) return;
    const grown = this.#grow(seed, region.growth + 1);
    const known = new Set(region.blocks.map(({ block }) => block));
    if (grown.blocks.every(({ block }) => known.has(block))) return;
    this.#enqueue(grown);
  }

  #enqueue(region: Region): void {
    this.#pending.push(region);
    for (const { block } of region.blocks) this.#waiting.add(block);
    if (this.#pending.length >= this.#options.batch) this.#compile();
  }

  #regionOf(header: number): number {
    return this.#i32[(header + HEADER_REGION) >>> 2]!;
  }

  #setRegionHeat({ number, heat }: LiveRegion): void {
    this.#i32[(this.#layout.regionHeat >>> 2) + number] = heat;
  }

  /** A run of the engine begins: regions do not wait for others for ever. */
  begin(): void {
    if (this.#shaken !== 0 && !this.#suspended) this.#shake();
    if (this.#suspended) return;
    const { modules } = this.#options;
    if (modules !== undefined && (this.#compiling.size > 0 || modules.full)) this.#takeCompiled(modules);
    if (this.#pending.length > 0 && ++this.#age > this.#options.patience && !this.#busy) this.#compile();
  }

  /** What becomes hot has to wait: the compiler does not keep up. */
  get #busy(): boolean {
    return this.#compiling.size >= COMPILING_MAX || this.#options.modules?.full === true;
  }

  #shake(): void {
    if (this.#chance(4) && this.#pending.length > 0) this.#compile();
    if (this.#chance(4)) this.#arrive();
    if (this.#chance(64)) this.#evict(1);
    // They hold numbers.
    while (this.#arriving.length > ARRIVING_MAX) this.#arrive();
  }

  #arrive(): void {
    const arrived = this.#arriving.shift();
    if (arrived === undefined) return;
    if (this.#isAlive(arrived.region)) this.#install(arrived.region, arrived.compiled);
    else this.#discard(arrived.region);
  }

  /** True once in `times`, by the seed. */
  #chance(times: number): boolean {
    // xorshift32
    this.#shaken ^= this.#shaken << 13;
    this.#shaken ^= this.#shaken >>> 17;
    this.#shaken ^= this.#shaken << 5;
    return (this.#shaken >>> 0) % times === 0;
  }

  #isAlive(region: Region): boolean {
    return region.blocks.every(({ block }) => this.#code.blockAt(block.header) === block);
  }

  /** A number for one more region, beside those that live and `held` that do not yet. */
  #number(held: number): number {
    if (this.#live.size + held >= this.#options.live) this.#evict(EVICTED_AT_ONCE);
    return this.#free.pop() ?? this.#next++;
  }

  /** Drops the oldest regions: their blocks are interpreted again until they are hot again, a few times. */
  #evict(count: number): void {
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

  /** Has what waits compiled, as one module: each costs a good deal by itself. */
  #compile(): void {
    const batch = new Map<number, LiveRegion>();
    let held = this.#arriving.length;
    for (const { size } of this.#compiling.values()) held += size;
    for (const region of this.#pending) {
      if (!this.#isAlive(region)) {
        this.#giveUp(region);
        continue;
      }
      const number = this.#number(held + batch.size);
      const heat = this.#options.regrow * (1 << (region.growth * REGROW_SHIFT));
      batch.set(number, { ...region, number, owned: new Set(), heat });
    }
    this.#pending.length = 0;
    this.#noteWaiting();
    this.#age = 0;
    if (batch.size === 0) return;
    const bytes = this.#compiler.module(batch);
    this.statistics.bytes += bytes.length;
    const { modules } = this.#options;
    if (modules === undefined) {
      this.#compiled(batch, compile(bytes));
    } else {
      this.#compiling.set(modules.compile(bytes), batch);
      this.#noteWaiting();
    }
  }

  /** What is ready. The guest has run on: code of a region may have changed, and all of it may have been forgotten. */
  #takeCompiled(modules: ModuleCompiler): void {
    for (let ready = modules.take(); ready !== undefined; ready = modules.take()) {
      const batch = this.#compiling.get(ready.number);
      // Undefined: it was for the machine before this one, or is of no use any more.
      if (batch === undefined) continue;
      this.#compiling.delete(ready.number);
      this.#compiled(batch, ready.module);
      this.#noteWaiting();
    }
  }

  #noteWaiting(): void {
    this.#waiting.clear();
    const compiling = [...this.#compiling.values()].flatMap((batch) => [...batch.values()]);
    for (const { blocks } of [...this.#pending, ...compiling])
      for (const { block } of blocks) this.#waiting.add(block);
  }

  #compiled(batch: ReadonlyMap<number, LiveRegion>, module: WasmModule): void {
    const instance = instantiate(module, { memory: this.#memory });
    for (const [number, region] of batch) {
      const compiled = instance.exports[String(number)];
      this.statistics.regions++;
      this.statistics.blocks += region.blocks.length;
      if (this.#shaken !== 0) this.#arriving.push({ region, compiled });
      else if (this.#isAlive(region)) this.#install(region, compiled);
      else this.#discard(region);
    }
  }

  /** It is compiled, and of no use any more. */
  #discard(region: LiveRegion): void {
    this.#free.push(region.number);
    this.#giveUp(region);
  }

  /** A block of it has changed. The one that it was grown from, its first, may become hot once more. */
  #giveUp({ blocks: [first] }: Region): void {
    if (first === undefined || this.#code.blockAt(first.block.header) !== first.block) return;
    if (this.#regionOf(first.block.header) === 0) this.#setHeat(first.block.header, this.#options.threshold);
  }

  #install(region: LiveRegion, compiled: unknown): void {
    this.#regions.set(region.number, compiled);
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
          this.#setHeat(block.header, this.#options.threshold * MEMBER_HEAT);
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

  #setHeat(header: number, heat: number): void {
    this.#i32[(header + RECORD.high) >>> 2] = heat;
  }

  /** While it is, everything is interpreted and nothing compiled; what is compiled stays, and is used afterwards. */
  set suspended(suspended: boolean) {
    if (this.#suspended === suspended) return;
    this.#suspended = suspended;
    for (const region of this.#live.values()) {
      const left = new Set(region.owned);
      region.blocks.forEach(({ block, delta }) => {
        if (!left.delete(block)) return;
        this.#setHeat(block.header, suspended ? COLD : delta);
        this.#i32[(block.header + HEADER_REGION) >>> 2] = suspended ? 0 : region.number;
      });
    }
  }

  /** May the region be entered from the header, at BLOCK_PC? Notes the answer for this epoch. */
  permit(header: number): void {
    const number = this.#regionOf(header);
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

  // ------------------------------------------------------------------------------------------ growing

  /** The region around a block that begins at BLOCK_PC. */
  #grow(seed: Block, growth: number): Region {
    const { maxRecords } = this.#options;
    const maxBlocks = this.#shaken !== 0 && this.#chance(2) ? 2 : this.#options.maxBlocks;
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
    if ((this.#drops.get(block) ?? 0) >= DROPS_MAX) return false;
    if (growth > 0 ? this.#members.has(block) : this.#regionOf(block.header) !== 0) return true;
    const heat = this.#i32[(block.header + RECORD.high) >>> 2]!;
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

  // ------------------------------------------------------------------------------------------ dropping

  #killed(block: Block): void {
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
      this.#setHeat(block.header, this.#options.threshold);
      this.#owner.delete(block);
    }
    region.owned.clear();
    this.statistics.dropped++;
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
    this.#regions.set(region.number, null);
    this.#free.push(region.number);
  }

  #clear(): void {
    for (const region of [...this.#live.values()]) this.#release(region);
    this.#pending.length = 0;
    this.#waiting.clear();
    for (const batch of this.#compiling.values()) this.#free.push(...batch.keys());
    this.#compiling.clear();
    for (const { region } of this.#arriving.splice(0)) this.#free.push(region.number);
    this.#owner.clear();
    this.#members.clear();
    this.#drops.clear();
  }
}
