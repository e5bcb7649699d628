import { expect, test } from 'vitest';
import { MUTANTS } from './all.ts';
import { hunt } from './hunt.ts';

const SEEDS = 1000;

test.each(MUTANTS)(`rule $rule, broken: $broken: found within ${SEEDS} seeds`, (mutant) => {
  const found = hunt(mutant, SEEDS);
  expect(found?.seed).toBeLessThanOrEqual(SEEDS);
  if (mutant.property !== undefined) expect(found?.violation.property).toBe(mutant.property);
});

test('every rule of the protocol has a mutant', () => {
  const rules = new Set(MUTANTS.map((mutant) => mutant.rule));
  for (let rule = 1; rule <= 10; rule++) expect(rules).toContain(String(rule));
});

test('what stands around the core changes nothing by itself', () => {
  expect(hunt({ name: 'none', rule: '', broken: 'nothing', apply: () => {} }, 50)).toBeUndefined();
});
