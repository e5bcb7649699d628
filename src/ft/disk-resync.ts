import type { FtAction } from './action.ts';
import type { BlockSet } from './block-set.ts';
import type { DiskMode } from './disk-mode.ts';
import type { Extent } from './extent.ts';

/** Blocks that are being read, or are sent and not stored. */
const BLOCKS_AHEAD = 32;

/**
 * The blocks that a new backup's copy lacks, each sent once while the guest runs [FT 4.1]. They begin after the snapshot,
 * in the channel of the log: a block may hold later writes, but the marks of those went down the same channel before it.
 */
export class DiskResync {
  readonly #mode: DiskMode;
  readonly #copy: number;
  readonly #do: (action: FtAction) => void;
  /** Undefined: all blocks. */
  readonly #lacking: readonly Extent[] | undefined;
  #at = 0;
  #disk = 0;
  #offset = 0;
  #asked = 0;
  #sent = 0;
  #stored = 0;
  #bytes = 0;
  #zeroes = 0;

  constructor(
    copy: number,
    mode: DiskMode,
    lacking: BlockSet | undefined,
    perform: (action: FtAction) => void,
  ) {
    this.#copy = copy;
    this.#mode = mode;
    this.#lacking = lacking?.extents(mode);
    this.#do = perform;
  }

  get copy(): number {
    return this.#copy;
  }

  /** What was sent so far. */
  get figures(): { readonly blocks: number; readonly bytes: number; readonly zeroes: number } {
    return { blocks: this.#sent, bytes: this.#bytes, zeroes: this.#zeroes };
  }

  /** Asks for as many blocks as may be on their way. True: the last one has been stored. */
  goOn(): boolean {
    while (this.#asked - this.#stored < BLOCKS_AHEAD) {
      const extent = this.#next();
      if (!extent) return this.#stored === this.#asked;
      this.#asked += 1;
      this.#do({ kind: 'read-block', copy: this.#copy, extent });
    }
    return false;
  }

  sent(data: Uint8Array | undefined): void {
    this.#sent += 1;
    if (data) this.#bytes += data.length;
    else this.#zeroes += 1;
  }

  /** The backup has stored so many; false: more than were sent. */
  stored(blocks: number): boolean {
    if (blocks > this.#sent) return false;
    this.#stored = Math.max(this.#stored, blocks);
    return true;
  }

  #next(): Extent | undefined {
    if (this.#lacking) return this.#lacking[this.#at++];
    const { bytes, blockBytes } = this.#mode;
    while (this.#disk < bytes.length && this.#offset >= bytes[this.#disk]!) {
      this.#disk += 1;
      this.#offset = 0;
    }
    if (this.#disk === bytes.length) return undefined;
    const length = Math.min(blockBytes, bytes[this.#disk]! - this.#offset);
    const extent = { disk: this.#disk, offset: this.#offset, length };
    this.#offset += length;
    return extent;
  }
}
