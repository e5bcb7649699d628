import { expect, test } from 'vitest';
import { hostMilliseconds as ms } from '../base/units.ts';
import { FailureDetector } from './failure-detector.ts';

test('silence for the whole time-out is suspicion, a sign of life in time is not', () => {
  const detector = new FailureDetector(ms(0), 1000, 100);
  for (let now = 100; now < 1000; now += 100) expect(detector.check(ms(now))).toBe(false);
  detector.heard(ms(950));
  for (let now = 1000; now < 1950; now += 100) expect(detector.check(ms(now))).toBe(false);
  expect(detector.check(ms(2000))).toBe(true);
});

test('a host whose own timers are late starts afresh', () => {
  const detector = new FailureDetector(ms(0), 1000, 100);
  expect(detector.check(ms(100))).toBe(false);
  expect(detector.check(ms(60_000))).toBe(false);
  for (let now = 60_100; now < 61_000; now += 100) expect(detector.check(ms(now))).toBe(false);
  expect(detector.check(ms(61_000))).toBe(true);
});
