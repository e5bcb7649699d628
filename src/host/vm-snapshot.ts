import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { failed, ok, type Result } from '../base/result.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { Driver } from '../hypervisor/driver.ts';
import type { DiskPort } from '../hypervisor/ports.ts';
import { checkConfig, type MachineConfig } from '../machine/config.ts';
import type { StoreChunk } from '../storage/disk-copy.ts';
import type { ServedDiskPort } from '../storage/disk-port.ts';
import { InodeLock } from '../storage/inode-lock.ts';
import { fileProblem } from './guest-files.ts';
import { writeSnapshotFile } from './snapshot-file.ts';

/**
 * A folder that holds a guest at one instant: its memory and its disks. What the guest had asked of its disks without an
 * answer is in its memory, and is asked again when it goes on from there.
 */
export interface VmSnapshot {
  readonly vm: string;
  readonly machine: MachineConfig;
  /** The VM's file, where a daemon knows one. */
  readonly file: unknown;
}

const VERSION = 1;
const DESCRIPTION = 'snapshot.json';
/** The files that a snapshot has, and what one of them is while it is written. */
const PART = /^(memory(\..*)?|disk-\d+\.img|snapshot\.json)$/;

export const snapshotMemory = (folder: string): string => join(folder, 'memory');
export const snapshotDisk = (folder: string, disk: number): string => join(folder, `disk-${disk}.img`);

/**
 * A snapshot that is being written. It grows in a work folder beside its own, which stays empty until it is whole, and is
 * there from the beginning so that nobody else takes the name. Of what a process that ended in between has left, only
 * files that a snapshot has are removed: whatever somebody put there stays, and is in the way.
 */
export class SnapshotFolder {
  readonly #folder: string;
  readonly #work: string;
  readonly #disks: readonly FileHandle[];
  readonly #lock: InodeLock;

  private constructor(folder: string, work: string, disks: readonly FileHandle[], lock: InodeLock) {
    this.#folder = folder;
    this.#work = work;
    this.#disks = disks;
    this.#lock = lock;
  }

  /** Only ever a new folder: no snapshot and nothing else is written over. */
  static async create(folder: string, { disks }: MachineConfig): Promise<Result<SnapshotFolder>> {
    if (!folder.startsWith('/')) return failed(`${folder} is no path from / on`);
    const work = `${folder}.partial`;
    const wrong = (error: unknown) =>
      failed(`snapshot ${folder} ${fileProblem(error as NodeJS.ErrnoException)}`);
    let lock: InodeLock;
    try {
      const taken = await emptyWork(work, folder);
      if (!taken.ok) return taken;
      lock = taken.value.lock;
      // Empty, it is what the same process has left.
      if (taken.value.stale) await rmdir(folder).catch(() => undefined);
    } catch (error) {
      return wrong(error);
    }
    const files: FileHandle[] = [];
    const made = new SnapshotFolder(folder, work, files, lock);
    try {
      if (!(await madeFolder(folder))) {
        await made.#leaveWork();
        return failed(`${folder} is there already: a snapshot needs a new folder`);
      }
    } catch (error) {
      await made.#leaveWork();
      return wrong(error);
    }
    try {
      for (const [index, { capacity }] of disks.entries()) {
        const file = await open(snapshotDisk(work, index), 'wx', 0o600);
        files.push(file);
        await file.truncate(capacity);
      }
      return ok(made);
    } catch (error) {
      await made.abandon();
      return wrong(error);
    }
  }

  /** Where a disk's content goes. */
  readonly store =
    (disk: number): StoreChunk =>
    async (offset, data) => {
      for (let done = 0; done < data.length; ) {
        const { bytesWritten } = (await this.#disks[disk]?.write(
          data,
          done,
          data.length - done,
          offset + done,
        )) ?? {
          bytesWritten: 0,
        };
        if (bytesWritten === 0) throw new Error('the snapshot cannot be written');
        done += bytesWritten;
      }
    };

  async finish(memory: MachineSnapshot, description: VmSnapshot): Promise<Result<void>> {
    try {
      const written = await writeSnapshotFile(snapshotMemory(this.#work), memory);
      if (!written.ok) return this.#abandoned(written.error);
      for (const file of this.#disks) await file.sync();
      for (const file of this.#disks) await file.close();
      const text = JSON.stringify({ version: VERSION, ...description }, null, 2);
      await writeFile(join(this.#work, DESCRIPTION), text, { mode: 0o600, flush: true });
      await rename(this.#work, this.#folder);
      const parent = await open(dirname(this.#folder), 'r');
      await parent.sync().finally(() => parent.close());
      this.#lock.release();
      return ok(undefined);
    } catch (error) {
      return this.#abandoned(`snapshot ${this.#folder} ${fileProblem(error as NodeJS.ErrnoException)}`);
    }
  }

  async abandon(): Promise<void> {
    for (const file of this.#disks) await file.close().catch(() => undefined);
    await this.#leaveWork();
    await rmdir(this.#folder).catch(() => undefined);
  }

  async #leaveWork(): Promise<void> {
    await removeParts(this.#work).catch(() => undefined);
    await rmdir(this.#work).catch(() => undefined);
    this.#lock.release();
  }

  async #abandoned(reason: string): Promise<Result<void>> {
    await this.abandon();
    return failed(reason);
  }
}

/** False: something has this name. */
async function madeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** A work folder of one's own, without what an earlier process has left in it; `stale`: one had. */
async function emptyWork(
  work: string,
  folder: string,
): Promise<Result<{ readonly lock: InodeLock; readonly stale: boolean }>> {
  const stale = !(await madeFolder(work));
  const inTheWay = failed(`${work} is no work folder of a snapshot: remove it, or name another folder`);
  if (!(await lstat(work)).isDirectory()) return inTheWay;
  const lock = await InodeLock.take(work, 'snapshot', `${folder} is being written by another snapshot`);
  if (!lock.ok) return lock;
  try {
    if (stale) await removeParts(work);
    if ((await readdir(work)).length === 0) return ok({ lock: lock.value, stale });
  } catch (error) {
    lock.value.release();
    throw error;
  }
  lock.value.release();
  return inTheWay;
}

async function removeParts(work: string): Promise<void> {
  for (const name of await readdir(work)) if (PART.test(name)) await rm(join(work, name), { force: true });
}

export async function readVmSnapshot(folder: string): Promise<Result<VmSnapshot>> {
  let text: string;
  try {
    text = await readFile(join(folder, DESCRIPTION), 'utf8');
  } catch (error) {
    return failed(`snapshot ${folder} ${fileProblem(error as NodeJS.ErrnoException)}`);
  }
  try {
    const { version, vm, machine, file } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    if (version !== VERSION) return failed(`snapshot ${folder} has version ${version}, this is ${VERSION}`);
    const checked = checkConfig(machine);
    return checked.ok ? ok({ vm: String(vm), machine: checked.value, file }) : checked;
  } catch {
    return failed(`snapshot ${folder} is damaged: its ${DESCRIPTION} cannot be read`);
  }
}

/** The guest at one instant, memory and disks, in a new folder; it runs on. */
export async function takeSnapshot(
  driver: Driver,
  disks: DiskPort & Partial<Pick<ServedDiskPort, 'copy'>>,
  folder: string,
  description: VmSnapshot,
): Promise<Result<{ bytes: number; count: string }>> {
  const copy = disks.copy?.bind(disks);
  if (copy === undefined) return failed('disks of one side alone cannot be copied beside its memory');
  const made = await SnapshotFolder.create(folder, description.machine);
  if (!made.ok) return made;
  const sizes = description.machine.disks.map(({ capacity }) => capacity);
  try {
    const { snapshot, copied } = await new Promise<{ snapshot: MachineSnapshot; copied: Promise<void> }>(
      (resolve, reject) => {
        // Within this very call: what the guest asks of its disks from here on is not in the copy.
        const begun = driver.capture((snapshot) =>
          resolve({ snapshot, copied: copy(sizes, made.value.store) }),
        );
        if (!begun) reject(new Error('a snapshot is taken of a guest that runs here, one at a time'));
      },
    );
    await copied;
    const finished = await made.value.finish(snapshot, description);
    return finished.ok ? ok({ bytes: snapshot.machine.length, count: String(snapshot.count) }) : finished;
  } catch (error) {
    await made.value.abandon();
    return failed((error as Error).message);
  }
}
