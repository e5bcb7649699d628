import type { DiskMode } from './disk-mode.ts';
import type { Extent } from './extent.ts';

/** Blocks of the disks, as in a bitmap. */
export class BlockSet {
  readonly #blockBytes: number;
  readonly #disks: readonly Set<number>[];

  constructor({ bytes, blockBytes }: DiskMode) {
    this.#blockBytes = blockBytes;
    this.#disks = bytes.map(() => new Set());
  }

  get size(): number {
    return this.#disks.reduce((sum, blocks) => sum + blocks.size, 0);
  }

  add({ disk, offset, length }: Extent): void {
    const blocks = this.#disks[disk];
    if (!blocks) return;
    const end = offset + length;
    for (let block = Math.floor(offset / this.#blockBytes); block * this.#blockBytes < end; block++)
      blocks.add(block);
  }

  addAll(other: BlockSet): void {
    other.#disks.forEach((blocks, disk) => {
      for (const block of blocks) this.#disks[disk]?.add(block);
    });
  }

  /** In the order of the disks and of their blocks. */
  extents({ bytes }: DiskMode): Extent[] {
    return this.#disks.flatMap((blocks, disk) =>
      [...blocks]
        .sort((one, other) => one - other)
        .flatMap((block) => {
          const offset = block * this.#blockBytes;
          const length = Math.min(this.#blockBytes, (bytes[disk] ?? 0) - offset);
          return length > 0 ? [{ disk, offset, length }] : [];
        }),
    );
  }
}
