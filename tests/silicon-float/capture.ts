import { type CapturedFamily, capturedCases, changesOf, hashOf, writeCaptured } from './captured.ts';
import { FAMILIES } from './cases.ts';
import { buildHarness, runOnSilicon } from './silicon.ts';

/** node capture.js <file>: writes what this processor answers; the repository's file is tests/silicon-float/captured.json. */
const harness = buildHarness();
const captured: Record<string, CapturedFamily> = {};
for (const family of FAMILIES) {
  const cases = capturedCases(family);
  const records = cases.map(({ record }) => record);
  const answers = runOnSilicon(harness, records);
  captured[family.name] = {
    inputs: hashOf(cases),
    changes: records.map((record, i) => changesOf(record, answers[i]!)),
  };
}
writeCaptured(captured, process.argv[2]);
