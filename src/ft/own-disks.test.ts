import { expect, test } from 'vitest';
import {
  ack,
  at,
  CoreUnderTest,
  count,
  frame,
  greet,
  kinds,
  L,
  logged,
  released,
  sent,
  side,
  vm,
} from '../../tests/core-under-test.ts';
import { INTRODUCED } from '../../tests/greetings.ts';
import { QUICK } from '../../tests/toy-world.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { decide, NO_RECORD } from '../storage/vm-record.ts';
import { decodeRecord, encodeRecord } from '../storage/vm-record-text.ts';
import type { FtAction } from './action.ts';
import { Backup } from './backup.ts';
import type { CopyName } from './copy-name.ts';
import type { FtEvent } from './event.ts';
import { epoch, instanceId, nonce } from './identity.ts';
import type { Message } from './message.ts';
import { Primary } from './primary.ts';

/** Non-shared disks [FT 4.1]. */

const BLOCK = 4096;
const BLOCKS = 40;
const MODE = { own: true, backupReads: false, bytes: [BLOCKS * BLOCK], blockBytes: BLOCK };
const DATA = new Uint8Array(512).fill(5);

const write = (number: number, offset = 0): DiskRequestOutput => ({
  ...{ kind: 'disk-request', disk: 0, request: number, operation: 'write', offset, length: 512 },
  data: DATA,
});
const made = (number: bigint, output: DiskRequestOutput): FtEvent => ({
  kind: 'output',
  output: { number, at: count(number * 10n), output, hash: '0'.repeat(32) },
});
const issued = (actions: readonly FtAction[]) =>
  actions.flatMap((action) => (action.kind === 'issue' ? [action.request.request] : []));
const asked = (actions: readonly FtAction[]) =>
  actions.flatMap((action) => (action.kind === 'read-block' ? [action] : []));

/** A primary that has copied its guest to `b`, whose copy of the disks has this name; nothing of the disks yet. */
function copying(name: CopyName, core = poweredOn()): { core: CoreUnderTest; actions: readonly FtAction[] } {
  core.step({ kind: 'protect', address: 'b' });
  const copies = core.done.filter(({ kind }) => kind === 'vcpu-copy').length;
  core.step({ kind: 'connected', link: L, address: 'b' });
  const hello = sent(core.done).findLast((message) => message.kind === 'hello') as Message & {
    kind: 'hello';
  };
  const envelope = { vm, generation: hello.generation, sender: instanceId('b') };
  core.receive({ kind: 'welcome', ...envelope, ...INTRODUCED, loaded: false, received: 0n, copy: name });
  const snapshot = { machine: new Uint8Array(3), count: count(0n), position: { outputs: 0n }, digest: 'd' };
  const actions = core.step({ kind: 'snapshot', snapshot, copy: copies + 1, stoodUs: 0 });
  return { core, actions };
}

function poweredOn(): CoreUnderTest {
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
  const core = new CoreUnderTest(new Primary(side('a', MODE), start, at(0)));
  core.answer('won', 1);
  core.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' });
  return core;
}

/** All blocks that are asked for are read, sent and stored, until there are no more; how many. */
function resync(core: CoreUnderTest, first: readonly FtAction[]): number {
  let blocks = 0;
  for (let actions = first; asked(actions).length > 0; ) {
    for (const { copy, extent } of asked(actions)) {
      core.step({ kind: 'block-read', copy, extent, data: undefined, failed: false });
      blocks += 1;
    }
    actions = core.receive({ kind: 'blocks-stored', blocks });
  }
  return blocks;
}

const NEW: CopyName = { id: 'copy', follows: undefined };

function paired(): CoreUnderTest {
  const { core, actions } = copying(NEW);
  resync(core, actions);
  core.receive(ack(0n), { kind: 'disks-whole' });
  core.answer('won', 2);
  expect(core.state).toBe('PAIR');
  return core;
}

test('a disk write is internal state: it is issued at once, and what a client sees waits as ever', () => {
  const core = paired();
  expect(issued(core.step(made(1n, write(1))))).toEqual([1]);
  expect(released(core.step(frame(2n)))).toEqual([]);
  expect(issued(core.step(made(3n, write(3))))).toEqual([3]);
  expect(released(core.receive(ack(2n)))).toEqual([2n]);
});

test('the gate begins when the snapshot is loaded and the last block is stored, and not before', () => {
  const { core, actions } = copying(NEW);
  expect(
    sent(actions)
      .map(({ kind }) => kind)
      .slice(0, 2),
  ).toEqual(['disks-begin', 'snapshot-begin']);
  core.receive(ack(0n));
  expect(core.state).toBe('COPY');
  expect(resync(core, actions)).toBe(BLOCKS);
  expect(sent(core.done).at(-1)).toEqual({ kind: 'disks-end' });
  expect(core.state).toBe('COPY');
  core.receive({ kind: 'disks-whole' });
  expect(core.state).toBe('COMMIT');
});

test('a backup says that the disks are whole only after their end', () => {
  const { core } = copying(NEW);
  core.receive({ kind: 'disks-whole' });
  expect(core.state).toBe('SOLE');
});

test('blocks are on their way in a bounded number', () => {
  const { core, actions } = copying(NEW);
  const first = asked(actions).length;
  expect(first).toBeLessThan(BLOCKS);
  const [{ copy, extent } = { copy: 0, extent: { disk: 0, offset: 0, length: 0 } }] = asked(actions);
  expect(asked(core.step({ kind: 'block-read', copy, extent, data: undefined, failed: false }))).toEqual([]);
  expect(asked(core.receive({ kind: 'blocks-stored', blocks: 1 }))).toHaveLength(1);
});

/** A backup that had everything but a write to the third block is lost; one with its copy comes. */
function outage(follows: CopyName['follows']): { core: CoreUnderTest; actions: readonly FtAction[] } {
  const core = paired();
  core.step(made(1n, write(1, 0)));
  core.receive(ack(1n, 1n), { kind: 'disks-secured', position: 1n });
  core.step(made(2n, write(2, 2 * BLOCK)));
  // Replayed, but maybe on no stable storage.
  core.receive(ack(2n, 2n));
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  core.step(made(3n, write(3, 5 * BLOCK)));
  return copying({ id: 'copy', follows }, core);
}

test('after an outage a copy that comes back gets only what it lacks: what was not confirmed, and what came after', () => {
  const { core, actions } = outage({ primary: instanceId('a'), generation: epoch(2) });
  expect(sent(actions)[0]).toEqual({ kind: 'disks-begin', whole: false });
  expect(asked(actions).map(({ extent }) => extent.offset)).toEqual([2 * BLOCK, 5 * BLOCK]);
  expect(resync(core, actions)).toBe(2);
});

test('a copy that has followed somebody else since gets everything', () => {
  for (const follows of [undefined, { primary: instanceId('x'), generation: epoch(2) }]) {
    const { core, actions } = outage(follows);
    expect(sent(actions)[0]).toEqual({ kind: 'disks-begin', whole: true });
    expect(resync(core, actions)).toBe(BLOCKS);
  }
});

test('a guest whose disks are of one host alone does not move', () => {
  const core = poweredOn();
  const refused = core.step({ kind: 'move', address: 'b' });
  expect(refused).toMatchObject([
    { kind: 'state', state: 'refused', detail: expect.stringMatching(/its disks are of this host/) },
  ]);
});

/** A backup that is being copied to, up to the end of the snapshot. */
function receiving(): CoreUnderTest {
  const core = new CoreUnderTest(new Backup({ ...side('b', MODE), copy: NEW }, at(0)));
  greet(core, 1);
  core.receive({ kind: 'disks-begin', whole: true });
  const begin = { bytes: 1, count: count(0n), position: { outputs: 0n }, released: 0n };
  core.receive(
    { kind: 'snapshot-begin', ...begin, digest: 'd'.repeat(32), stoodUs: 0, faultTolerance: true },
    { kind: 'snapshot-part', bytes: Uint8Array.of(1) },
    { kind: 'snapshot-end' },
  );
  return core;
}

const loaded = (pending: readonly DiskRequestOutput[] = []): FtEvent => ({
  ...{ kind: 'loaded', digest: 'd'.repeat(32) },
  pending,
});

test('a backup carries out what its guest writes again, and what was under way at the snapshot', () => {
  const core = receiving();
  const replayed = (actions: readonly FtAction[]) =>
    actions.flatMap((action) => (action.kind === 'replay-disk' ? [action.request.request] : []));
  expect(replayed(core.step(loaded([write(1)])))).toEqual([1]);
  expect(replayed(core.step(made(2n, write(2))))).toEqual([2]);
});

test('its copy is whole once all that came is on stable storage, also when the guest is not loaded yet', () => {
  const core = receiving();
  const block = { disk: 0, offset: BLOCK, length: BLOCK };
  expect(core.receive({ kind: 'disk-block', extent: block, data: undefined })).toMatchObject([
    { kind: 'store-block', extent: block },
  ]);
  expect(sent(core.step({ kind: 'block-stored' }))).toEqual([{ kind: 'blocks-stored', blocks: 1 }]);
  const end = core.receive({ kind: 'disks-end' });
  const follows = { primary: instanceId('a'), generation: epoch(2) };
  expect(end).toMatchObject([{ kind: 'secure-copy', number: 1, follows }]);
  expect(sent(core.step({ kind: 'copy-secured', number: 1 }))).toEqual([{ kind: 'disks-whole' }]);
});

test('what is on stable storage is told up to what was replayed when it was asked for', () => {
  const core = receiving();
  core.step(loaded());
  core.receive({ kind: 'disks-end' });
  core.step({ kind: 'copy-secured', number: 1 });
  core.receive(logged(1n), logged(2n));
  core.step({ kind: 'replayed', sequence: 1n });
  expect(kinds(core.step({ kind: 'tick' }))).toContain('secure-copy');
  core.step({ kind: 'replayed', sequence: 2n });
  expect(sent(core.step({ kind: 'copy-secured', number: 2 }))).toEqual([
    { kind: 'disks-secured', position: 1n },
  ]);
});

test('a block beyond the end of its disk, or out of place, ends the connection', () => {
  const beyond = { disk: 0, offset: BLOCKS * BLOCK, length: BLOCK };
  const core = receiving();
  expect(kinds(core.receive({ kind: 'disk-block', extent: beyond, data: undefined }))).toContain('close');
  const early = new CoreUnderTest(new Backup({ ...side('b', MODE), copy: NEW }, at(0)));
  greet(early, 1);
  expect(kinds(early.receive({ kind: 'disks-end' }))).toContain('close');
});

test('a copy that cannot be written is none: this side never goes live', () => {
  const core = receiving();
  core.step(loaded());
  core.step({ kind: 'copy-failed', reason: 'the disk is broken' });
  expect(core.state).toBe('HALT');
});

test('a VM is started from the copy that its record names, and from no other', () => {
  const of = (host: string) => ({
    vm,
    instance: instanceId(host),
    nonce: nonce(`on ${host}`),
    copy: `${host}/id-${host}`,
  });
  const on = decide(NO_RECORD, { kind: 'restart', ...of('a'), expected: epoch(0) }, false);
  const backup = instanceId('b');
  const pair = decide(
    on.record,
    { kind: 'commit', ...of('a'), nonce: nonce('pair'), expected: epoch(1), backup },
    false,
  );
  expect(pair.record).toMatchObject({ mode: 'pair', copy: 'a/id-a' });
  const claim = { kind: 'claim', ...of('b'), lowest: epoch(2), highest: epoch(2) } as const;
  const survivor = decide(pair.record, claim, false);
  expect(survivor.record).toMatchObject({ mode: 'lone', copy: 'b/id-b' });
  // Both are gone, and the old primary's host is first there: what it has is older, and not all of it ever happened.
  const start = (host: string, copy = `${host}/id-b`) =>
    decide(
      survivor.record,
      { kind: 'restart', ...of(host), nonce: nonce('again'), copy, expected: epoch(3) },
      true,
    );
  expect(start('a', 'a/id-a').answer).toMatchObject({ verdict: 'superseded', copy: 'b/id-b' });
  expect(start('b').answer.verdict).toBe('won');
  expect(start('renamed').answer.verdict).toBe('won');
  expect(decodeRecord(encodeRecord(survivor.record))).toEqual(survivor.record);

  const core = new CoreUnderTest(
    new Primary(side('a', MODE), { kind: 'power-on', expected: epoch(3), waitForBackup: false }, at(0)),
  );
  const halted = core.step({
    kind: 'answered',
    answer: { ...start('a', 'a/id-a').answer, nonce: core.asked().nonce },
  });
  expect(halted).toContainEqual({
    kind: 'halt',
    reason: "the copy of a is not whole: the VM's disks are those of b; start it there",
  });
});
