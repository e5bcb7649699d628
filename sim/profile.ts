import { type DiskMode, SHARED_DISKS } from '../src/ft/disk-mode.ts';
import { DEFAULT_TIMING, type Limits, type Timing } from '../src/ft/timing.ts';
import { FAULTS, type FaultName } from './faults.ts';
import { BLOCK_BYTES } from './guest.ts';
import type { Random } from './random.ts';

/** What kind of run a seed is. Not every seed has every fault: fewer kinds at a time go deeper. */
export interface Profile {
  readonly hosts: number;
  readonly clients: number;
  readonly timing: Timing;
  readonly limits: Limits;
  readonly tinyBuffers: boolean;
  readonly faults: readonly FaultName[];
  /** Steps of the world between two faults, at most. */
  readonly faultGap: number;
  /** How long faults happen, in milliseconds. */
  readonly faultMs: number;
  /** A crash that may lose the VM: the last copy, or both. */
  readonly reckless: number;
  /** The VM is restarted from its disk when both hosts are lost: it lives under a lease. */
  readonly restarts: boolean;
  readonly disks: DiskMode;
  /**
   * The guest reads back what it writes while it is under way. Not from a disk whose operations fail, whose server is
   * restarted, or which is one of two copies: what is read while a write fails may be old or new, and differ.
   */
  readonly readsBack: boolean;
}

/** The production timers, scaled so that a takeover takes a tenth of a second. */
const TIMING: Timing = {
  ...DEFAULT_TIMING,
  heartbeatMs: 20,
  suspicionMs: 100,
  suspicionMinMs: 70,
  requestMs: 30,
  requestMaxMs: 60,
  commitMs: 150,
  reconnectMs: 5,
  findMs: 40,
  reachMs: 100,
  copyMs: 400,
  stillMs: 150,
  lagHighMs: 60,
  lagLowMs: 30,
};

const LEASE_MS = 250;
const CLIENTS = 3;

const ROOMY: Limits = { streamBytes: 64_000, holdBytes: 64_000, backupBytes: 64_000 };
const TINY: Limits = { streamBytes: 3_000, holdBytes: 2_000, backupBytes: 1_500 };

/** Each client has one block. */
function disksOf(random: Random): DiskMode {
  const backupReads = random.chance(0.3);
  if (!random.chance(0.25)) return { ...SHARED_DISKS, backupReads };
  return { own: true, backupReads, bytes: [CLIENTS * BLOCK_BYTES], blockBytes: BLOCK_BYTES };
}

/** `others` draws what came later, so that the seeds of before stay what they were. */
export function profileOf(random: Random, others: Random): Profile {
  const tinyBuffers = random.chance(0.2);
  const restarts = random.chance(0.3);
  const share = random.between(0.25, 1);
  const faults = FAULTS.filter((fault) => fault.always || random.chance(share)).map((fault) => fault.name);
  const faultGap = random.pick([40, 150, 400]);
  const faultMs = random.between(500, 1100);
  const reckless = restarts ? 0.4 : random.chance(0.15) ? 0.2 : 0;
  // Full buffers are rare enough: most of those seeds have nothing else that is new.
  const disks = tinyBuffers && !others.chance(0.25) ? SHARED_DISKS : disksOf(others);
  return {
    hosts: 4,
    clients: CLIENTS,
    timing: restarts ? { ...TIMING, leaseMs: LEASE_MS } : TIMING,
    limits: tinyBuffers ? TINY : ROOMY,
    tinyBuffers,
    ...{ faults, faultGap, faultMs, reckless, restarts, disks },
    readsBack: !disks.own && !faults.includes('disk-failing') && !faults.includes('disk-restart'),
  };
}
