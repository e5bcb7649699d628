import { expect, test } from 'vitest';
import { guestNanoseconds, hostMilliseconds } from '../base/units.ts';
import { GuestClock } from './guest-clock.ts';

const NS_PER_COUNT = 20;
const OVERHEAD_MS = 0.05;

/**
 * So many slices of code that runs at 50 MIPS, on a host that takes the processor away for `awayMs` after every 3 ms.
 * Returns the counts of the slices.
 */
function slices(clock: GuestClock, count: number, awayMs: number): bigint[] {
  const all: bigint[] = [];
  let used = 0;
  for (let n = 0; n < count; n++) {
    const counts = clock.sliceCounts();
    const runsMs = OVERHEAD_MS + (Number(counts) * NS_PER_COUNT) / 1e6;
    used += runsMs;
    const away = used > 3 ? awayMs : 0;
    if (away > 0) used = 0;
    clock.measured(counts, runsMs + away);
    all.push(counts);
  }
  return all;
}

function average(counts: readonly bigint[]): number {
  return counts.reduce((sum, each) => sum + Number(each), 0) / counts.length;
}

test('slices cover about a millisecond of code', () => {
  const clock = new GuestClock(hostMilliseconds(0), guestNanoseconds(0n));
  expect(average(slices(clock, 200, 0))).toBeGreaterThan(40_000);
  expect(average(slices(clock, 200, 0))).toBeLessThan(50_001);
});

test('a host that has little time for the guest does not make its slices vanish', () => {
  for (const awayMs of [3, 30, 300]) {
    const clock = new GuestClock(hostMilliseconds(0), guestNanoseconds(0n));
    slices(clock, 200, awayMs);
    expect(average(slices(clock, 1000, awayMs)), `${awayMs} ms away`).toBeGreaterThan(10_000);
  }
});

test('code that is slow for long gets short slices, and fast code long ones again', () => {
  const clock = new GuestClock(hostMilliseconds(0), guestNanoseconds(0n));
  slices(clock, 50, 0);
  let spentMs = 0;
  for (let n = 0; n < 30; n++) {
    const counts = clock.sliceCounts();
    const ms = Number(counts) / 100;
    spentMs += ms;
    clock.measured(counts, ms);
  }
  // 10 us for each instruction.
  expect(Number(clock.sliceCounts())).toBeLessThan(1000);
  expect(spentMs).toBeLessThan(1500);
  expect(average(slices(clock, 30, 0).slice(-5))).toBeGreaterThan(20_000);
});
