import { compile, instantiate, type WasmMemory, type WasmModule } from '../../wasm/webassembly.ts';
import type { CpuState } from '../../x86/state.ts';
import type { Block, CodeCache } from '../code-cache.ts';
import { INTERPRETED } from '../code-mode.ts';
import type { EngineLayout } from '../layout.ts';
import type { Mmu } from '../mmu.ts';
import type { OperationTable } from '../operation-table.ts';
import type { JitOptions } from './jit-options.ts';
import { COLD, type LiveRegion, LiveRegions, type RegionTable } from './live-regions.ts';
import type { ModuleCompiler } from './module-compiler.ts';
import type { Region } from './region.ts';
import { RegionCompiler } from './region-compiler.ts';
import { RegionGrowth } from './region-growth.ts';

/** Growing anew goes on from what was grown anew at most this often; each time takes four times as many entries. */
const GROWTHS_MAX = 3;
const REGROW_SHIFT = 2;
/** When shaken: so many compiled regions wait at most. */
const ARRIVING_MAX = 64;
/** Modules that are being compiled at a time; what becomes hot meanwhile has to wait. */
const COMPILING_MAX = 16;

/**
 * Finds hot blocks and has them compiled, together with what they lead to [RegionGrowth]: some at a time, here or elsewhere
 * while the guest runs on. What is compiled and still of use by then is entered from then on [LiveRegions].
 */
export class Jit {
  readonly #memory: WasmMemory;
  readonly #code: CodeCache;
  readonly #compiler: RegionCompiler;
  readonly #growth: RegionGrowth;
  readonly #regions: LiveRegions;
  readonly #options: JitOptions;
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
  /** Instructions to the end of the present window. */
  #window: number;
  readonly #made = { regions: 0, blocks: 0, bytes: 0 };

  constructor(
    memory: WasmMemory,
    layout: EngineLayout,
    table: OperationTable,
    code: CodeCache,
    mmu: Mmu,
    state: CpuState,
    compiled: RegionTable,
    options: JitOptions,
  ) {
    this.#memory = memory;
    this.#code = code;
    const compiler = new RegionCompiler(layout, table, code);
    this.#compiler = compiler;
    const regions = new LiveRegions(memory.buffer, layout, mmu, state, compiled, options);
    this.#regions = regions;
    this.#growth = new RegionGrowth({ state, mmu, code, table, compiler, regions }, options);
    this.#options = options;
    this.#shaken = options.shake ?? 0;
    this.#window = options.window;
    code.heat = options.threshold;
    code.onKill = (block) => regions.killed(block);
    code.onClear = () => this.#clear();
  }

  /** For those who tune it. */
  get statistics() {
    return { ...this.#made, dropped: this.#regions.dropped };
  }

  // ------------------------------------------------------------------------------------------ hot blocks

  /** The block at BLOCK_PC has been interpreted often. */
  hot(header: number): void {
    if (this.#regions.at(header) !== 0) {
      this.#enteredOften(header);
      return;
    }
    if (this.#suspended || this.#busy) {
      this.#regions.setHeat(header, this.#options.threshold);
      return;
    }
    const seed = this.#code.blockAt(header);
    this.#regions.setHeat(header, COLD);
    // A block that crosses pages is one instruction; what follows it is compiled.
    if (seed === undefined || (seed.mode & INTERPRETED) !== 0 || seed.secondPage !== -1) return;
    if (this.#regions.worn(seed)) return;
    if (this.#waiting.has(seed)) {
      this.#regions.setHeat(header, this.#options.threshold);
      return;
    }
    this.#enqueue(this.#grow(seed, 0));
  }

  /**
   * The region has been entered often, this time at the header. When it was grown, what it leads to was not yet warm,
   * or where its indirect jumps go not known; now they may be within it.
   */
  #enteredOften(header: number): void {
    const region = this.#regions.ledTo(header);
    this.#regions.reheat(region, Math.min(region.heat * (1 << REGROW_SHIFT), COLD));
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

  /** The region around a block that begins at BLOCK_PC. */
  #grow(seed: Block, growth: number): Region {
    const small = this.#shaken !== 0 && this.#chance(2);
    return this.#growth.grow(seed, growth, small ? 2 : this.#options.maxBlocks);
  }

  /** A run of the engine is over, of so many instructions. */
  end(retired: number): void {
    this.#window -= retired;
    if (this.#window > 0) return;
    this.#window = this.#options.window;
    this.#regions.cool(this.#code.living);
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
    if (this.#chance(64)) this.#regions.evict(1);
    // They hold numbers.
    while (this.#arriving.length > ARRIVING_MAX) this.#arrive();
  }

  #arrive(): void {
    const arrived = this.#arriving.shift();
    if (arrived === undefined) return;
    if (this.#isAlive(arrived.region)) this.#regions.install(arrived.region, arrived.compiled);
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
      const number = this.#regions.number(held + batch.size);
      const heat = this.#options.regrow * (1 << (region.growth * REGROW_SHIFT));
      batch.set(number, { ...region, number, owned: new Set(), heat });
    }
    this.#pending.length = 0;
    this.#noteWaiting();
    this.#age = 0;
    if (batch.size === 0) return;
    const bytes = this.#compiler.module(batch);
    this.#made.bytes += bytes.length;
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
      this.#made.regions++;
      this.#made.blocks += region.blocks.length;
      if (this.#shaken !== 0) this.#arriving.push({ region, compiled });
      else if (this.#isAlive(region)) this.#regions.install(region, compiled);
      else this.#discard(region);
    }
  }

  /** It is compiled, and of no use any more. */
  #discard(region: LiveRegion): void {
    this.#regions.giveBack(region.number);
    this.#giveUp(region);
  }

  /** A block of it has changed. The one that it was grown from, its first, may become hot once more. */
  #giveUp({ blocks: [first] }: Region): void {
    if (first === undefined || this.#code.blockAt(first.block.header) !== first.block) return;
    if (this.#regions.at(first.block.header) === 0)
      this.#regions.setHeat(first.block.header, this.#options.threshold);
  }

  /** While it is, everything is interpreted and nothing compiled; what is compiled stays, and is used afterwards. */
  set suspended(suspended: boolean) {
    if (this.#suspended === suspended) return;
    this.#suspended = suspended;
    this.#regions.suspend(suspended);
  }

  /** May the region be entered from the header, at BLOCK_PC? Notes the answer for this epoch. */
  permit(header: number): void {
    this.#regions.permit(header);
  }

  #clear(): void {
    this.#regions.clear();
    this.#pending.length = 0;
    this.#waiting.clear();
    const given = [...this.#compiling.values()].flatMap((batch) => [...batch.keys()]);
    this.#compiling.clear();
    for (const { region } of this.#arriving.splice(0)) given.push(region.number);
    for (const number of given) this.#regions.giveBack(number);
  }
}
