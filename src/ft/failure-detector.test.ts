import { expect, test } from 'vitest';
import { hostMilliseconds as ms } from '../base/units.ts';
import { FailureDetector } from './failure-detector.ts';

const timing = { suspicionMs: 1000, suspicionMinMs: 300, heartbeatMs: 100 };

/** Heartbeats at these lateness in turn; the time of the last one. */
function beating(detector: FailureDetector, count: number, latenessMs: (beat: number) => number): number {
  let last = 0;
  for (let beat = 1; beat <= count; beat++) {
    last = beat * 100 + latenessMs(beat);
    detector.heartbeat(ms(last));
    detector.check(ms(last));
  }
  return last;
}

test('silence for the whole time-out is suspicion, a sign of life in time is not', () => {
  const detector = new FailureDetector(ms(0), timing);
  for (let now = 100; now < 1000; now += 100) expect(detector.check(ms(now))).toBe(false);
  detector.heard(ms(950));
  for (let now = 1000; now < 1950; now += 100) expect(detector.check(ms(now))).toBe(false);
  expect(detector.check(ms(2000))).toBe(true);
});

test('a host whose own timers are late starts afresh', () => {
  const detector = new FailureDetector(ms(0), timing);
  expect(detector.check(ms(100))).toBe(false);
  expect(detector.check(ms(60_000))).toBe(false);
  for (let now = 60_100; now < 61_000; now += 100) expect(detector.check(ms(now))).toBe(false);
  expect(detector.check(ms(61_000))).toBe(true);
});

test('heartbeats that come when they should bring the time-out down to its floor, and not before they are known', () => {
  const detector = new FailureDetector(ms(0), timing);
  beating(detector, 15, () => 0);
  expect(detector.timeoutMs).toBe(1000);
  const steady = new FailureDetector(ms(0), timing);
  const last = beating(steady, 50, (beat) => beat % 3);
  expect(steady.timeoutMs).toBe(300);
  expect(steady.check(ms(last + 100))).toBe(false);
  expect(steady.check(ms(last + 200))).toBe(false);
  expect(steady.check(ms(last + 300))).toBe(true);
});

test('late heartbeats make it longer, up to the ceiling, and it comes down again when they are forgotten', () => {
  const detector = new FailureDetector(ms(0), timing);
  // One in ten is 100 ms late: nothing of that is suspicious.
  beating(detector, 100, (beat) => (beat % 10 === 0 ? 100 : 0));
  expect(detector.timeoutMs).toBeGreaterThan(400);
  expect(detector.timeoutMs).toBeLessThan(600);
  const worse = new FailureDetector(ms(0), timing);
  beating(worse, 100, (beat) => (beat % 10 === 0 ? 90 : 0) + (beat === 50 ? 900 : 0));
  expect(worse.timeoutMs).toBe(1000);
  const calm = new FailureDetector(ms(0), timing);
  beating(calm, 1000, (beat) => (beat === 10 ? 300 : 0));
  expect(calm.timeoutMs).toBe(300);
});

test('a host that was asleep itself learns nothing about its partner from that', () => {
  const detector = new FailureDetector(ms(0), timing);
  const last = beating(detector, 50, () => 0);
  expect(detector.check(ms(last + 5000))).toBe(false);
  detector.heartbeat(ms(last + 5001));
  detector.heartbeat(ms(last + 5100));
  expect(detector.timeoutMs).toBe(300);
});

test('the flow of the log is a sign of life, and says nothing about heartbeats', () => {
  const detector = new FailureDetector(ms(0), timing);
  let now = beating(detector, 50, () => 0);
  for (const end = now + 5000; now < end; now += 100) {
    detector.heard(ms(now));
    expect(detector.check(ms(now))).toBe(false);
  }
  expect(detector.timeoutMs).toBe(300);
});
