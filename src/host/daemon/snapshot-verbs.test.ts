import { expect, test } from 'vitest';
import { failed, ok, type Result } from '../../base/result.ts';
import type { InstanceDetail } from './peers.ts';
import { SnapshotVerbs } from './snapshot-verbs.ts';
import type { ReportLine } from './vm-instance.ts';

/** The verb against a host whose answers come one after the other, the last one again and again. */
function verbsOn(answers: readonly ((id: string) => Result<readonly ReportLine[]>)[]): SnapshotVerbs {
  let asked = 0;
  let id = '';
  const host = {
    order: (_instance: string, order: { readonly id: string }) => {
      id = order.id;
      return Promise.resolve(ok(undefined));
    },
    detail: () => {
      const answer = answers[Math.min(asked++, answers.length - 1)]!(id);
      return Promise.resolve(answer.ok ? ok({ snapshots: answer.value } as InstanceDetail) : answer);
    },
  };
  const daemon = { member: { reading: { vms: new Map() } } };
  const verbs = { primary: () => Promise.resolve(ok({ instance: { id: 'i', host: 'a' }, host })) };
  return new SnapshotVerbs(daemon as never, verbs as never);
}

const line = (id: string, rest: object): ReportLine => ({ kind: 'snapshot', folder: '/s', id, ...rest });
const other = line('another', { error: 'another snapshot is being taken' });

test('of two snapshots at once each is told how its own has ended', async () => {
  const ended = await verbsOn([
    () => ok([]),
    () => ok([other]),
    (id) => ok([line(id, { bytes: 7 }), other]),
  ]).snapshot('web', '/s');
  expect(ended).toEqual(ok({ folder: '/s', host: 'a', bytes: 7 }));
});

test('what is refused twice for the same reason is told twice', async () => {
  const there = (id: string) => line(id, { error: '/s is there already' });
  const ended = verbsOn([() => ok([there('before')]), (id) => ok([there('before'), there(id)])]);
  expect(await ended.snapshot('web', '/s')).toEqual(failed('/s is there already'));
});

test('a host that is asked in vain once is asked again', async () => {
  const verbs = verbsOn([() => failed('host a does not answer'), (id) => ok([line(id, { bytes: 7 })])]);
  expect(await verbs.snapshot('web', '/s')).toMatchObject({ ok: true });
});
