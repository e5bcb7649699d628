import { expect, test } from 'vitest';
import {
  ack,
  at,
  bigFrame,
  bigLogged,
  CoreUnderTest,
  committing,
  copyTo,
  count,
  finishCopy,
  frame,
  greet,
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
import { client, QUICK, startPair, World } from '../../tests/toy-world.ts';
import { decide, NO_RECORD } from '../storage/vm-record.ts';
import type { FtAction } from './action.ts';
import type { ArbiterRequest } from './arbiter.ts';
import { Backup } from './backup.ts';
import type { FtEvent } from './event.ts';
import { epoch, instanceId, nonce } from './identity.ts';
import { link } from './link.ts';
import type { Message } from './message.ts';
import { Primary } from './primary.ts';

/** Design section 5: one test for each rule, named by its words. */

test('Output Rule: no output leaves before the entry of its output mark is acked', () => {
  const core = pairedPrimary();
  const made = core.step(frame(1n));
  expect(released(made)).toEqual([]);
  expect(sent(made)).toMatchObject([
    { kind: 'entry', entry: { sequence: 1n, kind: 'output-mark', output: 1n } },
  ]);
  expect(kinds(made)).toContain('flush');
  core.step(frame(2n));
  // The ack of what lies before the mark is not enough.
  expect(released(core.receive(ack(0n)))).toEqual([]);
  expect(released(core.receive(ack(1n)))).toEqual([1n]);
  // Entry 3 is "released 1"; output 2 has its mark at 2.
  expect(released(core.receive(ack(2n)))).toEqual([2n]);
});

test('Gate, not stall: the vCPU runs on while an output waits', () => {
  const core = pairedPrimary();
  for (let number = 1n; number <= 50n; number++) {
    const actions = core.step(frame(number));
    expect(kinds(actions)).not.toContain('vcpu-pause');
    expect(released(actions)).toEqual([]);
  }
  expect(
    core.step({ kind: 'input', input: { kind: 'console', port: 0, bytes: Uint8Array.of(1) } }),
  ).toHaveLength(1);
});

test('Replay to the end: a backup goes live only after replaying every entry it received', () => {
  const core = loadedBackup();
  core.receive(logged(1n), logged(2n));
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  expect(kinds(core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' }))).not.toContain('go-live');
  expect(kinds(core.step({ kind: 'replayed', sequence: 1n }))).not.toContain('go-live');
  expect(kinds(core.step({ kind: 'replayed-to-end', pending: [] }))).toContain('go-live');
});

test('One winner: the loser halts, no answer is no verdict, and the same question is asked again', () => {
  const primary = pairedPrimary();
  primary.step(frame(1n));
  const first = primary.tickFor(QUICK.suspicionMs + 20);
  expect(primary.state).toBe('ASK');
  const { nonce } = primary.asked();
  const repeated = primary.tickFor(1000).filter((action) => action.kind === 'ask');
  expect(repeated.length).toBeGreaterThan(5);
  expect(primary.asked().nonce).toBe(nonce);
  expect(released([...first, ...primary.tickFor(1000)])).toEqual([]);
  const lost = primary.answer('superseded', 3);
  expect(primary.state).toBe('HALT');
  expect(released(lost)).toEqual([]);

  const backup = loadedBackup();
  backup.tickFor(QUICK.suspicionMs + 20);
  expect(backup.state).toBe('ASK');
  backup.step({ kind: 'replayed-to-end', pending: [] });
  expect(kinds(backup.tickFor(1000))).not.toContain('go-live');
  expect(kinds(backup.answer('superseded', 3))).toEqual(['state', 'halt']);
});

test('One winner: while a commit may still take effect, the claim covers both epochs', () => {
  const core = committing();
  core.step(frame(1n));
  core.receive(ack(0n));
  expect(released(core.tickFor(QUICK.commitMs + 50))).toEqual([]);
  expect(core.state).toBe('ASK');
  expect(core.asked()).toMatchObject({ kind: 'claim', lowest: 1, highest: 2 });
});

test('One winner: an answer to another question is not believed', () => {
  const backup = loadedBackup();
  backup.tickFor(QUICK.suspicionMs + 20);
  const answer = { nonce: 'b/b99' as never, verdict: 'won' as const, epoch: epoch(3) };
  backup.step({ kind: 'answered', answer });
  expect(backup.state).toBe('ASK');
});

test('One winner: asked before the commit there is no verdict, and the same question is asked until it comes', () => {
  const backup = loadedBackup();
  backup.tickFor(QUICK.suspicionMs + 20);
  const { nonce } = backup.asked();
  // The record still stands before this pair's generation: its commit may be on the way.
  const told = (actions: readonly FtAction[]) =>
    actions.filter((action) => action.kind === 'state' && action.state === 'EARLY').length;
  expect(told(backup.answer('superseded', 1))).toBe(1);
  expect(told(backup.answer('superseded', 1))).toBe(0);
  expect(backup.state).toBe('ASK');
  expect(backup.tickFor(100).filter((action) => action.kind === 'ask').length).toBeGreaterThan(0);
  expect(backup.asked().nonce).toBe(nonce);
  backup.answer('won', 3);
  expect(backup.state).toBe('OPEN');
});

test('Replay to the end: the end of the log of a copy that was given up is not the end of the new one', () => {
  const backup = loadedBackup();
  backup.tickFor(QUICK.suspicionMs + 20);
  backup.answer('superseded', 1);
  // A primary comes with a new copy while the vCPU is still busy with the log of the old one.
  greet(backup, 2);
  const data = new Uint8Array(512);
  const write = {
    kind: 'disk-request',
    disk: 0,
    request: 7,
    operation: 'write',
    offset: 0,
    length: 512,
    data,
  } as const;
  backup.step({ kind: 'replayed-to-end', pending: [write] });
  finishCopy(backup);
  expect(backup.state).toBe('BACK');
  backup.receive(logged(1n));
  backup.tickFor(QUICK.suspicionMs + 20);
  backup.answer('won', 3);
  backup.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  expect(backup.state).toBe('OPEN');
  backup.step({ kind: 'replayed', sequence: 1n });
  backup.step({ kind: 'replayed-to-end', pending: [] });
  expect(backup.done.filter(({ kind }) => kind === 'go-live')).toMatchObject([{ takeover: { started: [] } }]);
});

test('One winner: a question that was given up for a new copy never wins, however late it is executed', () => {
  let record = NO_RECORD;
  const judge = (request: ArbiterRequest) => {
    const decision = decide(record, request, false);
    ({ record } = decision);
    return decision.answer;
  };
  const a = { vm, instance: instanceId('a') };
  judge({ kind: 'restart', ...a, nonce: nonce('on'), expected: epoch(0) });

  const backup = loadedBackup();
  backup.tickFor(QUICK.suspicionMs + 20);
  const early = backup.asked();
  backup.step({ kind: 'answered', answer: judge(early) });
  expect(backup.state).toBe('ASK');
  // A primary comes with a new copy while the question, asked again, is still on its way.
  const welcome = copyTo(backup, 2).find((message) => message.kind === 'welcome');
  if (!welcome) throw new Error('the new copy is not welcome');
  expect(backup.state).toBe('BACK');
  const commit = { kind: 'commit', ...a, nonce: nonce('pair'), expected: epoch(1) } as const;
  expect(judge({ ...commit, backup: welcome.sender })).toMatchObject({ verdict: 'won', epoch: 2 });
  expect(judge(early)).toMatchObject({ verdict: 'superseded', epoch: 2 });

  // What it asks for the new copy wins, and it goes live under the name that has won.
  backup.tickFor(QUICK.suspicionMs + 20);
  expect(backup.asked()).toMatchObject({ kind: 'claim', lowest: 2, highest: 2 });
  backup.step({ kind: 'answered', answer: judge(backup.asked()) });
  backup.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  backup.step({ kind: 'replayed-to-end', pending: [] });
  expect(record).toMatchObject({ epoch: 3, mode: 'lone', primary: welcome.sender });
  expect(backup.done).toContainEqual(expect.objectContaining({ kind: 'go-live', instance: welcome.sender }));
});

test('One winner: a question is given up for a newer primary, never for one of before, whose pair cannot be committed', () => {
  const asking = () => {
    const backup = loadedBackup();
    backup.tickFor(QUICK.suspicionMs + 20);
    backup.answer('superseded', 1);
    return backup;
  };
  // The pair that was asked for may still be committed: then the question wins, and this side has to have its state.
  const asked = asking();
  expect(greet(asked, 9, { generation: 1, sender: 'z' })).toEqual([]);
  expect(asked.state).toBe('ASK');
  asked.answer('won', 3);
  expect(asked.state).toBe('OPEN');
  expect(greet(asking(), 1, { generation: 3, sender: 'y' })).toMatchObject([{ kind: 'welcome' }]);
});

test('No ack after go-live: a side that suspects never acks or reads its old partner again', () => {
  const core = loadedBackup();
  core.receive(logged(1n));
  const suspected = core.tickFor(QUICK.suspicionMs + 20);
  expect(suspected).toContainEqual({ kind: 'close', link: L });
  const late = core.receive(logged(2n));
  expect(sent(late)).toEqual([]);
  expect(kinds(late)).not.toContain('vcpu-replay');
});

test('No ack after go-live: a backup that diverged, or whose vCPU died, stops acking and never asks', () => {
  for (const event of [
    { kind: 'diverged', reason: 'divergence at count 7' },
    { kind: 'vcpu-stopped', reason: 'RuntimeError: unreachable', failed: true },
  ] as const) {
    const core = loadedBackup();
    core.receive(logged(1n));
    const actions = core.step(event);
    expect(sent(actions).map((message) => message.kind)).toEqual(['diverged']);
    expect(core.state).toBe('HALT');
    expect([...core.receive(logged(2n)), ...core.tickFor(1000)]).toEqual([]);
  }
});

test('a copy that has another digest after loading than before is never acked, and that backup never asks', () => {
  const core = new CoreUnderTest(new Backup(side('b'), at(0)));
  const said = copyTo(core, 1, 'e'.repeat(32));
  expect(said.map((message) => message.kind)).toEqual(['welcome', 'diverged']);
  expect(core.state).toBe('HALT');
  expect([...core.receive(logged(1n)), ...core.tickFor(1000)]).toEqual([]);
});

test('No ack after go-live: a divergence that comes to light in the moment of go-live halts the survivor', () => {
  const takeover = {
    epoch: epoch(3),
    leaseUntil: at(0),
    released: 0n,
    held: [],
    started: [],
    reads: [],
    faultTolerance: true,
  };
  const core = new CoreUnderTest(new Primary(side('b'), { kind: 'takeover', takeover }, at(0)));
  core.step({ kind: 'diverged', reason: 'divergence at count 7' });
  expect(core.state).toBe('HALT');
});

test('Nothing lost: go-live issues started disk operations and unreleased outputs again, in order', () => {
  const core = loadedBackup();
  const request = (id: number) => ({
    kind: 'disk-request' as const,
    disk: 0,
    request: id,
    operation: 'write' as const,
    offset: 0,
    length: 1,
    data: Uint8Array.of(id),
  });
  const diskOutput = (number: bigint, id: number): FtEvent => ({
    kind: 'output',
    output: { number, at: count(number * 10n), output: request(id), hash: '0'.repeat(32) },
  });
  core.step(diskOutput(1n, 71));
  core.step(frame(2n));
  core.step(diskOutput(3n, 73));
  core.receive({ kind: 'entry', entry: { sequence: 1n, at: count(30n), kind: 'released', output: 1n } });
  core.tickFor(QUICK.suspicionMs + 20);
  core.step({ kind: 'replayed-to-end', pending: [request(71), request(73)] });
  core.answer('won', 3);
  const live = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  const goLive = live.find((action) => action.kind === 'go-live');
  if (goLive?.kind !== 'go-live') throw new Error('it did not go live');
  expect(goLive.takeover.released).toBe(1n);
  expect(goLive.takeover.held.map((output) => output.number)).toEqual([2n, 3n]);
  expect(goLive.takeover.started).toEqual([request(71)]);

  const survivor = new CoreUnderTest(
    new Primary(side('b'), { kind: 'takeover', takeover: goLive.takeover }, at(0)),
  );
  expect(survivor.done).toContainEqual({ kind: 'issue-again', request: request(71) });
  survivor.step({ kind: 'handed-over', output: 2n });
  expect(released(survivor.done)).toEqual([2n, 3n]);
});

test('Nothing lost: "released" is logged after the hand-over returned, never before', () => {
  const core = pairedPrimary();
  core.step(frame(1n));
  const actions = core.receive(ack(1n));
  const handOver = actions.findIndex((action) => action.kind === 'hand-over');
  const told = actions.findIndex(
    (action) =>
      action.kind === 'send' && action.message.kind === 'entry' && action.message.entry.kind === 'released',
  );
  expect(handOver).toBeGreaterThanOrEqual(0);
  expect(told).toBeGreaterThan(handOver);
});

test('Fencing: after go-live no write of the old primary reaches the disk, not even one accepted before', () => {
  const world = new World();
  const { a, b } = startPair(world);
  const requests = client(world, 60);
  world.runUntil(60);
  // The old primary is cut off from its partner in mid-load, but not from the disk and the clients.
  world.cut = (from, to) => from !== to;
  a.breakLinks('cut');
  // Its own answer from the arbiter never comes, so it holds its outputs and does not know that it lost.
  world.loseArbiterRequest = (request) => request.instance === 'a' && world.record.epoch === 2;
  world.runUntil(900);
  expect(world.problems).toEqual([]);
  expect(b.live).toBe(true);
  expect(a.halted).toBeDefined();
  expect(world.fence).toBe(3);
  expect(requests.done()).toBe(true);
});

test('Fencing: the own older session is fenced by the own newer opening, and that is no reason to halt', () => {
  const core = pairedPrimary();
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  core.step({ kind: 'fenced' });
  expect(core.state).toBe('SOLE');
  core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  core.step({ kind: 'fenced' });
  expect(core.state).toBe('HALT');
});

test('Order: a gap, a repeat or a damaged frame ends the connection, and is never applied', () => {
  for (const messages of [[logged(1n), logged(3n)], [logged(1n), logged(1n)], [logged(2n)]]) {
    const core = loadedBackup();
    const actions = core.receive(...messages);
    expect(actions).toContainEqual({ kind: 'close', link: L });
    const applied = actions.flatMap((action) => (action.kind === 'vcpu-replay' ? action.entries : []));
    expect(applied.map((entry) => entry.sequence)).toEqual(messages.length === 2 ? [1n] : []);
    // The same pair may go on after the last good position.
    const link2 = link(2);
    const hello: Message = {
      kind: 'hello',
      vm,
      generation: epoch(2),
      sender: instanceId('a'),
      ...INTRODUCED,
      fresh: false,
      attempt: 2,
      purpose: 'pair',
    };
    const resumed = core.step({ kind: 'received', link: link2, messages: [hello] });
    expect(sent(resumed)).toMatchObject([
      { kind: 'welcome', loaded: true, received: BigInt(applied.length) },
    ]);
  }
});

test('a primary answers a stranger only with the epoch, and closes', () => {
  const core = pairedPrimary();
  const hello: Message = {
    kind: 'hello',
    vm,
    generation: epoch(1),
    sender: instanceId('x'),
    ...INTRODUCED,
    fresh: false,
    attempt: 2,
    purpose: 'pair',
  };
  const actions = core.step({ kind: 'received', link: link(9), messages: [hello] });
  expect(actions).toEqual([
    { kind: 'send', link: 9, message: { kind: 'over', epoch: 2 } },
    { kind: 'close', link: 9 },
  ]);
});

test('Order: a hello that was held up on the way does not undo what a later one has done', () => {
  const core = loadedBackup();
  core.receive(logged(1n));
  const envelope = { vm, generation: epoch(2), sender: instanceId('a') };
  const hello = {
    kind: 'hello',
    ...envelope,
    ...INTRODUCED,
    fresh: true,
    attempt: 1,
    purpose: 'pair',
  } as const;
  const late = core.step({ kind: 'received', link: link(7), messages: [hello] });
  expect(late).toEqual([{ kind: 'close', link: 7 }]);
  expect(core.state).toBe('BACK');
  core.receive(logged(2n));
  expect(core.done).toContainEqual({ kind: 'send', link: L, message: ack(2n) });
});

test('Order: a broken connection goes on after the position that the backup names', () => {
  const core = pairedPrimary();
  for (let number = 1n; number <= 3n; number++) core.step(frame(number));
  core.receive(ack(1n));
  core.step({ kind: 'broken', link: L, reason: 'reset' });
  expect(sent(core.step(frame(4n)))).toEqual([]);
  core.now += 20;
  expect(kinds(core.step({ kind: 'tick' }))).toContain('connect');
  const link2 = link(2);
  core.step({ kind: 'connected', link: link2, address: 'b' });
  const envelope = { vm, generation: epoch(2), sender: instanceId('b') };
  const welcome: Message = {
    kind: 'welcome',
    ...envelope,
    ...INTRODUCED,
    loaded: true,
    received: 2n,
  };
  const resumed = core.step({ kind: 'received', link: link2, messages: [welcome] });
  const positions = sent(resumed).flatMap((message) =>
    message.kind === 'entry' ? [message.entry.sequence] : [],
  );
  expect(positions.slice(0, 3)).toEqual([3n, 4n, 5n]);
  expect(core.state).toBe('PAIR');
});

test('Backpressure: a full buffer stops the primary, never drops, never grows without bound', () => {
  const world = new World();
  const limits = { streamBytes: 4000, holdBytes: 4000, backupBytes: 3000 };
  const { a, b } = startPair(world, { limits, stepMs: 0.3 });
  const requests = client(world, 40, 10_000);
  world.runUntil(40);
  b.stepMs = 25;
  let paused = 0;
  let most = 0;
  world.beforeEvent = () => {
    const figures = b.driver.core instanceof Backup ? b.driver.core.figures() : undefined;
    most = Math.max(most, figures?.bufferedBytes ?? 0);
    if (a.driver.core instanceof Primary && a.driver.core.figures(at(world.now)).heldOutputs > 0) paused++;
  };
  world.runUntil(2500);
  b.stepMs = 0.3;
  world.runUntil(3500);
  expect(world.problems).toEqual([]);
  expect(a.driver.state).toBe('PAIR');
  expect(requests.done()).toBe(true);
  expect(paused).toBeGreaterThan(0);
  // One batch may lie above the limit, not more.
  expect(most).toBeLessThan(2 * limits.backupBytes);
  expect(b.machine?.counters).toEqual(a.machine?.counters);
});

test('Backpressure: the primary pauses while the backup acks nothing, and goes on at half', () => {
  const core = pairedPrimary();
  let paused = 0n;
  for (let number = 1n; paused === 0n; number++) {
    if (kinds(core.step(bigFrame(number))).includes('vcpu-pause')) paused = number;
    expect(number).toBeLessThan(200n);
  }
  expect(kinds(core.receive(ack(paused / 4n)))).not.toContain('vcpu-run');
  expect(kinds(core.receive(ack(paused)))).toContain('vcpu-run');
});

test('Backpressure: a full backup stops reading, and reads again once it has replayed', () => {
  const core = loadedBackup();
  let sequence = 1n;
  while (!kinds(core.receive(bigLogged(sequence))).includes('pause-reading')) {
    sequence++;
    expect(sequence).toBeLessThan(200n);
  }
  expect(kinds(core.step({ kind: 'replayed', sequence: 3n }))).not.toContain('resume-reading');
  expect(kinds(core.step({ kind: 'replayed', sequence }))).toContain('resume-reading');
});

test('Backpressure: a buffer that drains while the channel is broken is read into again', () => {
  const core = loadedBackup();
  let sequence = 0n;
  const fill = (): boolean => kinds(core.receive(bigLogged(++sequence))).includes('pause-reading');
  while (!fill()) expect(sequence).toBeLessThan(200n);
  core.step({ kind: 'broken', link: L, reason: 'reset' });
  core.step({ kind: 'replayed', sequence });
  const envelope = { vm, generation: epoch(2), sender: instanceId('a') };
  const hello: Message = {
    kind: 'hello',
    ...envelope,
    ...INTRODUCED,
    fresh: false,
    attempt: 2,
    purpose: 'pair',
  };
  const resumed = core.step({ kind: 'received', link: link(2), messages: [hello] });
  expect(kinds(resumed)).not.toContain('pause-reading');
});

test('Backpressure: a backup that acks nothing, on a new connection neither, ends the pair', () => {
  const core = pairedPrimary();
  core.step(frame(1n));
  const heartbeat = { vm, generation: epoch(2), sender: instanceId('b'), received: 0n, replayed: 0n };
  for (let connection = 2; core.state === 'PAIR'; connection++) {
    expect(connection).toBeLessThan(6);
    for (let tick = 0; tick < 15; tick++) {
      core.step({ kind: 'heartbeat', heartbeat });
      core.tickFor(QUICK.heartbeatMs);
    }
    if (core.state !== 'PAIR') break;
    const L2 = link(connection);
    core.step({ kind: 'connected', link: L2, address: 'b' });
    const envelope = { vm, generation: epoch(2), sender: instanceId('b') };
    const welcome = {
      kind: 'welcome',
      ...envelope,
      ...INTRODUCED,
      loaded: true,
      received: 0n,
    } as const;
    core.step({ kind: 'received', link: L2, messages: [welcome] });
  }
  expect(core.state).toBe('ASK');
});

test('Redundancy: after any loss a new backup is made on another host without a human, never on the same host', () => {
  const core = pairedPrimary();
  core.tickFor(QUICK.suspicionMs + 20);
  core.answer('won', 3);
  const opened = core.step({ kind: 'disks-opened', epoch: epoch(3), verdict: 'ok' });
  // The lost one is of no use any more: it may only halt.
  expect(opened).toContainEqual({ kind: 'find-host', except: ['b'] });
  // Nobody answers: asked again.
  expect(kinds(core.tickFor(QUICK.findMs + 20))).toContain('find-host');
  expect(core.step({ kind: 'candidate', address: 'c', host: 'a' })).toEqual([]);
  expect(core.step({ kind: 'candidate', address: 'b', host: 'h2' })).toEqual([]);
  const joined = core.step({ kind: 'candidate', address: 'c', host: 'h2' });
  expect(joined).toContainEqual({ kind: 'connect', address: 'c', generation: 4 });
  expect(core.state).toBe('COPY');
  // One that cannot be reached is given up, and another one is asked for.
  const lost = core.tickFor(QUICK.reachMs + 20);
  expect(core.state).toBe('SOLE');
  expect(kinds(lost)).toContain('find-host');
  core.step({ kind: 'candidate', address: 'd', host: 'h3' });
  expect(kinds(core.tickFor(QUICK.suspicionMs))).toContain('connect');
});

test('Redundancy: a survivor looks for a backup as soon as it is live', () => {
  const takeover = {
    epoch: epoch(3),
    leaseUntil: at(0),
    released: 0n,
    held: [],
    started: [],
    reads: [],
    faultTolerance: true,
  };
  const core = new CoreUnderTest(new Primary(side('b'), { kind: 'takeover', takeover }, at(0)));
  expect(kinds(core.done)).toContain('find-host');
});
