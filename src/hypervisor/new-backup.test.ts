import { expect, test } from 'vitest';
import { client, Node, QUICK, startPair, World } from '../../tests/toy-world.ts';
import { Primary } from '../ft/primary.ts';

/** A host that is slow to load the copy is no dead one. */
const timing = { ...QUICK, suspicionMs: 1000, suspicionMinMs: 1000 };
const LOADING_MS = 300;

/** Stops a new backup between the loading of its snapshot and its first ack, as if loading took so long. */
function loadSlowly(world: World, node: Node): void {
  let stopped = false;
  world.beforeEvent = () => {
    if (stopped || node.machine === undefined) return;
    stopped = true;
    node.paused = true;
    world.schedule(LOADING_MS, () => {
      node.paused = false;
    });
  };
}

function lagMs({ driver }: Node): number {
  if (!(driver.core instanceof Primary)) throw new Error('it is no primary');
  return driver.core.figures(driver.now()).lagMs;
}

test('while a new backup loads its copy the guest runs on and answers', () => {
  const world = new World();
  const { a, b } = startPair(world, { timing });
  const requests = client(world, 1000);
  world.runUntil(60);
  a.kill();
  while (b.driver.state !== 'SOLE') world.runUntil(world.now + 10);
  const c = new Node(world, 'c', { role: { kind: 'backup' }, timing });
  loadSlowly(world, c);
  b.driver.protect('c');
  while (!c.paused) world.runUntil(world.now + 1);
  const before = { answers: world.replies.length, count: b.machine?.count ?? 0n };
  world.runUntil(world.now + LOADING_MS - 10);
  expect(b.driver.state).toBe('COPY');
  expect(world.replies.length).toBeGreaterThan(before.answers + 20);
  expect(b.machine?.count).toBeGreaterThan(before.count);
  world.runUntil(world.now + 200);
  expect(b.driver.state).toBe('PAIR');
  b.kill();
  world.runUntil(world.now + 3000);
  expect(c.live).toBe(true);
  expect(world.problems).toEqual([]);
  expect(requests.done()).toBe(false);
});

test('while the backup moves the pair keeps its lag; what loading took is the lag of the new one, until it has caught up', () => {
  const world = new World();
  const { a, b } = startPair(world, { timing });
  client(world, 10_000);
  world.runUntil(200);
  const c = new Node(world, 'c', { role: { kind: 'backup' }, timing, stepMs: 3 });
  loadSlowly(world, c);
  a.driver.migrateBackup('c');
  while (!c.paused) world.runUntil(world.now + 1);
  // Once it has loaded, its vCPU takes its time before its first step.
  c.stepMs = 60;
  const during: number[] = [];
  while (c.paused) {
    expect(a.driver.state).toBe('COPY');
    during.push(lagMs(a));
    world.runUntil(world.now + 5);
  }
  expect(Math.max(...during)).toBeLessThan(20);
  const after: number[] = [];
  for (let step = 0; step < 100; step++) {
    after.push(lagMs(a));
    if (step === 2) c.stepMs = 3;
    world.runUntil(world.now + 5);
  }
  expect(Math.max(...after)).toBeGreaterThan(LOADING_MS / 2);
  expect(Math.max(...after)).toBeLessThan(LOADING_MS + 50);
  expect(Math.max(...after.slice(20))).toBeLessThan(20);
  expect(a.driver.state).toBe('PAIR');
  expect(b.halted).toBeDefined();
  expect(world.problems).toEqual([]);
});
