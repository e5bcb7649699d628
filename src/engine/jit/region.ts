import type { Block } from '../code-cache.ts';

/** One block of a region. */
export interface RegionBlock {
  readonly block: Block;
  /** Linear address, from that of the region's first block. */
  readonly delta: number;
}

/** Blocks that are compiled into one function. */
export interface Region {
  /** In the order of their code. */
  readonly blocks: readonly RegionBlock[];
  /** Positions at which it can be entered; they are also where returns go to. */
  readonly entries: readonly number[];
  /** Where a call in the region goes on when it returns. */
  readonly returnSites: readonly number[];
  /** Position of a block that ends with an indirect jump or call -> position of the block it went to last. */
  readonly predicted: ReadonlyMap<number, number>;
  /** How often it was grown anew. */
  readonly growth: number;
  /** Linear page from that of the first block -> RAM offset of the page. More than one need a permit. */
  readonly pages: ReadonlyMap<number, number>;
}
