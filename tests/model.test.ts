import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { MUTANTS } from '../sim/mutants/all.ts';

const MODEL = join(import.meta.dirname, '..', 'docs', 'model');

interface Configuration {
  readonly name: string;
  readonly when: string;
  readonly expected: string;
}

const CONFIGURATIONS: readonly Configuration[] = readFileSync(join(MODEL, 'configurations.txt'), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => {
    const [name = '', when = '', , expected = ''] = line.split(/\s+/);
    return { name, when, expected };
  });
const QUICK = CONFIGURATIONS.filter(({ when }) => when === 'quick');

function missing(): string | undefined {
  for (const [command, argument] of [
    ['spin', '-V'],
    ['gcc', '--version'],
  ] as const)
    if (spawnSync(command, [argument]).error) return `${command} is not installed (tools/packages.txt)`;
  return undefined;
}

const reason = missing();

describe.skipIf(reason !== undefined)(
  `the model of the protocol${reason ? `: skipped, ${reason}` : ''}`,
  () => {
    // run.sh ends with 1, and this rejects with its table, when anything else comes out.
    test.each(QUICK)('$name: $expected', { timeout: 600_000 }, async ({ name, expected }) => {
      const { stdout } = await promisify(execFile)(join(MODEL, 'run.sh'), [name]);
      const [, , result] = stdout.split('\n')[1]?.split(/\s+/) ?? [];
      expect(expected.split(',')).toContain(result);
    });
  },
);

test('every configuration and mutant of the model has a name of its own', () => {
  expect(QUICK.length).toBeGreaterThan(20);
  expect(new Set(CONFIGURATIONS.map(({ name }) => name)).size).toBe(CONFIGURATIONS.length);
});

/** Mutants of the model that the code has no mutant for, and why. */
const OF_THE_MODEL_ONLY: Readonly<Record<string, string>> = {
  LX1: 'HX1 is the same rule',
  LA1: 'an assumption, not a rule',
  ...Object.fromEntries(
    [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => [`DX${n}`, 'the code has no non-shared disks']),
  ),
};

test('every mutant of the model is one of the code too', () => {
  const ofTheModel = CONFIGURATIONS.filter(({ expected }) => expected !== 'holds').map(({ name }) => name);
  const ofTheCode = MUTANTS.flatMap(({ model }) => model?.split(', ') ?? []);
  const missing = ofTheModel.filter((name) => !ofTheCode.includes(name) && !(name in OF_THE_MODEL_ONLY));
  expect(missing).toEqual([]);
  const known = CONFIGURATIONS.map(({ name }) => name);
  expect(ofTheCode.filter((name) => !known.includes(name))).toEqual([]);
});
