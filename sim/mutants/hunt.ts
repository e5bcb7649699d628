import { runSeed } from '../run.ts';
import type { Violation } from '../world.ts';
import type { Mutant } from './mutant.ts';

/** How many seeds, from 1 on, it takes to find the mutant, and by what. Undefined: not within `seeds`. */
export function hunt(
  mutant: Mutant,
  seeds: number,
): { readonly seed: number; readonly violation: Violation } | undefined {
  for (let seed = 1; seed <= seeds; seed++) {
    const { violation } = runSeed(seed, { mutate: mutant.apply });
    if (violation) return { seed, violation };
  }
  return undefined;
}
