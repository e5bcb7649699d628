import { describe, expect, it } from 'vitest';
import { guestNanoseconds, instructionCount } from '../../src/base/units.ts';
import { GuestTime } from '../../src/machine/guest-time.ts';
import { Random } from './random.ts';

/** Guest time is a function of the count; only clock entries change it [design 2]. */

function adjust(time: GuestTime, count: bigint, guestTime: bigint, rate: bigint, cap: bigint): void {
  time.adjust(instructionCount(count), {
    kind: 'clock',
    guestTime: guestNanoseconds(guestTime),
    rate,
    cap: guestNanoseconds(cap),
  });
}

describe('guest time', () => {
  it('stands still at the cap until the next clock entry', () => {
    const time = new GuestTime();
    adjust(time, 100n, 1000n, 10n << 32n, 1500n);
    expect([100n, 149n, 150n, 151n, 10_000n].map((count) => time.now(count))).toEqual([
      1000n,
      1490n,
      1500n,
      1500n,
      1500n,
    ]);
    adjust(time, 10_000n, 1500n, 1n << 32n, 2000n);
    expect(time.now(10_001n)).toBe(1501n);
  });

  it('never decreases, whatever an entry says', () => {
    const time = new GuestTime();
    const random = new Random(3);
    let count = 0n;
    let last = 0n;
    for (let round = 0; round < 3000; round++) {
      count += BigInt(random.below(1000));
      const now = time.now(count);
      expect(now).toBeGreaterThanOrEqual(last);
      const guestTime = BigInt(random.below(1_000_000)) - 1000n + (random.chance(50) ? now : 0n);
      adjust(
        time,
        count,
        guestTime,
        BigInt(random.below(2 ** 31)) * BigInt(random.below(100)) - 1000n,
        now + BigInt(random.below(5000)) - 2000n,
      );
      last = time.now(count);
      expect(last).toBeGreaterThanOrEqual(now);
    }
  });

  it('is reached first at countAt, or not before the next entry', () => {
    const random = new Random(4);
    for (let round = 0; round < 2000; round++) {
      const time = new GuestTime();
      const at = BigInt(random.below(1000));
      const base = BigInt(random.below(10_000));
      const cap = base + BigInt(random.below(20_000));
      adjust(
        time,
        at,
        base,
        random.chance(10) ? 0n : BigInt(random.below(2 ** 31)) * BigInt(1 + random.below(40)),
        cap,
      );
      const wanted = guestNanoseconds(base + BigInt(random.below(25_000)));
      const count = time.countAt(wanted);
      if (count === undefined) {
        expect(time.now(at + 10n ** 12n)).toBeLessThan(wanted);
        continue;
      }
      expect(time.now(count)).toBeGreaterThanOrEqual(wanted);
      if (count > at) expect(time.now(count - 1n)).toBeLessThan(wanted);
    }
  });
});
