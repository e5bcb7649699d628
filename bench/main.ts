import type { Bench, BenchResult } from './bench.ts';
import { boot } from './boot.ts';
import { channel } from './channel.ts';
import { cluster } from './cluster.ts';
import { cpu } from './cpu/cpu.ts';
import { disk } from './disk/disk.ts';
import { log } from './log.ts';
import { network } from './network/network.ts';
import { output } from './output.ts';
import { paper } from './paper.ts';
import { placement } from './placement.ts';
import { store } from './store.ts';
import { takeover } from './takeover.ts';
import { vmotion } from './vmotion.ts';

/** npm run bench -- NAME [--json] [--rounds N] and what settings it has: one benchmark; the exit code says whether it may be believed. */
const BENCHES: readonly Bench[] = [
  boot,
  cpu,
  output,
  channel,
  log,
  takeover,
  vmotion,
  network,
  disk,
  cluster,
  paper,
  placement,
  store,
];

const { names, json, rounds, settings, problem } = parse(process.argv.slice(2));
const bench = BENCHES.find(({ name }) => name === names[0]);
const foreign = Object.keys(settings).find(
  (name) => bench !== undefined && !(name in (bench.settings ?? {})),
);
if (problem !== undefined || bench === undefined || names.length !== 1 || foreign !== undefined) {
  const known = BENCHES.flatMap(({ name, summary, settings = {} }) => [
    `  ${name.padEnd(10)}${summary}`,
    ...Object.entries(settings).map(([option, value]) => `            --${option} ${value}`),
  ]);
  const reason =
    problem ?? (foreign === undefined ? 'name one benchmark' : `there is no option --${foreign}`);
  console.error(`bench: ${reason}\n${known.join('\n')}`);
  process.exit(2);
}
const result = await bench.run({
  say: (line) => console.error(`bench ${bench.name}: ${line}`),
  rounds: rounds ?? bench.rounds,
  settings,
});
print(result);
const { complaints: _, table: __, ...line } = result;
if (json) console.log(JSON.stringify(line));
process.exitCode = result.ok ? 0 : 1;

function print({ figures, rows, table: lines, complaints, ok }: BenchResult): void {
  const table = json ? console.error : console.log;
  const plain = (row: (typeof rows)[number]) =>
    Object.entries(row)
      .map(([name, value]) => `${name} ${value}`)
      .join('  ');
  for (const line of lines ?? rows.map(plain)) table(line);
  const width = Math.max(0, ...Object.keys(figures).map((name) => name.length));
  for (const [name, value] of Object.entries(figures)) table(`${name.padEnd(width)}  ${value}`);
  for (const complaint of complaints) table(`not ok: ${complaint}`);
  table(ok ? 'ok' : 'NOT OK: the figures are not to be believed');
}

function parse(args: readonly string[]) {
  const names: string[] = [];
  let json = false;
  const settings: Record<string, string> = {};
  let rounds: number | undefined;
  let problem: string | undefined;
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (argument === '--json') json = true;
    else if (argument === '--rounds') {
      rounds = Number(args[++index]);
      if (!Number.isInteger(rounds) || rounds < 1) problem = '--rounds takes a number from 1';
    } else if (/^--[a-z]+$/.test(argument) && args[index + 1] !== undefined) {
      settings[argument.slice(2)] = args[++index]!;
    } else if (argument.startsWith('-')) problem = `there is no option ${argument}, or it takes a value`;
    else names.push(argument);
  }
  return { names, json, rounds, settings, problem };
}
