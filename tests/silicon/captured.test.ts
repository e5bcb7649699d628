import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  EngineStep,
  STEP_EXECUTORS,
  type StepExecutor,
  type StepMode,
} from '../../src/host/debug-step/engine-step.ts';
import { compareOne } from './campaign.ts';
import { type CapturedForm, formName, readCaptured, restore, SEQUENCE } from './captured.ts';
import { disassemble } from './compare.ts';
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
const CASES = 100_000;
const CASES_OF_A_FORM = 100;
const TIMEOUT = 300_000;

/** Compiling takes longer than everything else: a share of the answers has to do. */
const COMPILED_EVERY = 16;

/** Runs every answer in every engine, the modes taking turns, and tells the first that went wrong. */
function wrongOnes(forms: readonly CapturedForm[], modes: readonly StepMode[]): string[] {
  const engines = STEP_EXECUTORS.flatMap((executor) =>
    modes.map((mode): [StepExecutor, StepMode, EngineStep] => [
      executor,
      mode,
      new EngineStep(mode, executor),
    ]),
  );
  const wrong: string[] = [];
  for (const form of forms) {
    let turn = 0;
    for (const { given, expected } of restore(form)) {
      turn += 1;
      for (const [index, [executor, mode, engine]] of engines.entries()) {
        if (turn % modes.length !== index % modes.length) continue;
        if (executor === 'jit' && turn % COMPILED_EVERY > 1) continue;
        const found = compareOne(engine, given, expected, true);
        if (found.length === 0) continue;
        const what = `${form.name}, seed ${given.seed}, ${executor}, ${mode}`;
        wrong.push(`${what}: ${disassemble(given)}: ${found.join('; ')}`);
        if (wrong.length === REPORTED) return wrong;
      }
    }
  }
  return wrong;
}

describe(`instructions against answers of ${captured.processor}`, () => {
  it('has enough answers', () => {
    const total = captured.forms.reduce((sum, form) => sum + form.count, 0);
    expect(total).toBeGreaterThanOrEqual(CASES);
    const answered = new Map(captured.forms.map((form) => [form.name, form.count]));
    const names = FAMILIES.flatMap(([, forms]) => forms.map(formName));
    expect(names.filter((name) => (answered.get(name) ?? 0) < CASES_OF_A_FORM)).toEqual([]);
  });

  it.each(FAMILIES)(
    '%s instructions do what the processor does, in every engine',
    { timeout: TIMEOUT },
    (_, forms) => {
      const names = new Set(forms.map(formName));
      const wanted = captured.forms.filter((form) => names.has(form.name));
      expect(wrongOnes(wanted, ['step', 'block'])).toEqual([]);
    },
  );

  it('sequences of instructions do what the processor does, in every engine', { timeout: TIMEOUT }, () => {
    const wanted = captured.forms.filter((form) => form.name === SEQUENCE);
    expect(wrongOnes(wanted, ['block', 'pieces'])).toEqual([]);
  });
});
