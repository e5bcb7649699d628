import { failed, ok, type Result } from '../base/result.ts';
import type { VmId } from '../ft/identity.ts';
import type { DiskConfig } from '../machine/config.ts';
import { DiskClient } from '../storage/disk-client.ts';
import { type DiskLease, LeasedDisk } from '../storage/disk-lease.ts';
import { lockDisk } from '../storage/disk-lock.ts';
import type { PortDisk } from '../storage/disk-port.ts';
import { servedDisk } from '../storage/disk-size.ts';
import { type DiskSource, formatDiskSource } from '../storage/disk-source.ts';
import type { InodeLock } from '../storage/inode-lock.ts';
import { LocalDisk } from '../storage/local-disk.ts';
import { RawFile } from '../storage/raw-file.ts';

export interface GuestDisksOptions {
  readonly vm: VmId;
  /** What happens to the storage while the guest runs. */
  readonly say: (line: string) => void;
  /** Under which foreign servers are written. */
  readonly lease?: DiskLease | undefined;
  /** For a backup that reads beside its primary: nothing is fenced, nothing is locked. */
  readonly reading?: boolean;
}

/** The disks of one guest, each wherever it is; what this process opens itself is locked. */
export class GuestDisks {
  readonly disks: readonly PortDisk[];
  readonly #locks: readonly InodeLock[];

  private constructor(disks: readonly PortDisk[], locks: readonly InodeLock[]) {
    this.disks = disks;
    this.#locks = locks;
  }

  /** Files are opened, servers are connected to when the disks are opened. `expected`: what the guest was promised. */
  static async open(
    sources: readonly DiskSource[],
    expected: readonly DiskConfig[],
    options: GuestDisksOptions,
  ): Promise<Result<GuestDisks>> {
    const disks: PortDisk[] = [];
    const locks: InodeLock[] = [];
    for (const [index, source] of sources.entries()) {
      const opened = await openDisk(source, expected[index]?.capacity, options);
      if (!opened.ok) {
        for (const disk of disks) disk.close();
        for (const lock of locks) lock.release();
        return opened;
      }
      disks.push(opened.value.disk);
      if (opened.value.lock) locks.push(opened.value.lock);
    }
    return ok(new GuestDisks(disks, locks));
  }

  /** After the disks are closed. */
  release(): void {
    for (const lock of this.#locks) lock.release();
  }
}

async function openDisk(
  source: DiskSource,
  capacity: number | undefined,
  { vm, say, lease, reading = false }: GuestDisksOptions,
): Promise<Result<{ disk: PortDisk; lock?: InodeLock }>> {
  if (source.kind !== 'file') {
    const { address, readOnly } = source;
    const leased = source.kind === 'nbd' && !readOnly && !reading ? lease : undefined;
    const disk = new DiskClient({
      address,
      vm,
      generations: source.kind === 'served',
      // Who only reads needs no generation, and there may be many of them, of many VMs.
      reading: readOnly ? 'of-any-vm' : reading,
      capacity,
      lease: leased,
      say,
    });
    return ok({ disk: leased === undefined ? disk : new LeasedDisk(disk, leased, say) });
  }
  const { path } = source;
  const readOnly = source.readOnly || reading;
  const file = await RawFile.open(path, { readOnly });
  if (!file.ok) return file;
  if (capacity !== undefined && file.value.size !== capacity) {
    await file.value.close();
    return failed(`disk ${path} has ${file.value.size} bytes, the guest's disk has ${capacity}`);
  }
  const disk = new LocalDisk(file.value);
  if (readOnly) return ok({ disk });
  const lock = await lockDisk(path);
  if (lock.ok) return ok({ disk, lock: lock.value });
  disk.close();
  return lock;
}

/** What a guest sees of its disks. Nothing is opened for longer than the question takes. */
export async function describeDisks(sources: readonly DiskSource[]): Promise<Result<DiskConfig[]>> {
  const disks: DiskConfig[] = [];
  for (const [index, source] of sources.entries()) {
    const described = await describeDisk(source);
    if (!described.ok) return described;
    disks.push({ ...described.value, serial: `lockstep-${index}` });
  }
  return ok(disks);
}

async function describeDisk(source: DiskSource): Promise<Result<{ capacity: number; readOnly: boolean }>> {
  const { readOnly } = source;
  if (source.kind === 'file') {
    const file = await RawFile.open(source.path, { readOnly });
    if (!file.ok) return file;
    await file.value.close();
    return ok({ capacity: file.value.size, readOnly });
  }
  const served = await servedDisk(source.address);
  if (!served.ok) return served;
  if (served.value.readOnly && !readOnly)
    return failed(`disk ${formatDiskSource(source)} is read-only at its server: give it as readonly`);
  return ok({ capacity: served.value.size, readOnly });
}
