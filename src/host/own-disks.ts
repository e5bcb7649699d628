import { failed, ok, type Result } from '../base/result.ts';
import type { CopyName } from '../ft/copy-name.ts';
import type { DiskPort } from '../hypervisor/ports.ts';
import { type CopyIdentity, CopyIdentityFiles } from '../storage/copy-identity.ts';
import { lockDisk } from '../storage/disk-lock.ts';
import { LocalDisk } from '../storage/local-disk.ts';
import { OwnDiskPort } from '../storage/own-disk-port.ts';
import { RawFile } from '../storage/raw-file.ts';
import { fileOn } from './storage-config.ts';
import type { VmProcessConfig } from './vm-process-config.ts';

export interface OwnDisks {
  readonly port: DiskPort;
  readonly copy: CopyName;
}

/** Raw files of this host alone, as one side's copies of a VM's disks [FT 4.1]. `host` is this one's name. */
export async function ownDisks(
  { machine, diskFiles, role }: Pick<VmProcessConfig, 'machine' | 'diskFiles' | 'role'>,
  host: string,
  say: (detail: string) => void,
): Promise<Result<OwnDisks>> {
  const disks: LocalDisk[] = [];
  for (const [index, { capacity, readOnly }] of machine.disks.entries()) {
    const path = fileOn(host, diskFiles[index]!);
    const file = await RawFile.open(path, { readOnly });
    if (!file.ok) return file;
    if (file.value.size !== capacity)
      return failed(`disk ${path} has ${file.value.size} bytes, and the VM's disk ${index} has ${capacity}`);
    const lock = readOnly ? ok(undefined) : await lockDisk(path);
    if (!lock.ok) return lock;
    disks.push(new LocalDisk(file.value));
  }
  const writable = diskFiles
    .map((file) => fileOn(host, file))
    .filter((_, index) => machine.disks[index]?.readOnly === false);
  const files = new CopyIdentityFiles(writable);
  const identity = await files.load();
  if (!identity.ok) return identity;
  const unfit = role === 'primary' ? whyNoStart(identity.value) : undefined;
  if (unfit !== undefined)
    return failed(`the copy of ${host} is not whole: ${unfit}; start the VM where it ran last`);
  const port = new OwnDiskPort(disks, { identity: identity.value, save: (each) => files.save(each), say });
  return ok({ port, copy: identity.value });
}

/** A VM is started from a copy that has everything. */
function whyNoStart({ whole, follows }: CopyIdentity): string | undefined {
  if (!whole) return 'a copy to it, or its going live, was not finished';
  if (follows) return "it was a backup's, and may lack what was written last";
  return undefined;
}
