import { ARBITER } from './arbiter.ts';
import { ATTACH } from './attach.ts';
import { CHANNEL } from './channel.ts';
import { DISK } from './disk.ts';
import { LEASE } from './lease.ts';
import { MOVE } from './move.ts';
import type { Mutant } from './mutant.ts';
import { OUTPUT_RULE } from './output-rule.ts';
import { OWN_DISKS } from './own-disks.ts';
import { PLANNED } from './planned.ts';
import { READS } from './reads.ts';
import { RESTART } from './restart.ts';
import { TAKEOVER } from './takeover.ts';

/** Every rule of the protocol, broken; in the order of the rules. */
export const MUTANTS: readonly Mutant[] = [
  ...OUTPUT_RULE,
  ...TAKEOVER,
  ...ARBITER,
  ...DISK,
  ...CHANNEL,
  ...ATTACH,
  ...PLANNED,
  ...MOVE,
  ...READS,
  ...OWN_DISKS,
  ...RESTART,
  ...LEASE,
];
