import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import type { Program, Verdict } from './list.ts';
import { prepareNative } from './native-run.ts';
import { type KernelImage, listedPrograms, prepareGuest } from './programs-guest.ts';
import { ResultsFile } from './results-file.ts';
import { WatchedConsole } from './watched-console.ts';

/** Python's own test of decimal, 32 bits, takes 576 MB, here as on the host. */
const MEMORY_MIB = 1024;

/**
 * node dist/tests/programs/main.js [--fast] [--kernel cloud|generic] [--engine E]
 *                                  [--record FILE [--replay [--replay-engine E]]] [--resume FILE] [--slow N]
 *                                  [--console] [--qemu | --native] [NAME...]
 *
 * Runs the programs of tests/programs/list in one guest and says, as each ends, whether it did what it must and what
 * it cost; exit code 1 when one did not. NAME selects those that contain it.
 *
 * --replay   replays the recording, by the same engine unless --replay-engine tells another: digests, outputs and
 *            console must be equal
 * --resume   keeps results in FILE, leaves out what passed there with the same kernel and engine, and ends with totals
 * --slow N   programs may take N times as long: a guest's time is the host's, and the host may have other work
 * --console  the guest's console on standard error
 * --qemu     the same guest under QEMU; --native: a chroot on this host's processor, where expected output comes from
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    fast: { type: 'boolean', default: false },
    kernel: { type: 'string', default: 'cloud' },
    engine: { type: 'string', default: 'auto' },
    record: { type: 'string' },
    replay: { type: 'boolean', default: false },
    'replay-engine': { type: 'string' },
    resume: { type: 'string' },
    slow: { type: 'string', default: '1' },
    console: { type: 'boolean', default: false },
    qemu: { type: 'boolean', default: false },
    native: { type: 'boolean', default: false },
  },
});

const where = values.native ? 'native' : values.qemu ? 'qemu' : `${values.kernel} ${values.engine}`;
const folder = await mkdtemp(join(tmpdir(), 'lockstep-programs-'));
const results = new ResultsFile(values.resume);
let stopped = false;
const progress = (line: string) => console.error(`programs: ${line}`);
try {
  process.exitCode = (await everything()) ? 0 : 1;
} catch (error) {
  progress((error as Error).message);
  process.exitCode = 2;
}
await rm(folder, { recursive: true, force: true });

async function everything(): Promise<boolean> {
  if (values.kernel !== 'cloud' && values.kernel !== 'generic')
    throw new Error('--kernel is cloud or generic');
  if (values.replay && values.record === undefined) throw new Error('--replay needs --record FILE');
  const slow = Number(values.slow);
  if (!(slow >= 1)) throw new Error('--slow is a number from 1 on');
  const all = (await listedPrograms()).map((program) => ({ ...program, seconds: program.seconds * slow }));
  const lost = positionals.find((part) => !all.some(({ name }) => name.includes(part)));
  if (lost !== undefined) throw new Error(`no program's name contains ${lost}`);
  const passed = results.passed();
  const programs = all.filter(
    (program) =>
      (program.fast || !values.fast) &&
      (!program.generic || values.kernel === 'generic' || values.native) &&
      (positionals.length === 0 || positionals.some((part) => program.name.includes(part))) &&
      !passed.has(keyOf(program)),
  );
  if (programs.length === 0) {
    console.log('nothing is left to run');
    return true;
  }
  const ended = await runAll(programs, await commandFor(programs, values.kernel));
  const good = ended.verdicts.filter(({ problem }) => problem === undefined).length;
  for (const { name, problem } of ended.verdicts)
    if (problem !== undefined) console.log(`\n${name}: ${problem}`);
  console.log(`${good} of ${programs.length} programs as they must be (${where})`);
  if (ended.figures !== undefined) {
    console.log(`run: ${ended.figures}`);
    const { instructions, jitShare } = JSON.parse(ended.figures) as RunFigures;
    if (instructions !== undefined && !stopped && ended.code === 0)
      results.append({ kind: 'run', where, instructions, jitShare: jitShare ?? 0 });
  }
  if (stopped || ended.code !== 0) throw new Error('the guest was stopped');
  const same = !values.replay || (await replaysEqual(values.record ?? '', ended.text));
  if (values.resume !== undefined) sayTotals();
  return good === programs.length && ended.code === 0 && same;
}

async function commandFor(programs: readonly Program[], kernel: KernelImage): Promise<string[]> {
  if (values.native) return prepareNative(programs, folder, progress);
  const guest = await prepareGuest(programs, folder, kernel, progress);
  if (values.qemu)
    return [
      ...['qemu-system-x86_64', '-accel', 'tcg', '-m', String(MEMORY_MIB)],
      ...['-nographic', '-no-reboot', '-monitor', 'none'],
      ...['-kernel', guest.kernel, '-initrd', guest.initrd, '-append', guest.commandLine],
      ...['-drive', `file=${guest.disk},format=raw,if=virtio`],
    ];
  return lockstep([
    ...['run', '--kernel', guest.kernel, '--initrd', guest.initrd, '--append', guest.commandLine],
    ...['--disk', guest.disk, '--memory', `${MEMORY_MIB}M`, '--no-reboot', '--json'],
    ...['--engine', values.engine],
    ...(values.record === undefined ? [] : ['--record', values.record]),
  ]);
}

function lockstep(args: readonly string[]): string[] {
  return [process.execPath, join(repositoryRoot(), 'dist/src/cli/main.js'), ...args];
}

/** Of what `lockstep run --json` and `lockstep replay --json` end with; absent where they end with a reason. */
interface RunFigures {
  readonly instructions?: number;
  readonly jitShare?: number;
}

interface ReplayFigures {
  readonly count?: number;
}

function sayTotals(): void {
  const { run, compiled, replayedEqual, replaysThatDiffer } = results.totals();
  const billions = (count: number) => `${(count / 1e9).toFixed(1)} G`;
  const share = ((100 * compiled) / Math.max(1, run)).toFixed(1);
  console.log(
    `in all: ${billions(run)} instructions, ${share} % of them in compiled code; replayed equal: ` +
      `${billions(replayedEqual)}; replays that differ: ${replaysThatDiffer}`,
  );
}

interface Ended {
  readonly code: number | null;
  readonly verdicts: readonly Verdict[];
  readonly text: string;
  /** What `--json` ended standard error with. */
  readonly figures: string | undefined;
}

function runAll(programs: readonly Program[], command: readonly string[]): Promise<Ended> {
  const [program = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    stopsWith(child);
    const verdicts: Verdict[] = [];
    let before = 0;
    const watched = new WatchedConsole(programs, (verdict) => {
      verdicts.push(verdict);
      const now = cpuSecondsOf(child.pid);
      const cost = now === undefined ? '' : ` ${(now - before).toFixed(1).padStart(7)} s CPU`;
      before = now ?? before;
      const count = `${verdicts.length}/${programs.length}`.padStart(6);
      console.log(
        `${count} ${verdict.name.padEnd(32)} ${verdict.problem === undefined ? 'ok ' : 'BAD'}${cost}`,
      );
      remember(programs[verdicts.length - 1], verdict, now);
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      if (values.console) process.stderr.write(chunk);
      watched.push(chunk.toString('latin1'));
    });
    child.stderr.on('data', (chunk: Buffer) => {
      if (values.console) process.stderr.write(chunk);
      said = (said + chunk.toString()).slice(-4096);
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code !== 0) progress(`ended with ${code}: ${said.trim().split('\n').at(-1)}`);
      if (!stopped) watched.finish();
      const last = said.trim().split('\n').at(-1) ?? '';
      resolve({ code, verdicts, text: watched.whole, figures: last.startsWith('{') ? last : undefined });
    });
  });
}

/** Replays and compares: outputs and digests inside `lockstep replay`, the console here. */
function replaysEqual(recording: string, expected: string): Promise<boolean> {
  progress('replaying the recording');
  const engine = values['replay-engine'] ?? values.engine;
  const [program = '', ...args] = lockstep(['replay', recording, '--json', '--engine', engine]);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    stopsWith(child);
    let text = '';
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4096);
    });
    child.on('error', reject);
    child.on('close', (code) => {
      const equal = code === 0 && text === expected;
      const why = equal ? 'equal' : code === 0 ? 'ANOTHER CONSOLE' : `DIFFERENT (exit code ${code})`;
      const last = said.trim().split('\n').at(-1) ?? '';
      console.log(`replay by ${engine}: ${why} ${last}`);
      const { count = 0 } = last.startsWith('{') ? (JSON.parse(last) as ReplayFigures) : {};
      results.append({ kind: 'replay', where: `${where}, ${engine}`, instructions: count, equal });
      resolve(equal);
    });
  });
}

/** Ctrl-C and the like end the guest, and with it this program in order. */
function stopsWith(child: ChildProcess): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      stopped = true;
      child.kill(signal);
    });
}

/** User and system time of a process, all its threads [proc(5)]; undefined where there is no /proc. */
function cpuSecondsOf(pid: number | undefined): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return undefined;
  }
}

/** A program with another script or expectation is another program. */
function keyOf(program: Program): string {
  const { script, output, patterns, files } = program;
  const hash = createHash('sha256').update(JSON.stringify([script, output, patterns.map(String), files]));
  return `${where} ${program.name} ${hash.digest('hex').slice(0, 12)}`;
}

function remember(program: Program | undefined, verdict: Verdict, cpuSeconds: number | undefined): void {
  if (program === undefined) return;
  const passed = verdict.problem === undefined;
  results.append({ kind: 'program', key: keyOf(program), passed, cpuSeconds: cpuSeconds ?? null });
}
