import { expect, test } from 'vitest';
import { PROGRAM } from '../../tests/greetings.ts';
import { QUICK } from '../../tests/toy-world.ts';
import { hostMilliseconds, instructionCount } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { NO_COPY } from './copy-name.ts';
import { SHARED_DISKS } from './disk-mode.ts';
import { epoch, instanceId, vmId } from './identity.ts';
import { Primary } from './primary.ts';
import { DEFAULT_LIMITS } from './timing.ts';

const now = hostMilliseconds(0);
const side = {
  vm: vmId('vm'),
  instance: instanceId('a'),
  host: 'a',
  program: PROGRAM,
  timing: QUICK,
  disks: SHARED_DISKS,
  copy: NO_COPY,
  limits: DEFAULT_LIMITS,
};
const write: DiskRequestOutput = {
  kind: 'disk-request',
  disk: 0,
  request: 3,
  operation: 'write',
  offset: 0,
  length: 1,
  data: Uint8Array.of(9),
};

test('a saved guest asks for its generation first; then what its disks owe it is issued again, and it runs', () => {
  const resumed = { outputs: 7n, started: [write] };
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false, resumed } as const;
  const primary = new Primary(side, start, now);
  const [ask, ...rest] = primary.start(now);
  expect(rest).toEqual([]);
  if (ask?.kind !== 'ask') throw new Error('nothing was asked');
  const answer = { nonce: ask.request.nonce, verdict: 'won', epoch: epoch(1) } as const;
  expect(primary.step({ kind: 'answered', answer }, now).map(({ kind }) => kind)).toEqual(['open-disks']);
  const opened = primary.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' }, now);
  expect(opened.map(({ kind }) => kind)).toEqual([
    'state',
    'open-network',
    'announce',
    'issue-again',
    'vcpu-run',
  ]);

  // Its outputs are numbered on, and a completion reaches the guest once.
  const frame = { kind: 'frame', nic: 0, frame: Uint8Array.of(1) } as const;
  const output = { number: 8n, at: instructionCount(100n), output: frame, hash: '0'.repeat(32) };
  expect(primary.step({ kind: 'output', output }, now)).toEqual([{ kind: 'hand-over', output }]);
  const completion = {
    kind: 'disk-completed',
    disk: 0,
    request: 3,
    status: 'ok',
    data: new Uint8Array(),
  } as const;
  const completed = { kind: 'disk-completed', completion } as const;
  expect(primary.step(completed, now)).toEqual([{ kind: 'vcpu-input', input: completion }]);
  expect(primary.step(completed, now)).toEqual([]);
});

test('what its disks owe it is not issued again before the lease is valid', () => {
  const timing = { ...QUICK, leaseMs: 400 };
  const start = {
    kind: 'power-on',
    expected: epoch(0),
    waitForBackup: false,
    resumed: { outputs: 7n, started: [write] },
  } as const;
  const primary = new Primary({ ...side, timing }, start, now);
  const [ask] = primary.start(now);
  if (ask?.kind !== 'ask') throw new Error('nothing was asked');
  const answer = { nonce: ask.request.nonce, verdict: 'won', epoch: epoch(1) } as const;
  primary.step({ kind: 'answered', answer }, now);
  // It was stopped meanwhile: whoever restarts the VM may have won already.
  const late = hostMilliseconds(1000);
  const opened = primary.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' }, late);
  const issued = (actions: typeof opened) => actions.filter(({ kind }) => kind === 'issue-again');
  expect(issued(opened)).toEqual([]);
  const renewal = primary.step({ kind: 'tick' }, late).find(({ kind }) => kind === 'ask');
  if (renewal?.kind !== 'ask') throw new Error('nothing was renewed');
  const renewed = { nonce: renewal.request.nonce, verdict: 'won', epoch: epoch(1) } as const;
  expect(issued(primary.step({ kind: 'answered', answer: renewed }, late))).toHaveLength(1);
  expect(issued(primary.step({ kind: 'tick' }, late))).toEqual([]);
});
