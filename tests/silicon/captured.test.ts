import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EngineStep, type StepExecutor, type StepMode } from '../../src/host/debug-step/engine-step.ts';
import { type CapturedEntry, formName, readCaptured, restore, SEQUENCE } from './captured.ts';
import { differences, disassemble } from './compare.ts';
import type { Form } from './form.ts';
import { INTEGER_FORMS } from './forms-integer.ts';
import { MMX_FORMS } from './forms-mmx.ts';
import { SSE_FORMS } from './forms-sse.ts';
import { X87_FORMS } from './forms-x87.ts';

const captured = readCaptured(join(import.meta.dirname, '../..'));
const FAMILIES: readonly [string, readonly Form[]][] = [
  ['integer', INTEGER_FORMS],
  ['SSE', SSE_FORMS],
  ['x87', X87_FORMS],
  ['MMX', MMX_FORMS],
];
const REPORTED = 10;

/** Runs the entries in an engine and tells the first that went wrong. */
function wrongOnes(entries: readonly CapturedEntry[], executor: StepExecutor, mode: StepMode): string[] {
  const engine = new EngineStep(mode, executor);
  const wrong: string[] = [];
  for (const entry of entries) {
    const restored = restore(entry);
    if (!restored) throw new Error(`${entry.form}: the generator changed; capture again (docs/HACKING.md)`);
    const { given, expected } = restored;
    const actual = engine.step(given);
    // The processor did not count the instructions of a sequence.
    if (entry.form === SEQUENCE) expected.retired = actual.retired;
    const found = differences(given, expected, actual);
    if (found.length === 0) continue;
    wrong.push(`${entry.form}, seed ${entry.seed}, ${disassemble(given)}: ${found.join('; ')}`);
    if (wrong.length === REPORTED) break;
  }
  return wrong;
}

describe(`instructions against answers of ${captured.processor}`, () => {
  for (const [family, forms] of FAMILIES) {
    const names = new Set(forms.map(formName));
    const entries = captured.entries.filter((entry) => names.has(entry.form));

    it(`has answers for every ${family} form`, () => {
      const answered = new Set(entries.map((entry) => entry.form));
      expect([...names].filter((name) => !answered.has(name))).toEqual([]);
    });

    it.each<[StepExecutor, StepMode]>([
      ['interpreter', 'step'],
      ['interpreter', 'block'],
      ['oracle', 'block'],
    ])(`${family} instructions do what the processor does (%s, %s)`, (executor, mode) => {
      expect(wrongOnes(entries, executor, mode)).toEqual([]);
    });
  }

  const sequences = captured.entries.filter((entry) => entry.form === SEQUENCE);
  it.each<[StepExecutor, StepMode]>([
    ['interpreter', 'block'],
    ['interpreter', 'pieces'],
    ['oracle', 'block'],
  ])('sequences of instructions do what the processor does (%s, %s)', (executor, mode) => {
    expect(sequences.length).toBeGreaterThan(500);
    expect(wrongOnes(sequences, executor, mode)).toEqual([]);
  });
});
