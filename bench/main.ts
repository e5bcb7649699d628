import type { Bench, BenchResult } from './bench.ts';
import { boot } from './boot.ts';
import { log } from './log.ts';
import { output } from './output.ts';

/** npm run bench -- NAME [--json] [--rounds N]: one benchmark; the exit code says whether it may be believed. */
const BENCHES: readonly Bench[] = [boot, output, log];

const { names, json, rounds, problem } = parse(process.argv.slice(2));
const bench = BENCHES.find(({ name }) => name === names[0]);
if (problem !== undefined || bench === undefined || names.length !== 1) {
  const known = BENCHES.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`);
  console.error(`bench: ${problem ?? 'name one benchmark'}\n${known.join('\n')}`);
  process.exit(2);
}
const result = await bench.run({
  say: (line) => console.error(`bench ${bench.name}: ${line}`),
  rounds: rounds ?? bench.rounds,
});
print(result);
const { complaints: _, ...line } = result;
if (json) console.log(JSON.stringify(line));
process.exitCode = result.ok ? 0 : 1;

function print({ figures, rows, complaints, ok }: BenchResult): void {
  const table = json ? console.error : console.log;
  for (const row of rows) {
    table(
      Object.entries(row)
        .map(([name, value]) => `${name} ${value}`)
        .join('  '),
    );
  }
  const width = Math.max(0, ...Object.keys(figures).map((name) => name.length));
  for (const [name, value] of Object.entries(figures)) table(`${name.padEnd(width)}  ${value}`);
  for (const complaint of complaints) table(`not ok: ${complaint}`);
  table(ok ? 'ok' : 'NOT OK: the figures are not to be believed');
}

function parse(args: readonly string[]) {
  const names: string[] = [];
  let json = false;
  let rounds: number | undefined;
  let problem: string | undefined;
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (argument === '--json') json = true;
    else if (argument === '--rounds') {
      rounds = Number(args[++index]);
      if (!Number.isInteger(rounds) || rounds < 1) problem = '--rounds takes a number from 1';
    } else if (argument.startsWith('-')) problem = `there is no option ${argument}`;
    else names.push(argument);
  }
  return { names, json, rounds, problem };
}
