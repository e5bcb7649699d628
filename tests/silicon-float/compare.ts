import { EngineStep } from '../../src/host/debug-step/engine-step.ts';
import { FAMILIES, makeCases } from './cases.ts';
import { describe, differences, differencesOfApproximations } from './difference.ts';
import { runOnEngine } from './engine.ts';
import { runOnModel } from './model.ts';
import { buildHarness, runOnSilicon } from './silicon.ts';

/** node compare.js [family] [cases per instruction] [seed]: searches for differences with this processor. */
const [wantedFamily = '', perCode = '200', seed = '1', only = ''] = process.argv.slice(2);
const harness = buildHarness();
/** ENGINE=1: the interpreter in wasm answers, not the oracle. */
const engine = process.env.ENGINE === undefined ? undefined : new EngineStep('block');
for (const family of FAMILIES) {
  if (!family.name.includes(wantedFamily)) continue;
  const cases = makeCases(family, Number(perCode), Number(seed)).filter(({ name }) => name.includes(only));
  const silicon = runOnSilicon(
    harness,
    cases.map(({ record }) => record),
  );
  const wrong = new Map<string, number>();
  for (const [i, { name, record }] of cases.entries()) {
    const compare = family.name === 'x87-transcendental' ? differencesOfApproximations : differences;
    const found = compare(silicon[i]!, engine ? runOnEngine(engine, record) : runOnModel(record));
    if (found.length === 0) continue;
    const count = wrong.get(name) ?? 0;
    wrong.set(name, count + 1);
    if (count >= Number(process.env.SHOW ?? 1)) continue;
    const before = describe(record);
    console.log(
      name,
      JSON.stringify(Object.fromEntries(Object.entries(before).filter(([, v]) => /[^0]/.test(v)))),
    );
    for (const line of found) console.log('   ', line);
  }
  console.log(
    family.name,
    `${cases.length} cases,`,
    wrong.size === 0 ? 'all equal' : Object.fromEntries(wrong),
  );
}
