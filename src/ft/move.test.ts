import { expect, test } from 'vitest';
import {
  ack,
  at,
  CoreUnderTest,
  copyTo,
  count,
  finishCopy,
  frame,
  kinds,
  L,
  pairedPrimary,
  released,
  sent,
  side,
  vm,
} from '../../tests/core-under-test.ts';
import { INTRODUCED, PROGRAM } from '../../tests/greetings.ts';
import { QUICK } from '../../tests/toy-world.ts';
import { hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import { Backup } from './backup.ts';
import { epoch, instanceId } from './identity.ts';
import { link } from './link.ts';
import type { Message } from './message.ts';
import { Primary } from './primary.ts';
import type { Introduction, Purpose } from './program.ts';

/** Protocol 9, live migration without fault tolerance: a guest is moved. And who can be whose partner at all. */

const details = (actions: readonly FtAction[], state?: string): string[] =>
  actions.flatMap((action) =>
    action.kind === 'state' && (state === undefined || action.state === state) ? [action.detail] : [],
  );

/** A primary alone, at epoch 1; fault tolerance is off unless it says otherwise. */
function lonePrimary(faultTolerance = false): CoreUnderTest {
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false, faultTolerance } as const;
  const core = new CoreUnderTest(new Primary(side('a'), start, at(0)));
  core.answer('won', 1);
  core.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' });
  expect(core.state).toBe('SOLE');
  return core;
}

const welcome = (introduced: Introduction = INTRODUCED): Message => ({
  ...{ kind: 'welcome', vm, generation: epoch(2), sender: instanceId('c') },
  ...introduced,
  loaded: false,
  received: 0n,
});

/** Up to the last snapshot. */
function standing(core = lonePrimary()): CoreUnderTest {
  core.step({ kind: 'move', address: 'c' });
  expect(core.state).toBe('COPY');
  core.step({ kind: 'connected', link: L, address: 'c' });
  const begun = core.receive(welcome());
  expect(begun).toContainEqual({ kind: 'vcpu-copy', number: 1, standStill: true });
  core.step({ kind: 'pages', copy: 1, bytes: Uint8Array.of(1) });
  core.receive({ kind: 'staged', parts: 1 });
  const machine = new Uint8Array(3);
  const snapshot = { machine, count: count(20n), position: { outputs: 0n }, digest: 'd' };
  const last = core.step({ kind: 'snapshot', snapshot, copy: 1, stoodUs: 4000 });
  expect(kinds(last)).toContain('vcpu-pause');
  expect(sent(last)[0]).toMatchObject({ kind: 'snapshot-begin', stoodUs: 4000 });
  expect(sent(last).at(-1)).toEqual({ kind: 'snapshot-end' });
  return core;
}

test('a move is copied as it runs, stands still for the end of it, is committed, and then handed over', () => {
  const core = standing();
  const committing = core.receive(ack(0n));
  expect(details(committing)).toHaveLength(2);
  expect(core.state).toBe('COMMIT');
  expect(core.asked()).toMatchObject({ kind: 'commit', expected: 1, backup: 'c' });
  const handed = core.answer('won', 2);
  expect(core.state).toBe('YIELD');
  expect(sent(handed)).toEqual([{ kind: 'take-over', faultTolerance: false }]);
  expect(kinds(handed)).not.toContain('vcpu-run');
  // The target claims, and the source, asking after a while, has lost.
  core.tickFor(QUICK.suspicionMs + 20);
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  const gone = core.answer('superseded', 3);
  expect(gone.at(-1)).toEqual({
    kind: 'halt',
    reason: "moved to c: superseded: the VM's record stands at epoch 3",
  });
  const all = core.done.map((action) => action.kind);
  expect(all.indexOf('vcpu-pause')).toBe(all.lastIndexOf('vcpu-pause'));
  expect(all.lastIndexOf('vcpu-run')).toBeLessThan(all.indexOf('vcpu-pause'));
  // Nothing of what it went through was protection, and no entry of a log went anywhere.
  expect(core.done.some((action) => action.kind === 'state' && action.protected === true)).toBe(false);
  expect(sent(core.done).some(({ kind }) => kind === 'entry')).toBe(false);
});

test('from the last snapshot on nothing is let out, and the outputs that wait travel with it', () => {
  const timing = { ...QUICK, leaseMs: 400 };
  const takeover = {
    epoch: epoch(1),
    leaseUntil: hostMilliseconds(0),
    released: 0n,
    held: [],
    started: [],
    reads: [],
    faultTolerance: false,
  };
  const core = new CoreUnderTest(
    new Primary({ ...side('a'), timing }, { kind: 'takeover', takeover }, hostMilliseconds(0)),
  );
  // Without a valid lease outputs wait.
  expect(released(core.step(frame(1n)))).toEqual([]);
  standing(core);
  const copy = sent(core.done);
  const begin = copy.findIndex(({ kind }) => kind === 'snapshot-begin');
  expect(copy[begin]).toMatchObject({ released: 0n });
  expect(copy[begin + 1]).toMatchObject({ kind: 'held-output', output: { number: 1n } });
  core.tickFor(20);
  expect(core.asked()).toMatchObject({ kind: 'renew' });
  // The lease is valid again, and still nothing leaves.
  expect(released(core.answer('won', 1))).toEqual([]);
  expect(released(core.receive(ack(0n)))).toEqual([]);
});

test.each([
  ['its connection breaks', (core: CoreUnderTest) => core.step({ kind: 'broken', link: L, reason: 'reset' })],
  [
    'its digest is another one',
    (core: CoreUnderTest) => core.receive({ kind: 'diverged', reason: 'digest' }),
  ],
  ['it is silent', (core: CoreUnderTest) => core.tickFor(QUICK.suspicionMs + 20)],
])(
  'a target that is lost before the commit costs nothing but the time (%s): the guest goes on',
  (_why, lose) => {
    const core = standing();
    const lost = lose(core);
    expect(core.state).toBe('SOLE');
    expect(kinds(lost).filter((kind) => kind.startsWith('vcpu'))).toEqual(['vcpu-let-go', 'vcpu-run']);
    expect(details(lost, 'SOLE')[0]).toMatch(
      /the guest stays, and does not go to c; it stood still for \d+ ms/,
    );
    expect(kinds(lost)).not.toContain('ask');
    // Its outputs leave as before, and it can be moved again.
    expect(released(core.step(frame(1n)))).toEqual([1n]);
    core.step({ kind: 'move', address: 'd' });
    expect(core.state).toBe('COPY');
  },
);

test('a target that takes too long to load is given up, though it gives signs of life', () => {
  const core = standing();
  const heartbeat = { vm, generation: epoch(2), sender: instanceId('c'), received: 0n, replayed: 0n };
  for (let tick = 0; core.state === 'COPY'; tick++) {
    expect(tick * QUICK.heartbeatMs).toBeLessThan(QUICK.stillMs + 50);
    core.step({ kind: 'heartbeat', heartbeat });
    core.tickFor(QUICK.heartbeatMs);
  }
  expect(core.state).toBe('SOLE');
  expect(core.now).toBeGreaterThanOrEqual(QUICK.stillMs);
});

test('once the commit was asked for only the arbiter says who goes on, and the guest stands still until it has', () => {
  const core = standing();
  core.receive(ack(0n));
  core.step({ kind: 'broken', link: L, reason: 'reset' });
  const silent = core.tickFor(QUICK.suspicionMs + 20);
  expect(core.state).toBe('ASK');
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 1, highest: 2 });
  expect(kinds([...silent, ...core.tickFor(2000)])).not.toContain('vcpu-run');
  const won = core.answer('won', 3);
  expect(kinds(won)).toContain('vcpu-let-go');
  expect(kinds(won)).toContain('vcpu-run');
  const opened = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  expect(core.state).toBe('SOLE');
  expect(released([...opened, ...core.step(frame(1n))])).toEqual([1n]);
});

test('a target that was told to take over and never claims: the source does, and the guest goes on there', () => {
  const core = standing();
  core.receive(ack(0n));
  core.answer('won', 2);
  const waited = core.tickFor(QUICK.suspicionMs + 20);
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  expect(kinds(waited)).not.toContain('vcpu-run');
  expect(kinds(core.answer('won', 3))).toContain('vcpu-run');
});

test('a copy that is given up while the guest still runs is given up by the vCPU too', () => {
  const core = lonePrimary();
  core.step({ kind: 'move', address: 'c' });
  core.step({ kind: 'connected', link: L, address: 'c' });
  core.receive(welcome());
  const lost = core.step({ kind: 'broken', link: L, reason: 'reset' });
  expect(kinds(lost)).toContain('vcpu-let-go');
  // What the vCPU still tells of it, its end too, means nothing.
  const snapshot = { machine: new Uint8Array(3), count: count(0n), position: { outputs: 0n }, digest: 'd' };
  expect(core.step({ kind: 'snapshot', snapshot, copy: 1, stoodUs: 0 })).toEqual([]);
});

test('a VM that nobody waits for cannot be reached, and runs on', () => {
  const core = lonePrimary();
  core.step({ kind: 'move', address: 'nobody' });
  const lost = core.tickFor(QUICK.reachMs + 20);
  expect(details(lost, 'SOLE')).toEqual(['it cannot be reached: the guest stays, and does not go to nobody']);
});

test('an order to move that does not fit is refused aloud', () => {
  const refused = (core: CoreUnderTest) => details(core.step({ kind: 'move', address: 'x' }), 'refused');
  expect(refused(pairedPrimary())).toEqual([
    'move: the VM has a backup: turn fault tolerance off first, or move the backup and switch over',
  ]);
  expect(refused(standing())).toEqual(['move: the guest is on its way to c']);
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
  const early = new CoreUnderTest(new Primary(side('a'), start, at(0)));
  expect(refused(early)).toEqual(['move: not while the primary is in START']);
  const waiting = new CoreUnderTest(new Primary(side('a'), { ...start, waitForBackup: true }, at(0)));
  expect(refused(waiting)).toEqual(['move: the guest has not begun: it waits for its first backup']);
});

test('the wish for fault tolerance goes along, as it was ordered last', () => {
  const core = lonePrimary(true);
  standing(core);
  expect(sent(core.done).find(({ kind }) => kind === 'snapshot-begin')).toMatchObject({
    faultTolerance: true,
  });
  core.step({ kind: 'unprotect' });
  core.receive(ack(0n));
  expect(sent(core.answer('won', 2))).toEqual([{ kind: 'take-over', faultTolerance: false }]);
});

const hello = (purpose: Purpose, introduced: Introduction = INTRODUCED): Message => ({
  ...{ kind: 'hello', vm, generation: epoch(2), sender: instanceId('a') },
  ...introduced,
  ...{ fresh: true, attempt: 1, purpose },
});

/** A target with the whole guest, which stands still. */
function target(): CoreUnderTest {
  const core = new CoreUnderTest(new Backup(side('c'), at(0)));
  core.receive(hello('move', { ...INTRODUCED, program: { ...PROGRAM, build: 'older', logFormat: 1 } }));
  expect(core.state).toBe('LOAD');
  finishCopy(core);
  expect(core.state).toBe('BACK');
  return core;
}

function goLive(core: CoreUnderTest): readonly FtAction[] {
  core.answer('won', 3);
  core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  return core.step({ kind: 'replayed-to-end', pending: [] });
}

test('a target claims when it is told to, goes live with what it was given, and says how long the guest stood', () => {
  const core = target();
  expect(kinds(core.done)).not.toContain('ask');
  core.now = 30;
  const told = core.receive({ kind: 'take-over', faultTolerance: false });
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  expect(kinds(told)).toContain('vcpu-end-replay');
  core.now = 50;
  const live = goLive(core).flatMap((action) => (action.kind === 'go-live' ? [action.takeover] : []));
  expect(live).toMatchObject([{ epoch: 3, faultTolerance: false, stoodMs: 50 }]);
  expect(kinds(core.done)).not.toContain('vcpu-replay');
  const survivor = new CoreUnderTest(
    new Primary(side('c'), { kind: 'takeover', takeover: live[0]! }, hostMilliseconds(50)),
  );
  expect(kinds(survivor.tickFor(3 * QUICK.findMs))).not.toContain('find-host');
});

test('a target whose source falls silent asks too: it has all that was ever executed', () => {
  const core = target();
  core.tickFor(QUICK.suspicionMs + 20);
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  // Not committed: no verdict, and it waits.
  core.answer('superseded', 1);
  expect(core.state).toBe('ASK');
  expect(kinds(goLive(core))).toContain('go-live');
});

test('a target takes no log, and no order to take over before it has the guest', () => {
  const entry = { sequence: 1n, at: count(10n), kind: 'released', output: 1n } as const;
  const core = target();
  expect(core.receive({ kind: 'entry', entry })).toContainEqual({ kind: 'close', link: L });
  const early = new CoreUnderTest(new Backup(side('c'), at(0)));
  early.receive(hello('move'));
  const told = early.receive({ kind: 'take-over', faultTolerance: true });
  expect(told).toContainEqual({ kind: 'close', link: L });
  const backup = new CoreUnderTest(new Backup(side('b'), at(0)));
  copyTo(backup, 1);
  expect(kinds(backup.receive({ kind: 'take-over', faultTolerance: true }))).not.toContain('ask');
});

// ------------------------------------------------------------------------------------------ who fits whom

const older = { ...PROGRAM, build: '3c4d', logFormat: 1 };
const others: readonly [string, Purpose, Introduction, RegExp | undefined][] = [
  [
    'another build',
    'pair',
    { ...INTRODUCED, program: { ...PROGRAM, build: '1a2b' } },
    /^h runs build 1a2b \(log format 2\), this side b \(log format 2\): they cannot pair; move the VM (there|here) first$/,
  ],
  [
    'another log format',
    'pair',
    { ...INTRODUCED, program: { ...PROGRAM, logFormat: 3 } },
    /^h runs build b \(log format 3\), this side b \(log format 2\): they cannot pair/,
  ],
  ['another build and log format', 'move', { ...INTRODUCED, program: older }, undefined],
  [
    'another snapshot format',
    'move',
    { ...INTRODUCED, program: { ...older, snapshotFormat: 7 } },
    /^h has snapshot format 7 \(build 3c4d\), this side 2 \(build b\): the guest cannot move (there|here)$/,
  ],
  [
    'another machine',
    'move',
    { ...INTRODUCED, program: { ...PROGRAM, machine: 'n' } },
    /^h has another configuration of this VM \(n\) than this side \(m\)$/,
  ],
  [
    'another machine',
    'pair',
    { ...INTRODUCED, program: { ...PROGRAM, machine: 'n' } },
    /^h has another configuration/,
  ],
  ['the same of everything', 'pair', INTRODUCED, undefined],
];

test.each(others)(
  '%s, for a %s: whoever is asked answers with what it is, and says why not',
  (_what, purpose, introduced, why) => {
    const core = new CoreUnderTest(new Backup(side('b'), at(0)));
    const answer = core.receive(hello(purpose, introduced));
    expect(sent(answer)).toMatchObject([{ kind: 'welcome', program: PROGRAM, loaded: false }]);
    expect(core.state).toBe(why === undefined ? 'LOAD' : 'WAIT');
    const said = details(answer, 'refused');
    if (why === undefined) expect(said).toEqual([]);
    else {
      expect(said).toHaveLength(1);
      expect(said[0]).toMatch(why);
      expect(answer).toContainEqual({ kind: 'close', link: L });
    }
  },
);

test.each(others)(
  '%s, for a %s: whoever comes says why not, and goes on',
  (_what, purpose, introduced, why) => {
    const core = lonePrimary();
    core.step({ kind: purpose === 'move' ? 'move' : 'protect', address: 'c' });
    core.step({ kind: 'connected', link: L, address: 'c' });
    const heard = core.receive(welcome(introduced));
    const said = details(heard, 'refused');
    if (why === undefined) {
      expect(kinds(heard)).toContain('vcpu-copy');
      return;
    }
    expect(said[0]).toMatch(why);
    expect(core.state).toBe('SOLE');
    expect(details(heard, 'SOLE')[0]).toContain(said[0]);
    expect(kinds(heard)).not.toContain('vcpu-copy');
  },
);

test('another version of the protocol is told apart before anything of it is understood', () => {
  const greeting = { vm, generation: epoch(2), version: 9, host: 'h', rest: Uint8Array.of(1, 2, 3) };
  const why =
    "h speaks version 9 of the channel's protocol, this side 6: the guest cannot get from one to the other";
  const backup = new CoreUnderTest(new Backup(side('b'), at(0)));
  const sender = instanceId('a');
  const turned = backup.receive({ kind: 'other-version', greeting: 'hello', ...greeting, sender });
  expect(details(turned, 'refused')).toEqual([why]);
  expect(sent(turned)).toMatchObject([{ kind: 'welcome', version: 6 }]);
  const primary = lonePrimary();
  primary.step({ kind: 'move', address: 'c' });
  primary.step({ kind: 'connected', link: L, address: 'c' });
  const heard = primary.receive({ kind: 'other-version', greeting: 'welcome', ...greeting, sender });
  expect(details(heard, 'refused')).toEqual([why]);
  expect(primary.state).toBe('SOLE');
});

test('a backup that is turned away keeps what it has', () => {
  const core = new CoreUnderTest(new Backup(side('b'), at(0)));
  copyTo(core, 1);
  const stranger = link(7);
  core.step({
    kind: 'received',
    link: stranger,
    messages: [hello('pair', { ...INTRODUCED, program: older })],
  });
  expect(core.state).toBe('BACK');
});
