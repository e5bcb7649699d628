import { expect, test } from 'vitest';
import { instructionCount, hostMilliseconds as ms } from '../base/units.ts';
import { ExecutionLag, nextShare } from './execution-lag.ts';
import { DEFAULT_TIMING } from './timing.ts';

test('the lag is the age of the oldest entry that is not replayed, and the counts behind it', () => {
  const lag = new ExecutionLag();
  for (let entry = 1; entry <= 100; entry++)
    lag.made(BigInt(entry), instructionCount(BigInt(entry * 1000)), ms(entry * 4));
  expect(lag.milliseconds(ms(400))).toBe(396);
  lag.replayed(60n, ms(400));
  expect(lag.milliseconds(ms(400))).toBe(400 - 61 * 4);
  expect(lag.counts()).toBe(40_000n);
  lag.replayed(100n, ms(400));
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

test('a backlog is what the backup has had and not replayed: a slow wire makes none', () => {
  const lag = new ExecutionLag();
  for (let entry = 1; entry <= 30; entry++)
    lag.made(BigInt(entry), instructionCount(BigInt(entry * 1000)), ms(entry * 4));
  // Acked 200 ms later, and replayed at once.
  expect([lag.milliseconds(ms(204)), lag.backlogMs(ms(204))]).toEqual([200, 0]);
  lag.received(10n, ms(204));
  lag.replayed(10n, ms(204));
  expect([lag.milliseconds(ms(210)), lag.backlogMs(ms(210))]).toEqual([166, 0]);
  lag.received(20n, ms(250));
  lag.received(30n, ms(290));
  expect(lag.backlogMs(ms(300))).toBe(50);
  lag.replayed(20n, ms(300));
  expect(lag.backlogMs(ms(300))).toBe(10);
});

test('the backlog that counts is the least of a while: between batches and their news everybody has one', () => {
  const lag = new ExecutionLag();
  // Batches 16 ms apart; with the ack of each the news that the one before is replayed.
  for (let batch = 1; batch <= 10; batch++) {
    lag.made(BigInt(batch), instructionCount(BigInt(batch * 1000)), ms(batch * 16));
    lag.received(BigInt(batch), ms(batch * 16 + 1));
    lag.replayed(BigInt(batch - 1), ms(batch * 16 + 1));
  }
  expect(lag.backlogMs(ms(175))).toBe(14);
  expect(lag.takeBacklogMs(ms(175))).toBe(0);
  // Nothing came since.
  expect(lag.takeBacklogMs(ms(190))).toBe(29);
  // Always one batch more behind than that.
  for (let batch = 11; batch <= 20; batch++) {
    lag.made(BigInt(batch), instructionCount(BigInt(batch * 1000)), ms(batch * 16));
    lag.received(BigInt(batch), ms(batch * 16 + 1));
    lag.replayed(BigInt(batch - 2), ms(batch * 16 + 1));
  }
  expect(lag.takeBacklogMs(ms(335))).toBe(16);
});

test('a small backlog slows the primary a little, a large one by a fifth, and none lets it go', () => {
  const { backlogMs, lagLowMs } = DEFAULT_TIMING;
  const settled = (backlog: number): number => {
    let share = 1;
    for (let tick = 0; tick < 20; tick++) {
      const next = nextShare(share, backlog, DEFAULT_TIMING, backlog);
      expect(share - next).toBeLessThanOrEqual(0.0501);
      share = next;
    }
    return share;
  };
  expect(settled(backlogMs)).toBe(1);
  expect(settled(backlogMs + 3)).toBeCloseTo(0.985, 4);
  expect(settled(backlogMs + 20)).toBeCloseTo(0.9, 4);
  expect(settled(lagLowMs)).toBeCloseTo(0.8, 3);
  expect(nextShare(settled(lagLowMs), 0, DEFAULT_TIMING, 0)).toBeGreaterThan(0.8);
});
