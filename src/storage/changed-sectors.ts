import type { Extent } from '../ft/extent.ts';

const SECTOR_BYTES = 512;

/** Which sectors of a disk have been changed since it was made: a bit for each. */
export class ChangedSectors {
  readonly #bits: Uint8Array;

  constructor(diskBytes: number) {
    this.#bits = new Uint8Array(Math.ceil(diskBytes / SECTOR_BYTES / 8));
  }

  add({ offset, length }: Extent): void {
    for (let sector = offset / SECTOR_BYTES; sector < (offset + length) / SECTOR_BYTES; sector++)
      this.#bits[sector >> 3]! |= 1 << (sector & 7);
  }

  /** The stretches of `extent` that have not been changed. */
  others({ disk, offset, length }: Extent): Extent[] {
    const others: Extent[] = [];
    let start: number | undefined;
    for (let at = offset; at <= offset + length; at += SECTOR_BYTES) {
      const free = at < offset + length && !this.#has(at / SECTOR_BYTES);
      if (free) start ??= at;
      else if (start !== undefined) {
        others.push({ disk, offset: start, length: at - start });
        start = undefined;
      }
    }
    return others;
  }

  #has(sector: number): boolean {
    return (this.#bits[sector >> 3]! & (1 << (sector & 7))) !== 0;
  }
}
