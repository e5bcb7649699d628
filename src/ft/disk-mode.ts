/** How a VM keeps its disks: alike on both sides of a pair. */
export interface DiskMode {
  /** Each side has copies of its own [FT 4.1]; otherwise both use the same disks. */
  readonly own: boolean;
  /** A backup reads itself what its guest reads, so the log need not carry it [FT 4.2]. */
  readonly backupReads: boolean;
  /** Of copies: the length of each disk in bytes, 0 where nobody writes it, and of the blocks in which they are sent. */
  readonly bytes: readonly number[];
  readonly blockBytes: number;
}

export const SHARED_DISKS: DiskMode = { own: false, backupReads: false, bytes: [], blockBytes: 0 };
