import { expect, test } from 'vitest';
import { instructionCount, hostMilliseconds as ms } from '../base/units.ts';
import { ExecutionLag, nextShare } from './execution-lag.ts';
import { DEFAULT_TIMING } from './timing.ts';

test('the lag is the age of the oldest entry that is not replayed, and the counts behind it', () => {
  const lag = new ExecutionLag();
  for (let entry = 1; entry <= 100; entry++)
    lag.made(BigInt(entry), instructionCount(BigInt(entry * 1000)), ms(entry * 4));
  expect(lag.milliseconds(ms(400))).toBe(396);
  lag.replayed(60n);
  expect(lag.milliseconds(ms(400))).toBe(400 - 61 * 4);
  expect(lag.counts()).toBe(40_000n);
  lag.replayed(100n);
  expect(lag.milliseconds(ms(10_000))).toBe(0);
  expect(lag.counts()).toBe(0n);
});

test('past the threshold the primary is slowed a few percent at a time, and let go as the lag shrinks', () => {
  let share = 1;
  for (let tick = 0; tick < 20; tick++) {
    const next = nextShare(share, DEFAULT_TIMING.lagHighMs + 1, DEFAULT_TIMING);
    expect(share - next).toBeLessThanOrEqual(0.0501);
    expect(next).toBeLessThan(share);
    share = next;
  }
  expect(nextShare(share, DEFAULT_TIMING.lagLowMs + 1, DEFAULT_TIMING)).toBe(share);
  for (let tick = 0; tick < 100; tick++) share = nextShare(share, 0, DEFAULT_TIMING);
  expect(share).toBe(1);
  for (let tick = 0; tick < 1000; tick++) share = nextShare(share, 1e6, DEFAULT_TIMING);
  expect(share).toBeGreaterThan(0.05);
});
