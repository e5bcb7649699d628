import { ok, type Result } from '../base/result.ts';
import { NO_COPY } from '../ft/copy-name.ts';
import type { VmId } from '../ft/identity.ts';
import type { DiskLease } from '../storage/disk-lease.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import { GuestDisks } from './guest-disks.ts';
import type { OwnDisks } from './own-disks.ts';
import type { VmProcessConfig } from './vm-process-config.ts';

type DisksChoice = Pick<VmProcessConfig, 'machine' | 'storage' | 'diskMode'>;

/** The disks of one VM, behind their port. `say` is told what a person should know; `lease`: see DiskLease. */
export async function disksOf(
  { machine, storage, diskMode }: DisksChoice,
  vm: VmId,
  say: (detail: string) => void,
  lease?: DiskLease,
): Promise<Result<OwnDisks>> {
  const sources = storage?.disks.slice(0, machine.disks.length) ?? [];
  const own = await GuestDisks.open(sources, machine.disks, { vm, say, lease });
  if (!own.ok) return own;
  const readers = await GuestDisks.open(diskMode.backupReads ? sources : [], machine.disks, {
    vm,
    say,
    reading: true,
  });
  if (!readers.ok) return readers;
  return ok({ port: new ServedDiskPort(own.value.disks, say, readers.value.disks), copy: NO_COPY });
}
