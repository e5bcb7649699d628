import { REGIONS } from '../layout.ts';
import type { ModuleCompiler } from './module-compiler.ts';

/** When and how much is compiled. */
export interface JitOptions {
  /** Times that a block is interpreted within one window before it is compiled. */
  readonly threshold: number;
  /**
   * Instructions of the guest after which whatever is not compiled counts as never run. What comes once in many thousand
   * instructions has left the host's caches by then, and compiled code is some twenty times as long as records are.
   */
  readonly window: number;
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
  threshold: 12_000,
  window: 100_000_000,
  maxBlocks: 64,
  maxRecords: 400,
  batch: 8,
  patience: 100,
  regrow: 50_000,
  live: REGIONS - 1,
};
