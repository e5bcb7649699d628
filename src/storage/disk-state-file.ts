import { open, readFile, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { failed, ok, type Result } from '../base/result.ts';
import { epoch, instanceId } from '../ft/identity.ts';
import { leaseOf } from './arbiter-message.ts';
import type { Fence } from './fenced-disk.ts';
import { LEASE_MS, NO_RECORD, type VmRecord } from './vm-record.ts';
import { recordFrom } from './vm-record-text.ts';

/** What a disk server must remember over a restart: the fence, the VM's record and lease. Beside the disk image. */
export interface DiskState {
  /** The VM this disk belongs to, from its first request on. */
  readonly vm: string | undefined;
  readonly fence: Fence;
  readonly record: VmRecord;
  /** How long the lease of the record's owner is. */
  readonly leaseMs: number;
}

const VERSION = 1;

export const NEW_DISK_STATE: DiskState = {
  vm: undefined,
  fence: { epoch: epoch(0), instance: undefined },
  record: NO_RECORD,
  leaseMs: LEASE_MS,
};

export class DiskStateFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<Result<DiskState>> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ok(NEW_DISK_STATE);
      return failed(`${this.#path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    const state = parse(text);
    // Starting over from epoch 0 would let a fenced instance write again.
    return state === undefined
      ? failed(`${this.#path} is damaged; only when no host runs this VM any more: delete it`)
      : ok(state);
  }

  /** Durable when it resolves: the new content is either there as a whole or not at all. */
  async save(state: DiskState): Promise<void> {
    const temporary = `${this.#path}.new`;
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ version: VERSION, ...state }, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#path);
    const folder = await open(dirname(this.#path), 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async remove(): Promise<void> {
    await unlink(this.#path).catch(() => undefined);
  }
}

function parse(text: string): DiskState | undefined {
  try {
    const { version, vm, fence, record, leaseMs } = JSON.parse(text) as Record<
      string,
      Record<string, unknown> | undefined
    >;
    if ((version as unknown) !== VERSION || fence === undefined || record === undefined) return undefined;
    const known = recordFrom(record);
    const lease = leaseOf(leaseMs);
    if (known === undefined || lease === undefined) return undefined;
    const name = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
    const instance = name(fence.instance);
    return {
      vm: name(vm),
      fence: {
        epoch: epoch(Number(fence.epoch)),
        instance: instance === undefined ? undefined : instanceId(instance),
      },
      record: known,
      leaseMs: lease,
    };
  } catch {
    return undefined;
  }
}
