import { expect, test } from 'vitest';
import { client, QUICK, startPair, World } from '../../tests/toy-world.ts';
import { hostMilliseconds, instructionCount } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { ArbiterRequest } from './arbiter.ts';
import { Backup } from './backup.ts';
import type { FtEvent } from './event.ts';
import { epoch, instanceId, vmId } from './identity.ts';
import { link } from './link.ts';
import type { Message } from './message.ts';
import { Primary } from './primary.ts';
import { DEFAULT_LIMITS } from './timing.ts';

/** Design section 5: one test for each rule, named by its words. */

const vm = vmId('vm');
const side = (name: string) => ({
  vm,
  instance: instanceId(name),
  machine: 'm',
  timing: QUICK,
  limits: DEFAULT_LIMITS,
});
const at = hostMilliseconds;
const L = link(1);
const count = instructionCount;

class CoreUnderTest {
  now = 0;
  readonly done: FtAction[] = [];
  readonly #core: Primary | Backup;

  constructor(core: Primary | Backup) {
    this.#core = core;
    this.done.push(...core.start(at(0)));
  }

  get state(): string {
    return this.#core.state;
  }

  /** The actions of this event; hand-overs return at once, as the driver's do. */
  step(event: FtEvent): readonly FtAction[] {
    const actions = [...this.#core.step(event, at(this.now))];
    for (const action of actions) {
      if (action.kind !== 'hand-over') continue;
      actions.push(...this.#core.step({ kind: 'handed-over', output: action.output.number }, at(this.now)));
    }
    this.done.push(...actions);
    return actions;
  }

  tickFor(milliseconds: number): readonly FtAction[] {
    const actions: FtAction[] = [];
    for (const end = this.now + milliseconds; this.now < end; ) {
      this.now += QUICK.heartbeatMs;
      actions.push(...this.step({ kind: 'tick' }));
    }
    return actions;
  }

  asked(): ArbiterRequest {
    const ask = this.done.findLast((action) => action.kind === 'ask');
    if (ask?.kind !== 'ask') throw new Error('nothing was asked');
    return ask.request;
  }

  answer(verdict: 'won' | 'superseded', reached: number): readonly FtAction[] {
    const { nonce } = this.asked();
    return this.step({ kind: 'answered', answer: { nonce, verdict, epoch: epoch(reached) } });
  }

  receive(...messages: Message[]): readonly FtAction[] {
    return this.step({ kind: 'received', link: L, messages });
  }
}

const kinds = (actions: readonly FtAction[]): string[] => actions.map((action) => action.kind);
const sent = (actions: readonly FtAction[]): Message[] =>
  actions.flatMap((action) => (action.kind === 'send' ? [action.message] : []));
const frame = (number: bigint): FtEvent => ({
  kind: 'output',
  output: {
    number,
    at: count(number * 10n),
    output: { kind: 'frame', nic: 0, frame: Uint8Array.of(Number(number)) },
    hash: '0'.repeat(32),
  },
});
/** A frame of a mebibyte. */
const bigFrame = (number: bigint): FtEvent => {
  const output = { kind: 'frame', nic: 0, frame: new Uint8Array(1024 * 1024) } as const;
  return { kind: 'output', output: { number, at: count(number * 10n), output, hash: '0'.repeat(32) } };
};
const ack = (received: bigint, replayed = 0n): Message => ({ kind: 'ack', received, replayed });
const released = (actions: readonly FtAction[]): bigint[] =>
  actions.flatMap((action) => (action.kind === 'hand-over' ? [action.output.number] : []));

/** A primary in PAIR, generation 2, nothing in its log. */
function pairedPrimary(): CoreUnderTest {
  const core = committing();
  core.answer('won', 2);
  expect(core.state).toBe('PAIR');
  return core;
}

/** A primary that has asked to commit generation 2 and waits for the answer. */
function committing(): CoreUnderTest {
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: true } as const;
  const core = new CoreUnderTest(new Primary(side('a'), start, at(0)));
  core.answer('won', 1);
  core.step({ kind: 'disks-opened', epoch: epoch(1), verdict: 'ok' });
  core.step({ kind: 'protect', address: 'b' });
  core.step({ kind: 'connected', link: L, address: 'b' });
  const envelope = { vm, generation: epoch(2), sender: instanceId('b') };
  core.receive({ kind: 'welcome', ...envelope, version: 1, machine: 'm', loaded: false, received: 0n });
  const machine = new Uint8Array(3);
  const snapshot = { machine, count: count(0n), position: { outputs: 0n }, digest: 'd' };
  core.step({ kind: 'snapshot', snapshot });
  core.receive(ack(0n));
  expect(core.state).toBe('COMMIT');
  return core;
}

/** A backup in BACK, generation 2, with `released` outputs known to have left. */
function loadedBackup(): CoreUnderTest {
  const core = new CoreUnderTest(new Backup(side('b'), at(0)));
  const digest = 'd'.repeat(32);
  const position = { outputs: 0n };
  core.receive({
    kind: 'hello',
    vm,
    generation: epoch(2),
    sender: instanceId('a'),
    version: 1,
    machine: 'm',
    fresh: true,
  });
  core.receive(
    { kind: 'snapshot-begin', bytes: 1, count: count(0n), position, released: 0n, digest },
    { kind: 'snapshot-part', bytes: Uint8Array.of(1) },
    { kind: 'snapshot-end' },
  );
  core.step({ kind: 'loaded', digest });
  expect(core.state).toBe('BACK');
  return core;
}

const logged = (sequence: bigint): Message => ({
  kind: 'entry',
  entry: {
    sequence,
    at: count(sequence * 10n),
    kind: 'input',
    input: { kind: 'console', port: 0, bytes: Uint8Array.of(1) },
  },
});

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
      version: 1,
      machine: 'm',
      fresh: false,
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
    version: 1,
    machine: 'm',
    fresh: false,
  };
  const actions = core.step({ kind: 'received', link: link(9), messages: [hello] });
  expect(actions).toEqual([
    { kind: 'send', link: 9, message: { kind: 'over', epoch: 2 } },
    { kind: 'close', link: 9 },
  ]);
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
    version: 1,
    machine: 'm',
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
  const big = (sequence: bigint): Message => ({
    kind: 'entry',
    entry: {
      sequence,
      at: count(sequence),
      kind: 'input',
      input: { kind: 'frame', nic: 0, frame: new Uint8Array(1024 * 1024) },
    },
  });
  let sequence = 1n;
  while (!kinds(core.receive(big(sequence))).includes('pause-reading')) {
    sequence++;
    expect(sequence).toBeLessThan(200n);
  }
  expect(kinds(core.step({ kind: 'replayed', sequence: 3n }))).not.toContain('resume-reading');
  expect(kinds(core.step({ kind: 'replayed', sequence }))).toContain('resume-reading');
});
