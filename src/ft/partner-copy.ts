import type { FtAction } from './action.ts';
import type { BlockSet } from './block-set.ts';
import { type CopyName, NO_COPY } from './copy-name.ts';
import type { DiskMode } from './disk-mode.ts';
import { DiskResync } from './disk-resync.ts';
import type { Extent } from './extent.ts';
import { UnsecuredWrites } from './unsecured-writes.ts';

/**
 * One backup's own copy of the disks, as its primary sees it [FT 4.1]: the blocks that it lacks are sent, then it is whole;
 * from the snapshot on it is known what it would lack if that backup were lost. Where disks are shared there is none.
 */
export class PartnerCopy {
  readonly #disks: DiskMode;
  readonly #do: (action: FtAction) => void;
  readonly #unsecured: UnsecuredWrites;
  #resync: DiskResync | undefined;
  #ended = false;
  #whole = false;
  /** As the backup told. */
  name: CopyName = NO_COPY;

  constructor(disks: DiskMode, perform: (action: FtAction) => void) {
    this.#disks = disks;
    this.#do = perform;
    this.#unsecured = new UnsecuredWrites(disks);
  }

  /** The disks are as this side's, or will be with the log; true where they are the same ones. */
  get whole(): boolean {
    return this.#whole || !this.#disks.own;
  }

  /** What it may lack if its backup is lost now; undefined: it is not whole, or none of its own. */
  get lacks(): BlockSet | undefined {
    return this.#whole ? this.#unsecured.blocks : undefined;
  }

  /** What making it whole took. */
  get figures(): DiskResync['figures'] | undefined {
    return this.#resync?.figures;
  }

  /** The copy with this number has its snapshot: blocks follow. `lacking`: these only. */
  begin(copy: number, lacking: BlockSet | undefined): void {
    if (this.#disks.own) this.#resync = new DiskResync(copy, this.#disks, lacking, this.#do);
  }

  /** Reads on. True, once: there is no more to send. `connected`: there is somebody to tell. */
  goOn(connected: boolean): boolean {
    if (!this.#resync?.goOn() || this.#ended || !connected) return false;
    this.#ended = true;
    return true;
  }

  /** A block that was asked for is sent now; false: it is for a copy of before. */
  sent(copy: number, data: Uint8Array | undefined): boolean {
    if (this.#resync?.copy !== copy) return false;
    this.#resync.sent(data);
    return true;
  }

  /** The entry at `position` writes there. */
  wrote(position: bigint, extent: Extent): void {
    this.#unsecured.wrote(position, extent);
  }

  // ------------------------------------------------------------------------------------------ what the backup says of it

  /** False: so many were never sent. */
  stored(blocks: number): boolean {
    return this.#resync?.stored(blocks) === true;
  }

  /** All is on stable storage there; false: before the end was sent. */
  becameWhole(): boolean {
    if (this.#ended) this.#whole = true;
    return this.#ended;
  }

  /** The writes of all entries up to this position are on stable storage there. */
  secured(position: bigint): void {
    this.#unsecured.secured(position);
  }
}
