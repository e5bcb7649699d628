import { StartMachine, type StartOutcome, startPlan } from '../tests/hostile/start-machine.ts';
import { StartState } from '../tests/hostile/start-state.ts';
import { Random } from '../tests/silicon/random.ts';

/**
 * Starts a machine in any state, legal or not, and runs it: the host survives, the count goes on, and however the
 * run is cut, whatever the engine, the same state comes out.
 *
 *   node dist/fuzz/start-states.js --cases N [--first NUMBER] [--counts N] [--oracle] [--show] [--json]
 *
 * The last line of standard output tells how the cases ended, as a JSON object with --json. Exit code 1: some
 * failed, and their numbers are on standard error.
 */
interface Options {
  cases: number;
  first: number;
  /** How long each runs; by itself that depends on its number. */
  counts: number | undefined;
  /** Also in the oracle, which is slow. */
  oracle: boolean;
  /** Prints each case. */
  show: boolean;
  json: boolean;
}

const FAILURES_MAX = 10;
/** Every so many cases the digest is compared with one made anew over all of RAM. */
const FULL_EVERY = 16;

function main(): number {
  const options = readOptions(process.argv.slice(2));
  const one = new StartMachine({ tlbEntries: 1024 });
  const other = new StartMachine({ tlbEntries: 16 });
  const oracle = options.oracle ? new StartMachine({ tlbEntries: 1024, engine: 'oracle' }) : undefined;
  const state = new StartState();
  const ends: Record<string, number> = {};
  const modes: Record<string, Record<string, number>> = {};
  let counts = 0;
  let wakes = 0;
  let outputs = 0;
  let failures = 0;
  for (let number = options.first; number < options.first + options.cases; number++) {
    const plan = startPlan(number, options.counts);
    state.generate(number);
    try {
      const outcome = one.run(state, plan, () => plan.total);
      const { mode, handler, broken } = state;
      if (options.show)
        process.stdout.write(
          `${number}: ${mode}, ${handler}, template ${plan.template}, ${broken}: ${JSON.stringify(outcome)}\n`,
        );
      if (number % FULL_EVERY === 0 && !outcome.digest.startsWith(one.machine.fullDigest()))
        throw new Error('the digest of all of RAM differs from the running one');
      const random = new Random(number, 0xb0d9);
      const size = random.pick([1, 3, 10, 100]);
      expectSame(
        outcome,
        other.run(state, plan, () => 1 + random.below(size)),
        `in pieces of up to ${size}`,
      );
      if (oracle)
        expectSame(
          outcome,
          oracle.run(state, plan, () => plan.total),
          'in the oracle',
        );
      ends[outcome.end] = (ends[outcome.end] ?? 0) + 1;
      const ofMode = (modes[mode] ??= {});
      ofMode[outcome.end] = (ofMode[outcome.end] ?? 0) + 1;
      counts += outcome.count;
      wakes += outcome.wakes;
      outputs += outcome.outputs;
    } catch (error) {
      const { mode, broken } = state;
      const what = error instanceof Error ? error.stack : String(error);
      process.stderr.write(`start-states: case ${number} (${mode}; ${broken}): ${what}\n`);
      if (++failures === FAILURES_MAX) break;
    }
  }
  const summary = { cases: options.cases, failures, counts, wakes, outputs, ends, modes };
  process.stdout.write(`${options.json ? JSON.stringify(summary) : JSON.stringify(summary, null, 2)}\n`);
  return failures === 0 ? 0 : 1;
}

function expectSame(wanted: StartOutcome, actual: StartOutcome, how: string): void {
  if (JSON.stringify(wanted) !== JSON.stringify(actual))
    throw new Error(`${how}: ${JSON.stringify(actual)}, in one go ${JSON.stringify(wanted)}`);
}

function readOptions(words: readonly string[]): Options {
  const options: Options = {
    cases: 1000,
    first: 0,
    counts: undefined,
    oracle: false,
    show: false,
    json: false,
  };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index];
    if (word === '--oracle') options.oracle = true;
    else if (word === '--show') options.show = true;
    else if (word === '--json') options.json = true;
    else if (word === '--cases') options.cases = Number(words[++index]);
    else if (word === '--first') options.first = Number(words[++index]);
    else if (word === '--counts') options.counts = Number(words[++index]);
    else throw new Error(`what is ${word}?`);
  }
  return options;
}

process.exitCode = main();
