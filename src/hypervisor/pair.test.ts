import { expect, test } from 'vitest';
import { client, startPair, World } from '../../tests/toy-world.ts';

/** Everything that must hold at the end of any run. */
function verdict(world: World): string[] {
  const live = [...world.nodes.values()].filter((node) => node.live);
  const problems = [...world.problems];
  if (live.length !== 1) problems.push(`${live.length} instances are live`);
  return problems;
}

test('a pair forms, answers its client and replays in step', () => {
  const world = new World();
  const { a, b } = startPair(world);
  const requests = client(world, 30);
  world.runUntil(600);
  expect(a.driver.state).toBe('PAIR');
  expect(b.driver.state).toBe('BACK');
  expect(requests.done()).toBe(true);
  expect(world.record).toMatchObject({ epoch: 2, mode: 'pair', primary: 'a', backup: 'b' });
  expect(b.machine?.counters).toEqual(a.machine?.counters);
  expect(verdict(world)).toEqual([]);
});

test('the primary may die at any step: the backup takes over, nothing is lost, nothing contradicted', () => {
  const probe = new World();
  startPair(probe);
  client(probe, 24);
  probe.runUntil(250);
  let takeovers = 0;
  for (let step = 60; step < probe.events; step += 23) {
    const world = new World();
    const { a, b } = startPair(world);
    const requests = client(world, 24);
    world.beforeEvent = () => {
      if (world.events === step) a.kill();
    };
    world.runUntil(900);
    if (world.record.epoch < 2) continue;
    expect({ step, problems: verdict(world) }).toEqual({ step, problems: [] });
    expect({ step, halted: b.halted, done: requests.done() }).toEqual({
      step,
      halted: undefined,
      done: true,
    });
    takeovers++;
  }
  expect(takeovers).toBeGreaterThan(50);
}, 60_000);
