import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { STEP_EXECUTORS } from '../../src/host/debug-step/engine-step.ts';
import { Campaign } from './campaign.ts';
import { formName } from './captured.ts';
import type { SiliconCase } from './case.ts';
import { disassemble } from './compare.ts';
import { FORMS, generateCase } from './generator.ts';
import { buildHarness, followedFamily, NativeProcessor, nativeAvailable, processorName } from './native.ts';
import { generateSequence } from './sequence.ts';

const ROOT = join(import.meta.dirname, '../..');
const CASES = 100_000;
const SEQUENCE_EVERY = 10;
const FIXED_SEED = 20_000_000;
const REPORTED = 10;
const TIMEOUT = 900_000;

const problem = nativeAvailable();
const followed = problem === undefined && followedFamily();

function makeCase(seed: number, index: number): SiliconCase {
  if (index % SEQUENCE_EVERY === 0) return generateSequence(seed + index, followed);
  const at = index - Math.floor(index / SEQUENCE_EVERY) - 1;
  return generateCase(FORMS[at % FORMS.length]!, seed + Math.floor(at / FORMS.length));
}

/** Compiling takes longer than everything else. */
const COMPILED_ONE_IN = 16;

/** Every case in interpreter and oracle, a share in compiled code too, in all modes; the first that differ. */
async function wrongOnes(seed: number): Promise<string[]> {
  const native = new NativeProcessor(buildHarness(ROOT));
  const wrong: string[] = [];
  const campaign = new Campaign({
    native,
    executors: STEP_EXECUTORS,
    oneIn: { jit: COMPILED_ONE_IN },
    modes: ['step', 'block', 'pieces'],
    sameFamily: followed,
    onDifference: ({ given, executor, mode, found }) => {
      if (wrong.length >= REPORTED) return;
      const what = `${formName(given.form)}, seed ${given.seed}, ${executor}, ${mode}`;
      wrong.push(`${what}: ${disassemble(given)}: ${found.join('; ')}`);
    },
  });
  await campaign.run(CASES, (index) => makeCase(seed, index));
  native.close();
  return wrong;
}

if (problem) process.stdout.write(`random instructions on this host's processor are left out: ${problem}\n`);

describe.skipIf(problem !== undefined)(
  `random instructions against ${problem ? 'nothing' : processorName()}`,
  () => {
    it('engines do what the processor does, with the same seed as ever', { timeout: TIMEOUT }, async () => {
      expect(await wrongOnes(FIXED_SEED)).toEqual([]);
    });

    it('engines do what the processor does, with a seed of its own', { timeout: TIMEOUT }, async () => {
      const seed = Math.floor(Math.random() * 1e9) + 2 * FIXED_SEED;
      process.stdout.write(`random instructions begin with seed ${seed}\n`);
      expect(await wrongOnes(seed)).toEqual([]);
    });
  },
);
