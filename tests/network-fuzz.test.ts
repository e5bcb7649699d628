import { expect, test } from 'vitest';
import { fuzz, TARGETS } from '../fuzz/network/campaign.ts';

/** A hundred thousand changed inputs in all; `node --expose-gc dist/fuzz/network/main.js` runs as many as one likes. */
const INPUTS = 100_000;
const SEED = 1;

test.each(TARGETS.map((target) => [target.name, target] as const))(
  '%s, changed at random: no crash, and nothing is taken from what is bad',
  async (_, target) => {
    const result = await fuzz(target, Math.ceil(INPUTS * target.share), SEED);
    expect(result.violation).toBeUndefined();
    // Some of it is good, or only the doorstep was tested.
    expect(result.taken).toBeGreaterThan(result.inputs / 50);
    expect(result.taken).toBeLessThan(result.inputs);
  },
  // Seconds; but minutes where a dozen other programs want the same processor.
  10 * 60_000,
);
