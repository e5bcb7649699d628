import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';

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
