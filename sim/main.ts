import { distributionOf, table } from './distribution.ts';
import { type Outcome, runSeed } from './run.ts';
import { timeline } from './trace.ts';

/** npm run sim -- --seeds N [--seed S] [--json]: runs seeds S to S+N-1; a seed that fails prints its timeline. */
interface Options {
  readonly seeds: number;
  readonly first: number;
  readonly json: boolean;
  readonly lines: boolean;
}

function parse(args: readonly string[]): Options | string {
  let seeds = 1;
  let first = 1;
  let json = false;
  let lines = false;
  for (let index = 0; index < args.length; index++) {
    const argument = args[index];
    if (argument === '--json') json = true;
    else if (argument === '--timeline') lines = true;
    else if (argument === '--seeds' || argument === '--seed') {
      const value = Number(args[++index]);
      if (!Number.isSafeInteger(value) || value < (argument === '--seeds' ? 1 : 0))
        return `${argument} takes a whole number`;
      if (argument === '--seeds') seeds = value;
      else first = value;
    } else return `there is no option ${argument}`;
  }
  return { seeds, first, json, lines };
}

function simulate({ seeds, first, json, lines }: Options): number {
  const say = json ? console.error : console.log;
  const outcomes: Omit<Outcome, 'lines'>[] = [];
  const failures: number[] = [];
  const started = process.cpuUsage();
  const clock = process.hrtime.bigint();
  for (let seed = first; seed < first + seeds; seed++) {
    const { lines: none, ...outcome } = runSeed(seed);
    outcomes.push(outcome);
    if (outcome.violation) {
      failures.push(seed);
      if (failures.length === 1 || lines)
        say(`\nseed ${seed}:\n${timeline(runSeed(seed, { traced: true }).lines)}`);
      say(`seed ${seed}: ${outcome.violation.property}: ${outcome.violation.what}`);
    } else if (lines) say(timeline(runSeed(seed, { traced: true }).lines));
    const done = seed - first + 1;
    if (done % 10_000 === 0) console.error(`${done} seeds, ${failures.length} violations`);
  }
  const seconds = Number(process.hrtime.bigint() - clock) / 1e9;
  const { user, system } = process.cpuUsage(started);
  const cpuSeconds = (user + system) / 1e6;
  const distribution = distributionOf(outcomes);
  const steps = outcomes.reduce((sum, outcome) => sum + outcome.steps, 0);
  const figures = {
    seeds,
    violations: failures.length,
    lost: outcomes.filter((outcome) => outcome.lost).length,
    seconds: round(seconds),
    cpuSeconds: round(cpuSeconds),
    steps,
    stepsPerSecond: Math.round(steps / seconds),
    eventsPerSecond: Math.round(outcomes.reduce((sum, outcome) => sum + outcome.events, 0) / seconds),
  };
  for (const line of table(distribution)) say(line);
  for (const [name, value] of Object.entries(figures)) say(`${name.padEnd(16)}${value}`);
  say(failures.length === 0 ? 'no violation' : `VIOLATIONS in seeds ${failures.slice(0, 20).join(', ')}`);
  if (json) {
    const [only] = outcomes;
    const hash = outcomes.length === 1 ? { hash: only?.hash } : {};
    console.log(JSON.stringify({ ok: failures.length === 0, figures, distribution, failures, ...hash }));
  }
  return failures.length === 0 ? 0 : 1;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

const options = parse(process.argv.slice(2));
if (typeof options === 'string') {
  console.error(`sim: ${options}\n  npm run sim -- --seeds N [--seed S] [--timeline] [--json]`);
  process.exitCode = 2;
} else {
  process.exitCode = simulate(options);
}
