import { describe, expect, it } from 'vitest';
import { Differential } from './differential.ts';

/**
 * Random guests in machines that must not be told apart. By hand: LOCKSTEP_GUESTS=20000 LOCKSTEP_SEED=1 npx vitest
 * run tests/engine/differential.test.ts
 */
const GUESTS = Number(process.env.LOCKSTEP_GUESTS ?? 500);
const SEED = Number(process.env.LOCKSTEP_SEED ?? 1);

describe('random guests', () => {
  it('have the same digests in every engine, with every cache, budget and through snapshots', {
    timeout: 3_600_000,
  }, () => {
    const differential = new Differential();
    for (let seed = SEED; seed < SEED + GUESTS; seed++) {
      const difference = differential.run(seed);
      expect(difference, `seed ${seed}`).toBeUndefined();
    }
    // The programs do what they are for.
    expect(differential.counts / GUESTS).toBeGreaterThan(300);
  });
});
