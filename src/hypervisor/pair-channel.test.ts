import { expect, test } from 'vitest';
import { client, Node, startPair, World } from '../../tests/toy-world.ts';
import { epoch } from '../ft/identity.ts';

/** What the logging channel alone may do to a pair: break while it forms, and be cut while heartbeats go through. */

test('a channel that breaks while a pair forms costs a try, not the backup, and never the truth', () => {
  const formed: number[] = [];
  for (let step = 0; step < 60; step++) {
    const world = new World();
    const b = new Node(world, 'b', { role: { kind: 'backup' } });
    const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
    const a = new Node(world, 'a', { role: { kind: 'primary', start } });
    const requests = client(world, 60);
    world.runUntil(30);
    // A slow backup is still replaying the first try when the second one begins.
    b.stepMs = 6;
    a.driver.protect('b');
    const from = world.events;
    world.beforeEvent = () => {
      if (world.events === from + step * 4) a.breakLinks('reset');
    };
    world.runUntil(160);
    b.stepMs = 0.3;
    world.runUntil(1500);
    expect({ step, problems: world.problems }).toEqual({ step, problems: [] });
    expect({ step, a: a.driver.state, b: b.driver.state, halted: b.halted }).toEqual({
      step,
      a: 'PAIR',
      b: 'BACK',
      halted: undefined,
    });
    expect(requests.done()).toBe(true);
    expect(b.machine?.counters).toEqual(a.machine?.counters);
    formed.push(world.record.epoch);
  }
  expect(new Set(formed)).toEqual(new Set([2]));
}, 60_000);

for (const what of ['breaks', 'is cut without a word'] as const) {
  test(`a channel that ${what} and stays away ends the pair, though heartbeats go through`, () => {
    for (let seed = 0; seed < 10; seed++) {
      const world = new World();
      const { a, b } = startPair(world);
      const requests = client(world, 60);
      world.runUntil(60 + seed * 3.3);
      world.cutChannel = () => true;
      if (what === 'breaks') a.breakLinks('reset');
      world.runUntil(2000);
      expect({ seed, problems: world.problems }).toEqual({ seed, problems: [] });
      expect({ seed, live: [a.live, b.live].filter(Boolean).length }).toEqual({ seed, live: 1 });
      expect(requests.done()).toBe(true);
    }
  });
}

test('a slow backup that reads nothing for long is not taken for a cut channel', () => {
  const world = new World();
  const limits = { streamBytes: 4000, holdBytes: 4000, backupBytes: 3000 };
  const { a, b } = startPair(world, { limits });
  const requests = client(world, 20, 10_000);
  world.runUntil(40);
  b.stepMs = 60;
  world.runUntil(3000);
  b.stepMs = 0.3;
  world.runUntil(5000);
  expect(world.problems).toEqual([]);
  expect([a.driver.state, b.driver.state]).toEqual(['PAIR', 'BACK']);
  expect(requests.done()).toBe(true);
});

test('a connection that breaks and is resumed leaves a pair protected, in words too', () => {
  const world = new World();
  const { a, b } = startPair(world);
  client(world, 60);
  world.runUntil(60);
  const before = a.statuses.length;
  a.breakLinks('reset');
  world.runUntil(120);
  const said = [...a.statuses.slice(before), ...b.statuses].filter((status) => status.kind === 'state');
  const broken = said.filter(({ state }) => state === 'channel-broken');
  expect(broken.map(({ role }) => role).sort()).toEqual(['backup', 'primary']);
  expect(broken.map(({ protection }) => protection)).toEqual(['Protected', 'Protected']);
});

test('a new backup whose channel is cut at the gate does not hold up a primary that ran alone', () => {
  let cuts = 0;
  for (let seed = 0; seed < 25; seed++) {
    const world = new World();
    new Node(world, 'b', { role: { kind: 'backup' } });
    const start = { kind: 'power-on', expected: epoch(0), waitForBackup: false } as const;
    const a = new Node(world, 'a', { role: { kind: 'primary', start } });
    const requests = client(world, 120);
    world.runUntil(30 + seed * 1.3);
    a.driver.protect('b');
    let cut = false;
    world.cutChannel = () => cut;
    world.beforeEvent = () => {
      if (!cut && a.driver.state === 'GATE') {
        cut = true;
        cuts++;
      }
    };
    world.runUntil(1600);
    expect({ seed, cut, done: requests.done(), problems: world.problems }).toEqual({
      seed,
      cut,
      done: true,
      problems: [],
    });
  }
  expect(cuts).toBeGreaterThan(5);
});
