import { describe, expect, it } from 'vitest';
import { EngineStep } from '../../src/host/debug-step/engine-step.ts';
import { applyChanges, capturedCases, hashOf, readCaptured } from './captured.ts';
import { FAMILIES } from './cases.ts';
import { differences, differencesOfApproximations } from './difference.ts';
import { runOnEngine } from './engine.ts';
import { runOnModel } from './model.ts';
import type { SiliconRecord } from './record.ts';

const captured = readCaptured();
const interpreter = new EngineStep('block');

describe.each(FAMILIES.map((family) => [family.name, family] as const))('%s', (name, family) => {
  const cases = capturedCases(family);

  it('is asked what the processor was asked', () => {
    expect(hashOf(cases)).toBe(captured[name]?.inputs);
    expect(captured[name]?.changes).toHaveLength(cases.length);
  });

  it.each([
    ['the oracle', runOnModel],
    ['the interpreter', (record: SiliconRecord) => runOnEngine(interpreter, record)],
  ] as const)('%s answers as the processor did', (_engine, run) => {
    const compare = name === 'x87-transcendental' ? differencesOfApproximations : differences;
    const wrong: string[] = [];
    for (const [i, { name: mnemonic, record }] of cases.entries()) {
      const wanted = applyChanges(record, captured[name]!.changes[i]!);
      const found = compare(wanted, run(record));
      if (found.length > 0) wrong.push(`${mnemonic} (case ${i}): ${found.join('; ')}`);
    }
    expect(wrong).toEqual([]);
  });
});
