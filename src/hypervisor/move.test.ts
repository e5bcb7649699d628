import { expect, test } from 'vitest';
import { client, Node, World } from '../../tests/toy-world.ts';
import { epoch } from '../ft/identity.ts';

/** A guest without a backup is moved (protocol 9): the real driver, core and vCPU loop, in a world of virtual time. */

const REQUESTS = 60;
const MOVED_AT = 60;

interface Move {
  readonly world: World;
  readonly a: Node;
  readonly c: Node;
  readonly requests: { done: () => boolean };
  /** What `a` had executed when it was told to move its guest. */
  countAt: bigint;
}

function moving(prepare: (move: Move) => void = () => {}): Move {
  const world = new World();
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
  const a = new Node(world, 'a', { role: { kind: 'primary', start } });
  const c = new Node(world, 'c', { role: { kind: 'backup' } });
  const move = { world, a, c, requests: client(world, REQUESTS), countAt: 0n };
  prepare(move);
  world.schedule(MOVED_AT, () => {
    move.countAt = a.machine?.count ?? 0n;
    a.driver.move('c');
  });
  return move;
}

/** Exactly one goes on, and has answered everything. */
function verdict({ world, requests }: Move): string[] {
  const live = [...world.nodes.values()].filter((node) => node.live);
  const problems = [...world.problems];
  if (live.length !== 1) problems.push(`${live.length} instances are live`);
  if (!requests.done()) problems.push('a client waits');
  const waiting = live[0]?.machine?.pendingDiskRequests().length ?? 0;
  if (waiting > 0) problems.push(`${waiting} disk operations were never completed`);
  return problems;
}

test('the guest goes on at the target with nothing lost; the source ends, and says where it went', () => {
  const move = moving();
  move.world.runUntil(2500);
  expect(verdict(move)).toEqual([]);
  expect(move.c.live).toBe(true);
  expect(move.a.halted).toMatch(/^moved to c: /);
  expect(move.world.record).toMatchObject({ epoch: 3, mode: 'lone', primary: 'c' });
  const moved = move.c.statuses.find((status) => status.kind === 'moved');
  if (moved?.kind !== 'moved') throw new Error('nobody says how long it stood still');
  expect(moved.stoodMs).toBeGreaterThan(0);
  expect(moved.stoodMs).toBeLessThan(20);
  // Fault tolerance was off, and is.
  expect(move.c.statuses.some((status) => status.kind === 'state' && status.protection === 'Protected')).toBe(
    false,
  );
});

test('nothing is executed after the last snapshot, whatever is ordered meanwhile', () => {
  const move = moving();
  const { world, a, c } = move;
  let counts: readonly [bigint, bigint] | undefined;
  world.beforeEvent = () => {
    if (counts === undefined && c.driver.state === 'BACK' && a.machine && c.machine)
      counts = [a.machine.count, c.machine.count];
    // A buffer that drains would let it run.
    if (c.driver.state === 'LOAD') a.loop.run();
  };
  world.runUntil(1000);
  expect(counts?.[0]).toBe(counts?.[1]);
  expect(counts?.[0]).toBeGreaterThan(0n);
  expect(a.machine?.count).toBe(counts?.[0]);
  expect(c.machine?.count).toBeGreaterThan(counts?.[0] ?? 0n);
});

/** Steps of the world from the order to the end of the move. */
function steps(): readonly number[] {
  const probe = moving();
  probe.world.runUntil(MOVED_AT);
  const first = probe.world.events;
  while (!probe.c.live) probe.world.runUntil(probe.world.now + 0.1);
  return Array.from({ length: probe.world.events - first + 30 }, (_, index) => first + index);
}

test('the target may die at any step: the guest goes on, here or there', () => {
  const outcomes = new Set<string>();
  for (const step of steps()) {
    const move = moving(({ world, c }) => {
      world.beforeEvent = () => {
        if (world.events === step) c.kill();
      };
    });
    const { world, a, c } = move;
    world.runUntil(3000);
    // Who has claimed and dies is a lone primary that died.
    if (world.record.primary === 'c') {
      expect({ step, live: a.live, c: c.live }).toEqual({ step, live: false, c: false });
      outcomes.add('dead');
      continue;
    }
    expect({ step, problems: verdict(move) }).toEqual({ step, problems: [] });
    expect(a.live).toBe(true);
    outcomes.add(world.record.epoch === 1 ? 'not asked' : 'asked');
  }
  expect(outcomes).toEqual(new Set(['not asked', 'asked', 'dead']));
});

test('the source may die at any step once the target is committed: the guest goes on there', () => {
  let survived = 0;
  for (const step of steps()) {
    const move = moving(({ world, a }) => {
      world.beforeEvent = () => {
        if (world.events === step) a.kill();
      };
    });
    const { world, c } = move;
    world.runUntil(3000);
    expect({ step, problems: world.problems }).toEqual({ step, problems: [] });
    if (world.record.epoch === 1) {
      expect({ step, live: c.live }).toEqual({ step, live: false });
      continue;
    }
    expect({ step, problems: verdict(move) }).toEqual({ step, problems: [] });
    expect(c.live).toBe(true);
    survived++;
  }
  expect(survived).toBeGreaterThan(5);
});

test('the connection may break at any step: exactly one goes on, and nothing is lost', () => {
  const ends = new Set<string>();
  for (const step of steps()) {
    const move = moving(({ world, a }) => {
      world.beforeEvent = () => {
        if (world.events === step) a.breakLinks('reset');
      };
    });
    move.world.runUntil(3000);
    expect({ step, problems: verdict(move) }).toEqual({ step, problems: [] });
    ends.add(move.a.live ? 'a' : 'c');
  }
  expect(ends).toEqual(new Set(['a', 'c']));
});

test('without the arbiter nobody goes on, and when it is back exactly one does', () => {
  const move = moving(({ world }) => {
    world.schedule(MOVED_AT, () => {
      world.arbiterDown = true;
    });
  });
  const { world, a, c } = move;
  world.runUntil(1500);
  const answers = world.replies.length;
  const { count } = a.machine!;
  world.runUntil(2500);
  expect([world.replies.length, a.machine?.count]).toEqual([answers, count]);
  expect([a.halted, c.live]).toEqual([undefined, false]);
  world.arbiterDown = false;
  world.runUntil(6000);
  expect(verdict(move)).toEqual([]);
});

test('suspend, move, protect again: the moved guest gets a backup, and outlives its new host', () => {
  const world = new World();
  const b = new Node(world, 'b', { role: { kind: 'backup' } });
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: true } as const;
  const a = new Node(world, 'a', { role: { kind: 'primary', start } });
  const c = new Node(world, 'c', { role: { kind: 'backup' } });
  a.driver.protect('b');
  const requests = client(world, 150);
  world.runUntil(100);
  expect(a.driver.state).toBe('PAIR');
  a.driver.unprotect();
  world.runUntil(200);
  expect([a.driver.state, b.halted !== undefined]).toEqual(['SOLE', true]);
  a.driver.move('c');
  world.runUntil(500);
  expect([a.halted !== undefined, c.driver.state]).toEqual([true, 'SOLE']);
  const d = new Node(world, 'd', { role: { kind: 'backup' } });
  c.driver.protect('d');
  world.runUntil(700);
  expect([c.driver.state, d.driver.state]).toEqual(['PAIR', 'BACK']);
  c.kill();
  world.runUntil(4000);
  expect(verdict({ world, a, c, requests, countAt: 0n })).toEqual([]);
  expect(d.live).toBe(true);
});
