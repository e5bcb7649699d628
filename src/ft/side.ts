import type { CopyName } from './copy-name.ts';
import type { DiskMode } from './disk-mode.ts';
import type { InstanceId, VmId } from './identity.ts';
import type { Program } from './program.ts';
import type { Limits, Timing } from './timing.ts';

/** What a side of the protocol knows of itself. */
/** Its copy of the disks as the arbiter's record names it; nothing where disks are shared. */
export function namedCopy({ host, disks, copy }: Side): { readonly copy?: string } {
  return disks.own ? { copy: `${host}/${copy.id}` } : {};
}

export interface Side {
  readonly vm: VmId;
  readonly instance: InstanceId;
  /** The host it runs on: its partner runs on another one. */
  readonly host: string;
  readonly program: Program;
  readonly disks: DiskMode;
  /** Its copy of the disks when it began. */
  readonly copy: CopyName;
  readonly timing: Timing;
  readonly limits: Limits;
}
