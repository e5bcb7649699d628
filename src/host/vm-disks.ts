import type { VmId } from '../ft/identity.ts';
import type { DiskPort } from '../hypervisor/ports.ts';
import { DiskClient } from '../storage/disk-client.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import type { VmProcessConfig } from './vm-process-config.ts';

type DisksChoice = Pick<VmProcessConfig, 'machine' | 'storage' | 'diskMode'>;

/** The disks of one VM, behind their port. `say` is told what a person should know. */
export function disksOf(
  { machine, storage, diskMode }: DisksChoice,
  vm: VmId,
  say: (detail: string) => void,
): DiskPort {
  const names = storage?.disks.slice(0, machine.disks.length) ?? [];
  const clients = (reading: boolean): DiskClient[] =>
    names.map(
      (disk) =>
        new DiskClient({ vm, address: { ...storage!.address, disk }, generations: true, reading, say }),
    );
  return new ServedDiskPort(clients(false), say, diskMode.backupReads ? clients(true) : []);
}
