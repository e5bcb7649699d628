import { decide } from '../../src/storage/vm-record.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

/** The lease of protocol 8. Its release without one, LX1 of the model, is HX1. */
export const LEASE: readonly Mutant[] = [
  {
    name: 'lease counted too long',
    rule: 'HA',
    model: 'LX2, LX4',
    broken: 'the owner counts its lease longer than it was granted, from the answer and without a margin',
    apply: (world) =>
      breakCores(world, () => ({ timing: (timing) => ({ ...timing, leaseMs: timing.leaseMs * 1.8 }) })),
  },
  {
    name: 'restart before the end of the lease',
    rule: 'HA',
    model: 'LX3',
    broken: 'a VM is restarted when its lease is half over',
    apply: ({ arbiter }) => {
      arbiter.leaseShare = 0.5;
    },
  },
  {
    name: 'whoever asks renews',
    rule: 'HA',
    model: 'LX5',
    broken: 'a request that is refused renews the lease all the same',
    apply: ({ arbiter }) => {
      arbiter.decide = (record, request, expired) => ({
        ...decide(record, request, expired),
        leaseRenewed: true,
      });
    },
  },
  {
    name: 'a restart begins no lease',
    rule: 'HA',
    model: 'LX6',
    broken: 'the lease of a VM that was just restarted is still the old one, and it may be restarted again',
    apply: ({ arbiter }) => {
      arbiter.decide = (record, request, expired) => {
        const decision = decide(record, request, expired);
        return request.kind === 'restart' ? { ...decision, leaseRenewed: false } : decision;
      };
    },
  },
  {
    name: 'an arbiter that starts again forgets the lease',
    rule: 'HA',
    model: 'LX7',
    broken: 'an arbiter that starts again takes the lease for run out',
    apply: (world) => {
      for (let at = 200; at < 1400; at += 200)
        world.schedule(at, () => {
          world.arbiter.renewedAt = Number.NEGATIVE_INFINITY;
        });
    },
  },
  {
    name: 'the clock stands still',
    rule: 'HA',
    model: 'LX8',
    broken: "the owner's clock stands still while its process is stopped",
    apply: (world) => {
      world.clocksStop = true;
    },
  },
  {
    name: 'looked at before the compare-and-set',
    rule: 'HA',
    model: 'LX9',
    broken: 'whether the lease has run out is looked at some time before the restart, not with it',
    apply: ({ arbiter }) => {
      arbiter.decide = (record, request, expired) =>
        decide(record, request, expired || (request.kind === 'restart' && record.mode !== 'off'));
    },
  },
];
