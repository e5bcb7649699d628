import { expect, test } from 'vitest';
import {
  ack,
  CoreUnderTest,
  frame,
  kinds,
  L,
  loadedBackup,
  logged,
  pairedPrimary,
  released,
  sent,
  side,
  vm,
} from '../../tests/core-under-test.ts';
import { INTRODUCED } from '../../tests/greetings.ts';
import { QUICK } from '../../tests/toy-world.ts';
import { hostMilliseconds, instructionCount } from '../base/units.ts';
import { epoch, instanceId } from './identity.ts';
import { link } from './link.ts';
import type { Message } from './message.ts';
import { Primary } from './primary.ts';

/** Protocol 9: migration of the backup, planned takeover. */

const NEW = link(5);

const received = (core: CoreUnderTest, ...messages: Message[]) =>
  core.step({ kind: 'received', link: NEW, messages });

/** A pair whose primary copies itself to `c`, up to GATE. The log has one entry; it is acked by the old backup. */
function migrating(snapshotAt = 10n): CoreUnderTest {
  const core = pairedPrimary();
  core.step({ kind: 'migrate-backup', address: 'c' });
  expect(core.state).toBe('COPY');
  core.step({ kind: 'connected', link: NEW, address: 'c' });
  const envelope = { vm, generation: epoch(3), sender: instanceId('c') };
  received(core, { kind: 'welcome', ...envelope, ...INTRODUCED, loaded: false, received: 0n });
  core.step(frame(1n));
  const machine = new Uint8Array(3);
  const at = instructionCount(snapshotAt);
  core.step({
    kind: 'snapshot',
    snapshot: { machine, count: at, position: { outputs: 1n }, digest: 'd' },
    copy: 2,
    stoodUs: 0,
  });
  return core;
}

test('the copy of a pair carries the outputs that wait, and they still wait for the old backup alone', () => {
  const core = migrating();
  const copy = core.done.flatMap((action) =>
    action.kind === 'send' && action.link === NEW ? [action.message] : [],
  );
  expect(copy.map((message) => message.kind)).toEqual([
    'hello',
    'snapshot-begin',
    'held-output',
    'snapshot-end',
  ]);
  expect(copy[1]).toMatchObject({ released: 0n });
  expect(released(core.receive(ack(1n)))).toEqual([1n]);
});

test('an output that leaves after the snapshot is told to have left behind it, not where it was made', () => {
  const core = migrating(40n);
  core.receive(ack(1n));
  const told = core.done.flatMap((action) =>
    action.kind === 'send' && action.link === NEW && action.message.kind === 'entry'
      ? [action.message.entry]
      : [],
  );
  // The new backup is at count 40 by its snapshot: an entry of before would be refused, and the copy with it.
  expect(told).toEqual([{ sequence: 1n, at: 40n, kind: 'released', output: 1n }]);
});

test('from the gate on outputs wait for both backups, until the commit, and then for the new one', () => {
  const core = migrating();
  core.receive(ack(1n));
  received(core, ack(0n));
  expect(core.state).toBe('GATE');
  core.step(frame(2n));
  // Entries: mark 1, released 1, mark 2. The new backup's positions begin behind the snapshot, after mark 1.
  expect(released(core.receive(ack(3n)))).toEqual([]);
  expect(released(received(core, ack(2n)))).toEqual([2n]);
  expect(core.state).toBe('COMMIT');
  expect(core.asked()).toMatchObject({ kind: 'commit', expected: 2, backup: 'c' });
  const committed = core.answer('won', 3);
  expect(core.state).toBe('PAIR');
  // The old one is told, and its instance never is a backup again.
  expect(committed).toContainEqual({ kind: 'send', link: L, message: { kind: 'over', epoch: 3 } });
  core.step(frame(3n));
  const marks = sent(core.done).filter((message) => message.kind === 'entry').length;
  expect(marks).toBeGreaterThan(0);
  expect(released(received(core, ack(4n)))).toEqual([3n]);
});

test('a new backup that is lost before the commit costs nothing: the pair is the old one', () => {
  const core = migrating();
  core.receive(ack(1n));
  received(core, ack(0n));
  core.step({ kind: 'broken', link: NEW, reason: 'reset' });
  expect(core.state).toBe('PAIR');
  core.step(frame(2n));
  expect(released(core.receive(ack(3n)))).toEqual([2n]);
});

test('a migration without an address asks for a host, also where the backup was ordered to one', () => {
  const core = pairedPrimary();
  expect(kinds(core.step({ kind: 'migrate-backup', address: undefined }))).toContain('find-host');
  expect(core.state).toBe('PAIR');
  core.step({ kind: 'candidate', address: 'c', host: 'c' });
  expect(core.state).toBe('COPY');
});

test('turning fault tolerance off ends a migration that waits for a host', () => {
  const core = pairedPrimary();
  core.step({ kind: 'migrate-backup', address: undefined });
  core.step({ kind: 'unprotect' });
  core.step({ kind: 'candidate', address: 'c', host: 'c' });
  core.step({ kind: 'migrate-backup', address: 'd' });
  expect(core.state).toBe('PAIR');
  const input = { kind: 'control', action: 'end-protection' } as const;
  core.step({ kind: 'entry', at: instructionCount(10n), payload: { kind: 'input', input } });
  expect(core.state).toBe('ASK');
  core.answer('won', 3);
  expect(core.state).toBe('SOLE');
});

test('when the old backup is lost during the copy, the claim is for the old pair, and the copy is dropped', () => {
  const core = migrating();
  const heartbeat = { vm, generation: epoch(3), sender: instanceId('c'), received: 0n, replayed: 0n };
  for (let tick = 0; core.state !== 'ASK'; tick++) {
    expect(tick).toBeLessThan(30);
    core.step({ kind: 'heartbeat', heartbeat });
    core.tickFor(QUICK.heartbeatMs);
  }
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
});

test('a planned takeover: the last entry, nothing let out after it, and the arbiter has the last word', () => {
  const core = pairedPrimary();
  core.step(frame(1n));
  const handed = core.step({ kind: 'switch-over' });
  expect(core.state).toBe('YIELD');
  expect(sent(handed)).toMatchObject([{ kind: 'entry', entry: { kind: 'end', reason: 'handed-over' } }]);
  // Even what is acked stays: the backup has it and sends it.
  expect(released(core.receive(ack(2n)))).toEqual([]);
  expect(released(core.step(frame(2n)))).toEqual([]);
  // While it asks, what the backup has acked may leave, as ever: the backup's history has it.
  expect(released(core.tickFor(QUICK.suspicionMs + 20))).toEqual([1n]);
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  // The backup never came to claim: then this side goes on, and nothing was lost.
  core.answer('won', 3);
  const opened = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  expect(released(opened)).toEqual([2n]);
});

test('a planned takeover: the backup acks the last entry, claims at once, and goes live after all before it', () => {
  const core = loadedBackup();
  core.receive(logged(1n));
  const end: Message = {
    kind: 'entry',
    entry: { sequence: 2n, at: instructionCount(20n), kind: 'end', reason: 'handed-over' },
  };
  const actions = core.receive(end);
  expect(sent(actions)).toEqual([ack(2n)]);
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2 });
  core.answer('won', 3);
  core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  core.step({ kind: 'replayed', sequence: 1n });
  expect(kinds(core.step({ kind: 'replayed-to-end', pending: [] }))).toContain('go-live');
});

test('without a valid lease nothing leaves, and a renewal that is superseded halts', () => {
  const timing = { ...QUICK, leaseMs: 400 };
  const takeover = {
    epoch: epoch(3),
    leaseUntil: hostMilliseconds(200),
    released: 0n,
    held: [],
    started: [],
    reads: [],
    faultTolerance: true,
  };
  const core = new CoreUnderTest(
    new Primary({ ...side('b'), timing }, { kind: 'takeover', takeover }, hostMilliseconds(0)),
  );
  expect(released(core.step(frame(1n)))).toEqual([1n]);
  core.tickFor(220);
  expect(core.asked()).toMatchObject({ kind: 'renew', epoch: 3 });
  expect(released(core.step(frame(2n)))).toEqual([]);
  // It counts from before the request.
  expect(released(core.answer('won', 3))).toEqual([2n]);
  core.tickFor(120);
  core.answer('superseded', 4);
  expect(core.state).toBe('HALT');
});

test('a backup does not go live when the lease of its claim has run out: it renews first', () => {
  const core = loadedBackup({ leaseMs: 400 });
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  core.step({ kind: 'replayed-to-end', pending: [] });
  core.tickFor(500);
  const opened = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  expect(kinds(opened)).not.toContain('go-live');
  core.tickFor(120);
  expect(core.asked()).toMatchObject({ kind: 'renew', epoch: 3 });
  expect(kinds(core.answer('won', 3))).toContain('go-live');
});

test('an order to move the backup to a host goes there, whatever was offered before', () => {
  const core = pairedPrimary();
  core.step({ kind: 'candidate', address: 'late', host: 'h' });
  const done = core.step({ kind: 'migrate-backup', address: 'c' });
  expect(done).toContainEqual(expect.objectContaining({ kind: 'connect', address: 'c' }));
});

test('an order that does not fit is refused aloud', () => {
  const refused = (core: CoreUnderTest, kind: 'migrate-backup' | 'switch-over', address?: string) =>
    core
      .step(kind === 'switch-over' ? { kind } : { kind, address })
      .flatMap((action) => (action.kind === 'state' ? [action.detail] : []));
  const core = pairedPrimary();
  expect(refused(core, 'migrate-backup', 'b')).toEqual(['migrate-backup: the backup is at b already']);
  expect(core.state).toBe('PAIR');
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
  const lone = new CoreUnderTest(new Primary(side('a'), start, hostMilliseconds(0)));
  expect(refused(lone, 'switch-over')).toEqual(['switch-over: there is no backup to go on']);
  expect(refused(lone, 'migrate-backup', 'c')).toEqual(['migrate-backup: there is no backup to move']);
});

test('fault tolerance that was being turned off stays off on the survivor', () => {
  const backup = loadedBackup();
  backup.receive({
    kind: 'entry',
    entry: {
      sequence: 1n,
      at: instructionCount(10n),
      kind: 'input',
      input: { kind: 'control', action: 'end-protection' },
    },
  });
  backup.tickFor(QUICK.suspicionMs + 20);
  backup.answer('won', 3);
  backup.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  const live = backup
    .step({ kind: 'replayed-to-end', pending: [] })
    .flatMap((action) => (action.kind === 'go-live' ? [action.takeover] : []));
  expect(live).toHaveLength(1);
  const survivor = new CoreUnderTest(
    new Primary(side('b'), { kind: 'takeover', takeover: live[0]! }, hostMilliseconds(0)),
  );
  expect(kinds(survivor.tickFor(3 * QUICK.findMs))).not.toContain('find-host');
});

test('what a vCPU tells of an older copy is no part of the new one', () => {
  const core = pairedPrimary();
  core.step({ kind: 'migrate-backup', address: 'c' });
  core.step({ kind: 'connected', link: NEW, address: 'c' });
  const envelope = { vm, generation: epoch(3), sender: instanceId('c') };
  received(core, { kind: 'welcome', ...envelope, ...INTRODUCED, loaded: false, received: 0n });
  const [pages, old] = [Uint8Array.of(1), Uint8Array.of(2)];
  const snapshot = { machine: old, count: instructionCount(10n), position: { outputs: 0n }, digest: 'd' };
  // The pair's own copy was the first.
  expect(core.step({ kind: 'pages', copy: 1, bytes: old })).toEqual([]);
  expect(core.step({ kind: 'snapshot', snapshot, copy: 1, stoodUs: 0 })).toEqual([]);
  expect(sent(core.step({ kind: 'pages', copy: 2, bytes: pages }))).toEqual([
    { kind: 'pages', bytes: pages },
  ]);
  expect(received(core, { kind: 'staged', parts: 1 })).toEqual([{ kind: 'vcpu-copied', parts: 1 }]);
  // Who says that more has arrived than was sent would be sent more and more.
  expect(kinds(received(core, { kind: 'staged', parts: 2 }))).toContain('close');
});
