import { hostMilliseconds } from '../../src/base/units.ts';
import { nonce } from '../../src/ft/identity.ts';
import { decide } from '../../src/storage/vm-record.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

/** So long that it never runs out. */
const FOR_EVER_MS = 1e12;

export const RESTART: readonly Mutant[] = [
  {
    name: 'no lease at release',
    rule: 'HA',
    model: 'HX1',
    broken: 'an owner whose lease has run out lets outputs out all the same',
    apply: (world) =>
      breakCores(world, () => {
        let asked = 0;
        return {
          timing: (timing) => (timing.leaseMs === 0 ? timing : { ...timing, leaseMs: FOR_EVER_MS }),
          hears: (event, side) => {
            const { record } = world.arbiter;
            // It renews as it should, and looks at no answer.
            const { primary } = record;
            const owns = primary !== undefined && world.processOf(primary) === side.instance;
            if (event.kind === 'tick' && world.profile.restarts && owns) {
              const own = nonce(`${side.instance.name}/renew${++asked}`);
              const { vm } = world;
              const request = {
                kind: 'renew',
                vm,
                instance: primary,
                epoch: record.epoch,
                nonce: own,
              } as const;
              side.add({ kind: 'ask', request });
            }
            return event;
          },
        };
      }),
  },
  {
    name: 'disk read before the fence',
    rule: 'HA',
    model: 'HX2',
    broken: 'a restarted guest reads its disk before the older operations are drained',
    apply: (world) => breakCores(world, () => ({ begins: (instance) => instance.vcpu.boot() })),
  },
  {
    name: 'an old win believed',
    rule: 'HA',
    model: 'HX3',
    broken:
      'who asks again is told that it won, though the record has moved on, and goes live without looking at its lease',
    apply: (world) => {
      const won = new Map<string, ReturnType<typeof decide>['answer']>();
      const { arbiter } = world;
      arbiter.decide = (record, request, expired) => {
        const before = won.get(request.nonce);
        if (before && record.nonce !== request.nonce) return { record, answer: before, leaseRenewed: false };
        const decision = decide(record, request, expired);
        if (decision.answer.verdict === 'won') won.set(request.nonce, decision.answer);
        return decision;
      };
      breakCores(world, () => ({
        timing: (timing, role) =>
          timing.leaseMs === 0 || role === 'primary' ? timing : { ...timing, leaseMs: FOR_EVER_MS },
        does: (action) =>
          action.kind === 'go-live'
            ? { ...action, takeover: { ...action.takeover, leaseUntil: hostMilliseconds(0) } }
            : action,
      }));
    },
  },
];
