import { expect, test } from 'vitest';
import { client, QUICK, startPair, World } from '../../tests/toy-world.ts';
import { Primary } from '../ft/primary.ts';
import { DEFAULT_TIMING } from '../ft/timing.ts';

const timing = {
  ...QUICK,
  heartbeatMs: 100,
  // A slow backup is not a dead one.
  suspicionMs: 60_000,
  lagHighMs: DEFAULT_TIMING.lagHighMs,
  lagLowMs: DEFAULT_TIMING.lagLowMs,
  backlogMs: DEFAULT_TIMING.backlogMs,
};

test('a backup that falls behind by a second slows the primary, a few percent at a time; caught up, it is let go', () => {
  const world = new World();
  const { a, b } = startPair(world, { timing });
  const { done } = client(world, 20_000);
  world.runUntil(500);
  const figures = () => {
    const { core } = a.driver;
    if (!(core instanceof Primary)) throw new Error('a is the primary');
    return core.figures(a.driver.now());
  };
  expect(figures()).toMatchObject({ state: 'PAIR', share: 1 });
  expect(figures().lagMs).toBeLessThan(20);

  // The backup does not come to work, though its host lives.
  b.paused = true;
  const shares: number[] = [1];
  const lags: number[] = [];
  const watch = (tenths: number): void => {
    for (let tenth = 0; tenth < tenths; tenth++) {
      world.runUntil(world.now + 100);
      shares.push(figures().share);
      lags.push(figures().lagMs);
    }
  };
  watch(40);
  expect(Math.max(...lags)).toBeGreaterThan(3000);
  // By a fifth at most before the threshold, and then further and further.
  expect(shares.slice(0, 10).every((share) => share > 0.799)).toBe(true);
  expect(shares.at(-1)).toBeLessThan(0.4);
  b.paused = false;
  watch(40);
  expect(figures()).toMatchObject({ state: 'PAIR', share: 1 });
  expect(figures().lagMs).toBeLessThan(20);
  for (let index = 1; index < shares.length; index++)
    expect(Math.abs(shares[index - 1]! / shares[index]! - 1)).toBeLessThanOrEqual(0.0527);
  expect([a.halted, b.halted]).toEqual([undefined, undefined]);
  expect(done()).toBe(false);
  expect(world.problems).toEqual([]);
});
