import type { ArbiterRequest } from '../../src/ft/arbiter.ts';
import { epoch, type InstanceId, instanceId } from '../../src/ft/identity.ts';
import { type Decision, decide, type VmRecord } from '../../src/storage/vm-record.ts';
import type { Mutant } from './mutant.ts';

function refused(record: VmRecord, { nonce }: ArbiterRequest): Decision {
  const answer = { nonce, verdict: 'superseded', epoch: record.epoch } as const;
  return { record, answer, leaseRenewed: false };
}

export const ARBITER: readonly Mutant[] = [
  {
    name: 'claim not idempotent',
    rule: '4',
    model: 'M4E',
    broken: 'whoever asks again after a lost answer is told that it lost',
    apply: ({ arbiter }) => {
      const asked = new Set<string>();
      arbiter.decide = (record, request, expired) => {
        if (request.kind === 'claim' && asked.has(request.nonce)) return refused(record, request);
        asked.add(request.nonce);
        return decide(record, request, expired);
      };
    },
  },
  {
    name: 'one flag for the life of the VM',
    rule: '4',
    model: 'M4F',
    broken: 'the test-and-set is not scoped to the generation of the pair: it can be won once',
    apply: ({ arbiter }) => {
      let winner: string | undefined;
      arbiter.decide = (record, request, expired) => {
        if (request.kind !== 'claim') return decide(record, request, expired);
        if (winner !== undefined && winner !== request.instance) return refused(record, request);
        const decision = decide(record, request, expired);
        if (decision.answer.verdict === 'won') winner = request.instance;
        return decision;
      };
    },
  },
  {
    name: 'one name for the life of a process',
    rule: '4',
    broken: 'a backup that gives up a question keeps its name, and the next question covers one epoch more',
    apply: ({ arbiter }) => {
      const processOf = (name: InstanceId): InstanceId => instanceId(name.split('.')[0]!);
      arbiter.decide = (record, request, expired) => {
        const instance = processOf(request.instance);
        if (request.kind === 'commit')
          return decide(record, { ...request, instance, backup: processOf(request.backup) }, expired);
        if (request.kind !== 'claim' || instance === record.primary)
          return decide(record, { ...request, instance }, expired);
        return decide(record, { ...request, instance, highest: epoch(request.highest + 1) }, expired);
      };
    },
  },
  {
    name: 'membership not compared',
    rule: '4',
    model: 'X6',
    broken: 'the epoch of a claim is compared, and not whether the caller is of the pair',
    apply: ({ arbiter }) => {
      arbiter.decide = (record, request, expired) =>
        decide(
          request.kind === 'claim' && record.mode !== 'off' && record.nonce !== request.nonce
            ? { ...record, mode: 'pair', backup: request.instance }
            : record,
          request,
          expired,
        );
    },
  },
];
