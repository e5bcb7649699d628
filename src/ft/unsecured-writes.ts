import { BlockSet } from './block-set.ts';
import type { DiskMode } from './disk-mode.ts';
import type { Extent } from './extent.ts';

/** Writes so far apart in the log are secured apart. */
const PART_ENTRIES = 256n;

/**
 * Blocks that a backup's copy may lack should it be lost now: those written by entries that it has not said to have on
 * stable storage. That it has replayed them is not enough: its host may lose power.
 */
export class UnsecuredWrites {
  readonly #mode: DiskMode;
  /** Each up to a position, in order; the last one is open. */
  #parts: { readonly from: bigint; through: bigint; readonly blocks: BlockSet }[] = [];

  constructor(mode: DiskMode) {
    this.#mode = mode;
  }

  /** Written by the entry at `position`. */
  wrote(position: bigint, extent: Extent): void {
    let last = this.#parts.at(-1);
    if (!last || position - last.from > PART_ENTRIES) {
      last = { from: position, through: position, blocks: new BlockSet(this.#mode) };
      this.#parts.push(last);
    }
    last.blocks.add(extent);
    last.through = position;
  }

  secured(position: bigint): void {
    this.#parts = this.#parts.filter(({ through }) => through > position);
  }

  get blocks(): BlockSet {
    const all = new BlockSet(this.#mode);
    for (const { blocks } of this.#parts) all.addAll(blocks);
    return all;
  }
}
