import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { STEP_EXECUTORS, type StepExecutor, type StepMode } from '../src/host/debug-step/engine-step.ts';
import { printCase } from '../src/host/debug-step/json.ts';
import { Campaign, type Difference } from '../tests/silicon/campaign.ts';
import {
  CAPTURED_FILE,
  captureForm,
  formName,
  makeCase,
  printCaptured,
  SEQUENCE,
} from '../tests/silicon/captured.ts';
import type { SiliconCase } from '../tests/silicon/case.ts';
import { disassemble } from '../tests/silicon/compare.ts';
import { FORMS, generateCase } from '../tests/silicon/generator.ts';
import {
  buildHarness,
  followedFamily,
  NativeProcessor,
  nativeAvailable,
  processorName,
} from '../tests/silicon/native.ts';
import { generateSequence } from '../tests/silicon/sequence.ts';
import { SWEEP_FORMS } from '../tests/silicon/sweep.ts';

/**
 * Compares engines with this host's processor over random instructions.
 *
 *   node dist/fuzz/silicon.js --cases N [--seed S] [--form TEXT] [--engine NAME,...|all] [--mode step|block|pieces|all]
 *       [--sequences | --mixed | --sweep] [--show N] [--json-cases] [--coverage FILE]
 *   node dist/fuzz/silicon.js --capture      takes the answers of tests/data anew, from this processor
 *
 * Every case runs in each engine, and with `--mode all` the modes take turns. --mixed: every tenth case is a sequence.
 * Interrupted (SIGINT), it ends as if no more cases had been asked for.
 */
interface Options {
  cases: number;
  seed: number;
  form: string;
  modes: readonly StepMode[];
  executors: readonly StepExecutor[];
  show: number;
  jsonCases: boolean;
  capture: boolean;
  source: 'forms' | 'sweep' | 'sequences' | 'mixed';
  coverage: string | undefined;
}

const ROOT = join(import.meta.dirname, '../..');
const MODES: readonly StepMode[] = ['step', 'block', 'pieces'];
const SEQUENCE_EVERY = 10;
const PROGRESS = 500_000;

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  const problem = nativeAvailable();
  if (problem) {
    process.stderr.write(`silicon: ${problem}\n`);
    return 2;
  }
  const native = new NativeProcessor(buildHarness(ROOT));
  const result = options.capture ? await captureAll(native) : await compareAll(native, options);
  native.close();
  return result;
}

async function compareAll(native: NativeProcessor, options: Options): Promise<number> {
  const wanted = options.form.toLowerCase();
  const forms = (options.source === 'sweep' ? SWEEP_FORMS : FORMS).filter((form) =>
    formName(form).toLowerCase().includes(wanted),
  );
  if (forms.length === 0) {
    process.stderr.write(`silicon: no form is called ${options.form}\n`);
    return 2;
  }
  const failures = new Map<string, number>();
  let failed = 0;
  const sameFamily = followedFamily();
  const campaign = new Campaign({
    native,
    executors: options.executors,
    modes: options.modes,
    // The sweep says of nothing what is undefined.
    sameFamily: sameFamily && options.source !== 'sweep',
    onDifference: (difference) => {
      const name = formName(difference.given.form);
      const count = (failures.get(name) ?? 0) + 1;
      failures.set(name, count);
      failed += 1;
      if (count <= options.show) report(difference, options.jsonCases);
    },
  });
  process.once('SIGINT', () => campaign.stop());
  const ran = await campaign.run(options.cases, (index): SiliconCase => {
    if (index > 0 && index % PROGRESS === 0) process.stderr.write(`${index} cases, ${failed} differ\n`);
    if (options.source === 'sequences') return generateSequence(options.seed + index, sameFamily);
    if (options.source === 'mixed' && index % SEQUENCE_EVERY === 0) {
      return generateSequence(options.seed + index / SEQUENCE_EVERY, sameFamily);
    }
    // Sequences take their place in the count: one form would never come up if its number had a factor of theirs.
    const at = options.source === 'mixed' ? index - Math.floor(index / SEQUENCE_EVERY) - 1 : index;
    return generateCase(forms[at % forms.length]!, options.seed + Math.floor(at / forms.length));
  });
  for (const given of campaign.unsteady) {
    process.stdout.write(`not repeated by the processor: ${formName(given.form)}, seed ${given.seed}\n`);
  }
  for (const [{ what }, count] of campaign.known)
    process.stdout.write(`known of other families: ${what}: ${count}\n`);
  for (const [name, count] of failures) process.stdout.write(`${name}: ${count} differ\n`);
  process.stdout.write(`${campaign.coverage.summary().join('\n')}\n`);
  if (options.coverage) writeFileSync(options.coverage, `${campaign.coverage.table().join('\n')}\n`);
  const where = `${options.executors.join(', ')}; ${options.modes.join(', ')}`;
  const family = sameFamily ? 'undefined results compared' : 'undefined results left out';
  process.stdout.write(
    `${processorName()} (${family}): ${ran} cases of ${forms.length} forms (${where}), ${failed} differ\n`,
  );
  return failed === 0 ? 0 : 1;
}

const CAPTURE_SEED = 1000;
const CAPTURE_OF_A_FORM = 120;
const CAPTURE_SEQUENCES = 10_000;

async function captureAll(native: NativeProcessor): Promise<number> {
  if (!followedFamily()) {
    process.stderr.write('silicon: what is undefined follows AMD Zen processors: capture on one\n');
    return 2;
  }
  const wanted = FORMS.map((form): [string, number] => [formName(form), CAPTURE_OF_A_FORM]);
  wanted.push([SEQUENCE, CAPTURE_SEQUENCES]);
  const forms = [];
  for (const [name, count] of wanted) {
    const cases = Array.from({ length: count }, (_, index) => makeCase(name, CAPTURE_SEED + index));
    forms.push(captureForm(name, CAPTURE_SEED, cases, await native.run(cases)));
  }
  const file = join(ROOT, CAPTURED_FILE);
  mkdirSync(dirname(file), { recursive: true });
  const bytes = printCaptured(processorName(), forms);
  writeFileSync(file, bytes);
  const total = forms.reduce((sum, form) => sum + form.count, 0);
  process.stdout.write(
    `${total} cases of ${forms.length} forms, ${bytes.length} bytes in ${CAPTURED_FILE}\n`,
  );
  return 0;
}

function report({ given, executor, mode, found }: Difference, json: boolean): void {
  const where = `${formName(given.form)}, seed ${given.seed}, ${given.mode} bits, ${executor}, ${mode}`;
  process.stdout.write(`${where}: ${disassemble(given)}\n`);
  for (const line of found.slice(0, 6)) process.stdout.write(`    ${line}\n`);
  if (json) process.stdout.write(`${printCase(given)}\n`);
}

function readOptions(words: readonly string[]): Options {
  const options: Options = {
    cases: 100_000,
    seed: 1,
    form: '',
    modes: ['step'],
    executors: ['interpreter'],
    show: 1,
    jsonCases: false,
    capture: false,
    source: 'forms',
    coverage: undefined,
  };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index];
    if (word === '--json-cases') {
      options.jsonCases = true;
      continue;
    }
    if (word === '--sequences' || word === '--mixed' || word === '--sweep') {
      options.source = word.slice(2) as Options['source'];
      continue;
    }
    if (word === '--capture') {
      options.capture = true;
      continue;
    }
    index += 1;
    const value = words[index] ?? '';
    if (word === '--cases') options.cases = Number(value);
    else if (word === '--seed') options.seed = Number(value);
    else if (word === '--form') options.form = value;
    else if (word === '--show') options.show = Number(value);
    else if (word === '--coverage') options.coverage = value;
    else if (word === '--mode' && value === 'all') options.modes = MODES;
    else if (word === '--mode' && oneOf(MODES, value)) options.modes = [value];
    else if (word === '--engine' && value === 'all') options.executors = STEP_EXECUTORS;
    else if (word === '--engine') options.executors = executorsOf(value);
    else {
      process.stderr.write(`silicon: I do not understand ${word} ${value}\n`);
      process.exit(2);
    }
  }
  return options;
}

function executorsOf(list: string): readonly StepExecutor[] {
  const names = list.split(',');
  const unknown = names.find((name) => !oneOf(STEP_EXECUTORS, name));
  if (unknown === undefined) return names.filter((name) => oneOf(STEP_EXECUTORS, name));
  process.stderr.write(`silicon: there is no engine ${unknown}\n`);
  process.exit(2);
}

function oneOf<Item extends string>(items: readonly Item[], value: string): value is Item {
  return (items as readonly string[]).includes(value);
}

process.exitCode = await main();
