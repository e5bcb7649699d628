import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EngineStep, type StepExecutor, type StepMode } from '../src/host/debug-step/engine-step.ts';
import { printCase } from '../src/host/debug-step/json.ts';
import type { StepOutcome } from '../src/host/debug-step/stepped-state.ts';
import { CAPTURED_FILE, type CapturedEntry, capture, printCaptured } from '../tests/silicon/captured.ts';
import type { SiliconCase } from '../tests/silicon/case.ts';
import { differences, disassemble } from '../tests/silicon/compare.ts';
import { FORMS, generateCase } from '../tests/silicon/generator.ts';
import { buildHarness, NativeProcessor, nativeAvailable, processorName } from '../tests/silicon/native.ts';
import { generateSequence } from '../tests/silicon/sequence.ts';
import { SWEEP_FORMS } from '../tests/silicon/sweep.ts';

/**
 * Compares an engine with this host's processor over random instructions.
 *
 *   node dist/fuzz/silicon.js --cases N [--seed S] [--form TEXT] [--mode step|block|pieces] [--show N] [--json-cases] [--sweep] [--sequences]
 *   node dist/fuzz/silicon.js --capture      writes tests/silicon/captured.jsonl anew, from this processor
 */
interface Options {
  cases: number;
  seed: number;
  form: string;
  mode: StepMode;
  engine: StepExecutor;
  show: number;
  jsonCases: boolean;
  capture: boolean;
  sweep: boolean;
  sequences: boolean;
}

const ROOT = join(import.meta.dirname, '../..');
const BATCH = 2000;

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  const problem = nativeAvailable();
  if (problem) {
    process.stderr.write(`silicon: ${problem}\n`);
    return 2;
  }
  const wanted = options.form.toLowerCase();
  const forms = (options.sweep ? SWEEP_FORMS : FORMS).filter((form) =>
    `${form.mnemonic} ${form.encoding}`.toLowerCase().includes(wanted),
  );
  if (forms.length === 0) {
    process.stderr.write(`silicon: no form is called ${options.form}\n`);
    return 2;
  }
  const native = new NativeProcessor(buildHarness(ROOT));
  if (options.capture) {
    await captureAll(native);
    native.close();
    return 0;
  }
  const engine = new EngineStep(options.mode, options.engine);
  const failures = new Map<string, { count: number; of: number }>();
  const runs = new Map<string, number>();
  let failed = 0;
  for (let start = 0; start < options.cases; start += BATCH) {
    const length = Math.min(BATCH, options.cases - start);
    const cases = Array.from({ length }, (_, index) => {
      const at = start + index;
      if (options.sequences) return generateSequence(options.seed + at);
      return generateCase(forms[at % forms.length]!, options.seed + Math.floor(at / forms.length));
    });
    const expected = await native.run(cases);
    for (const [index, given] of cases.entries()) {
      const name = `${given.form.mnemonic} ${given.form.encoding}`;
      runs.set(name, (runs.get(name) ?? 0) + 1);
      const found = compareOne(engine, given, expected[index]!);
      if (found.length === 0) continue;
      failed += 1;
      const entry = failures.get(name) ?? { count: 0, of: 0 };
      entry.count += 1;
      failures.set(name, entry);
      if (entry.count <= options.show) report(given, found, options.jsonCases);
    }
  }
  native.close();
  for (const [name, { count }] of failures) {
    process.stdout.write(`${name}: ${count} of ${runs.get(name)} differ\n`);
  }
  process.stdout.write(`${options.cases} cases of ${forms.length} forms, ${failed} differ\n`);
  return failed === 0 ? 0 : 1;
}

const CAPTURE_SEED = 1000;
const CAPTURE_TRIED = 30;
const CAPTURE_COMPLETED = 4;
const CAPTURE_FAULTED = 1;
const CAPTURE_SEQUENCES = 600;

/** For every form a few cases that complete, and one that faults if any does. */
async function captureAll(native: NativeProcessor): Promise<void> {
  const entries: CapturedEntry[] = [];
  for (const form of FORMS) {
    const cases = Array.from({ length: CAPTURE_TRIED }, (_, index) =>
      generateCase(form, CAPTURE_SEED + index),
    );
    const outcomes = await native.run(cases);
    let completed = 0;
    let faulted = 0;
    for (const [index, given] of cases.entries()) {
      const outcome = outcomes[index]!;
      const wanted = outcome.exception ? faulted++ < CAPTURE_FAULTED : completed++ < CAPTURE_COMPLETED;
      if (wanted) entries.push(capture(given, outcome));
    }
  }
  const sequences = Array.from({ length: CAPTURE_SEQUENCES }, (_, index) =>
    generateSequence(CAPTURE_SEED + index),
  );
  const outcomes = await native.run(sequences);
  for (const [index, given] of sequences.entries()) entries.push(capture(given, outcomes[index]!));
  writeFileSync(join(ROOT, CAPTURED_FILE), printCaptured({ processor: processorName(), entries }));
  process.stdout.write(`${entries.length} cases of ${FORMS.length} forms in ${CAPTURED_FILE}\n`);
}

function compareOne(engine: EngineStep, given: SiliconCase, expected: StepOutcome): string[] {
  try {
    const actual = engine.step(given);
    // The processor does not count the instructions of a sequence.
    if (given.form.mnemonic === 'sequence') expected.retired = actual.retired;
    return differences(given, expected, actual);
  } catch (error) {
    return [`the engine threw: ${(error as Error).stack?.split('\n').slice(0, 4).join(' ') ?? error}`];
  }
}

function report(given: SiliconCase, found: readonly string[], json: boolean): void {
  const where = `${given.form.mnemonic} ${given.form.encoding}, seed ${given.seed}, mode ${given.mode}`;
  process.stdout.write(`${where}: ${disassemble(given)}\n`);
  for (const line of found.slice(0, 6)) process.stdout.write(`    ${line}\n`);
  if (json) process.stdout.write(`${printCase(given)}\n`);
}

function readOptions(words: readonly string[]): Options {
  const options: Options = {
    cases: 100_000,
    seed: 1,
    form: '',
    mode: 'step',
    engine: 'interpreter',
    show: 1,
    jsonCases: false,
    capture: false,
    sweep: false,
    sequences: false,
  };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index];
    if (word === '--json-cases') {
      options.jsonCases = true;
      continue;
    }
    if (word === '--sequences') {
      options.sequences = true;
      continue;
    }
    if (word === '--sweep') {
      options.sweep = true;
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
    else if (word === '--mode') options.mode = value === 'block' || value === 'pieces' ? value : 'step';
    else if (word === '--show') options.show = Number(value);
    else if (word === '--engine') options.engine = value === 'oracle' ? 'oracle' : 'interpreter';
    else {
      process.stderr.write(`silicon: I do not understand ${word} ${value}\n`);
      process.exit(2);
    }
  }
  return options;
}

process.exitCode = await main();
