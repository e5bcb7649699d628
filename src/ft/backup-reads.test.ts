import { expect, test } from 'vitest';
import {
  ack,
  type CoreUnderTest,
  count,
  kinds,
  loadedBackup,
  logged,
  pairedPrimary,
  released,
  sent,
} from '../../tests/core-under-test.ts';
import { QUICK } from '../../tests/toy-world.ts';
import { hash128 } from '../base/hash.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { FtAction } from './action.ts';
import { SHARED_DISKS } from './disk-mode.ts';
import type { FtEvent } from './event.ts';
import { epoch } from './identity.ts';
import type { Message } from './message.ts';

/** Disk reads executed on the backup [FT 4.2]. */

const MODE = { ...SHARED_DISKS, backupReads: true };
const DATA = Uint8Array.from({ length: 512 }, (_, index) => index & 0xff);
const HASH = hash128(DATA);

const request = (number: number, operation: 'read' | 'write', offset = 0): DiskRequestOutput => ({
  kind: 'disk-request',
  disk: 0,
  request: number,
  operation,
  offset,
  length: 512,
  data: operation === 'write' ? DATA : new Uint8Array(0),
});
const made = (number: bigint, output: DiskRequestOutput): FtEvent => ({
  kind: 'output',
  output: { number, at: count(number * 10n), output, hash: '0'.repeat(32) },
});
const completed = (number: number, status: 'ok' | 'error' = 'ok', data = DATA) =>
  ({ kind: 'disk-completed', disk: 0, request: number, status, data }) as const;
const entryOf = (completion: ReturnType<typeof completed>): FtEvent => ({
  kind: 'entry',
  at: count(100n),
  payload: { kind: 'input', input: completion },
});
const reference = (sequence: bigint, number: number, hash = HASH): Message => ({
  kind: 'entry',
  entry: {
    sequence,
    at: count(sequence * 10n),
    kind: 'read-reference',
    disk: 0,
    request: number,
    length: 512,
    hash,
  },
});

/** A primary in PAIR whose read of the first sector has completed; the log's last entry says so. */
function afterRead(status: 'ok' | 'error' = 'ok', mode = MODE): { core: CoreUnderTest; entry: Message } {
  const core = pairedPrimary(mode);
  expect(core.step(made(1n, request(1, 'read')))).toContainEqual({
    kind: 'issue',
    request: request(1, 'read'),
  });
  const completion = completed(1, status, status === 'ok' ? DATA : new Uint8Array(0));
  expect(core.step({ kind: 'disk-completed', completion })).toContainEqual({
    kind: 'vcpu-input',
    input: completion,
  });
  const [entry] = sent(core.step(entryOf(completion)));
  return { core, entry: entry! };
}

test('the completion of a read that succeeded goes to the backup by reference', () => {
  const { entry } = afterRead();
  expect(entry).toMatchObject({
    entry: { sequence: 2n, kind: 'read-reference', disk: 0, request: 1, length: 512, hash: HASH },
  });
});

test('a read that failed on the primary ships its outcome', () => {
  expect(afterRead('error').entry).toMatchObject({ entry: { kind: 'input', input: { status: 'error' } } });
});

test('without the option the log carries what was read', () => {
  const { entry } = afterRead('ok', SHARED_DISKS);
  expect(entry).toMatchObject({ entry: { kind: 'input', input: { data: DATA } } });
});

test('a write to a location just read waits until the backup has replayed the read, and no other write does', () => {
  const { core } = afterRead();
  core.step(made(2n, request(2, 'write', 512)));
  expect(released(core.receive(ack(3n)))).toEqual([2n]);
  core.step(made(3n, request(3, 'write', 0)));
  expect(released(core.receive(ack(5n)))).toEqual([]);
  // What was replayed before the read says nothing of it.
  expect(released(core.receive(ack(5n, 1n)))).toEqual([]);
  expect(released(core.receive(ack(5n, 2n)))).toEqual([3n]);
});

test('the loss of the backup lets a waiting write go', () => {
  const { core } = afterRead();
  core.step(made(2n, request(2, 'write')));
  core.receive(ack(3n));
  core.tickFor(QUICK.suspicionMs + 20);
  expect(core.state).toBe('ASK');
  core.answer('won', 3);
  expect(released(core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' }))).toEqual([2n]);
});

const replayed = (actions: readonly FtAction[]) =>
  actions.flatMap((action) => (action.kind === 'vcpu-replay' ? action.entries : []));
const asked = (actions: readonly FtAction[]) => actions.filter(({ kind }) => kind === 'replay-disk');

test('a backup reads what its guest asks for, and replays nothing behind the reference until it has', () => {
  const core = loadedBackup({}, MODE);
  expect(
    replayed(core.receive(logged(1n), reference(2n, 7), logged(3n))).map((entry) => entry.sequence),
  ).toEqual([1n]);
  expect(asked(core.step(made(1n, request(7, 'read'))))).toHaveLength(1);
  const resolved = replayed(core.step({ kind: 'disk-read', disk: 0, request: 7, data: DATA }));
  expect(resolved).toMatchObject([{ sequence: 2n, kind: 'input', input: completed(7) }, { sequence: 3n }]);
});

test('a read that fails, or does not match, is retried until it succeeds', () => {
  const core = loadedBackup({}, MODE);
  core.step(made(1n, request(7, 'read')));
  core.receive(reference(1n, 7));
  for (const data of [undefined, new Uint8Array(512), DATA.subarray(0, 256)]) {
    expect(replayed(core.step({ kind: 'disk-read', disk: 0, request: 7, data }))).toEqual([]);
    expect(asked(core.tickFor(QUICK.heartbeatMs))).toHaveLength(1);
  }
  expect(replayed(core.step({ kind: 'disk-read', disk: 0, request: 7, data: DATA }))).toHaveLength(1);
  expect(asked(core.tickFor(5 * QUICK.heartbeatMs))).toEqual([]);
});

test('a read that is refused here, or does not match, is told once', () => {
  const core = loadedBackup({}, MODE);
  core.step(made(1n, request(7, 'read')));
  core.receive(reference(1n, 7));
  const told: string[] = [];
  for (const data of [undefined, undefined, new Uint8Array(512), undefined, new Uint8Array(512)]) {
    for (const actions of [
      core.step({ kind: 'disk-read', disk: 0, request: 7, data }),
      core.tickFor(QUICK.heartbeatMs),
    ])
      for (const action of actions)
        if (action.kind === 'state' && action.state === 'disk-read') told.push(action.detail);
  }
  expect(told).toEqual([
    'disk 0 at 0 cannot be read here, and the primary has read it; trying again until it can',
    'disk 0 at 0 is not read here as the primary has read it; reading again until it is',
  ]);
});

test('what the log completes in full is not read here, in whichever order the guest gets there', () => {
  const core = loadedBackup({}, MODE);
  const full: Message = {
    kind: 'entry',
    entry: { sequence: 1n, at: count(10n), kind: 'input', input: completed(7) },
  };
  expect(replayed(core.receive(full))).toHaveLength(1);
  expect(asked(core.step(made(1n, request(7, 'read'))))).toEqual([]);
});

test('what was under way at the snapshot is read when it is loaded', () => {
  const core = loadedBackup({}, MODE, [request(7, 'read'), request(8, 'write')]);
  expect(asked(core.done)).toMatchObject([{ request: { request: 7 } }]);
});

test('reads that are open at a takeover are done before go-live', () => {
  const core = loadedBackup({}, MODE);
  core.receive(reference(1n, 7), logged(2n));
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  expect(kinds(core.done)).not.toContain('vcpu-end-replay');
  core.step(made(1n, request(7, 'read')));
  const last = core.step({ kind: 'disk-read', disk: 0, request: 7, data: DATA });
  expect(kinds(last)).toEqual(['vcpu-replay', 'vcpu-end-replay']);
  expect(kinds(core.step({ kind: 'replayed-to-end', pending: [] }))).toContain('go-live');
});
