import { expect, test } from 'vitest';
import { hostMilliseconds, instructionCount } from '../base/units.ts';
import { OutputWaits } from './output-waits.ts';

const ms = hostMilliseconds;
const count = instructionCount;

test('an output waits from its making until it leaves, and the guest gets on meanwhile', () => {
  const waits = new OutputWaits();
  waits.made(1n, 10n, count(1000n), ms(0));
  waits.made(2n, 12n, count(1500n), ms(3));
  waits.acked(11n, ms(5));
  waits.left(1n, count(4000n), ms(6));
  waits.acked(11n, ms(7));
  waits.acked(40n, ms(9));
  waits.left(2n, count(9500n), ms(9));
  expect(waits.take()).toEqual({
    waits: [
      { heldMs: 6, counts: 3000 },
      { heldMs: 6, counts: 8000 },
    ],
    roundTripsMs: [5, 6],
  });
  expect(waits.take()).toEqual({ waits: [], roundTripsMs: [] });
});

test('what leaves without a partner is no wait', () => {
  const waits = new OutputWaits();
  waits.made(1n, 1n, count(0n), ms(0));
  waits.forget();
  waits.left(1n, count(5n), ms(9));
  waits.left(2n, count(5n), ms(9));
  expect(waits.take().waits).toEqual([]);
});

test('samples that nobody takes do not grow without bound', () => {
  const waits = new OutputWaits();
  for (let number = 1n; number <= 10_000n; number++) {
    waits.made(number, number, count(number), ms(0));
    waits.acked(number, ms(1));
    waits.left(number, count(number), ms(1));
  }
  const { waits: kept, roundTripsMs } = waits.take();
  expect(kept).toHaveLength(4096);
  expect(roundTripsMs).toHaveLength(4096);
});
