import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, type Result } from '../../src/base/result.ts';
import { type Bench, type BenchOptions, type BenchResult, rounded } from '../bench.ts';
import { type FinishedRun, Measurements, rowsOf, withoutGaps } from './figures.ts';
import { cpuGuest, cpuGuest32 } from './image.ts';
import { type MarkedRun, markedRun, notRun } from './marked-run.ts';
import { commandOf, RUNNERS, type RunnerContext, type RunnerName } from './runners.ts';
import { tableLines } from './table.ts';
import { ALL, BOOT, IDLE, WORKLOADS } from './workloads.ts';

const TIMEOUT_SECONDS = 1200;
/** Who takes longer is measured once, whatever the rounds: its ratio is no close matter. */
const SLOW_CPU_SECONDS = 45;

/**
 * Ten workloads in a guest that is recorded, beside the same programs natively, under QEMU and under v86. What is
 * measured is CPU time of all processes of a runner, between marks that the guest prints.
 */
export const cpu: Bench = {
  name: 'cpu',
  summary: 'ten workloads and a boot, recorded; natively, under QEMU and v86 beside it',
  rounds: 3,
  settings: {
    only: 'names of workloads',
    runners: RUNNERS.join(','),
    engine: 'of Lockstep: auto, interpreter or jit',
    append: "words for the kernel's command line",
  },
  run: runCpu,
};

async function runCpu(options: BenchOptions): Promise<BenchResult> {
  const { say, rounds, settings } = options;
  const complaints: string[] = [];
  const refuse = (reason: string) => ({
    bench: 'cpu',
    ok: false,
    figures: {},
    rows: [],
    complaints: [reason],
  });
  const runners = chosen(settings.runners, RUNNERS);
  if (!runners.ok) return refuse(`--runners: ${runners.error}`);
  const workloads = chosen(settings.only, WORKLOADS);
  if (!workloads.ok) return refuse(`--only: ${workloads.error}`);
  const guest = await cpuGuest(say);
  if (!guest.ok) return refuse(guest.error);
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-'));
  const context: RunnerContext = {
    guest: guest.value,
    guest32: runners.value.includes('v86') ? await cpuGuest32(say) : failed('v86 was not asked for'),
    folder,
    engine: settings.engine ?? 'auto',
    only: settings.only === undefined ? [] : workloads.value,
    append: settings.append ?? '',
  };
  const runs: FinishedRun[] = [];
  const jitShares: number[] = [];
  const enough = new Set<RunnerName>();
  try {
    // Interleaved, so that a slow minute of the host slows them all.
    for (let round = 1; round <= rounds; round++) {
      for (const runner of runners.value.filter((name) => !enough.has(name))) {
        const ran = await oneRun(runner, context);
        if (ran.problem !== undefined) {
          complaints.push(`${runner}, round ${round}: ${ran.problem}`);
          say(complaints.at(-1)!);
          enough.add(runner);
          continue;
        }
        say(`round ${round} of ${rounds}: ${runner}: ${told(ran, [BOOT, ...workloads.value, IDLE])}`);
        runs.push({ runner, spans: ran.spans, peakMemoryMB: ran.peakMemoryMB });
        if (runner === 'lockstep') {
          const share = jitShareIn(ran);
          if (share !== undefined) jitShares.push(share);
        }
        const spent = ran.spans.get(ALL)?.grew.cpu ?? 0;
        if (spent > SLOW_CPU_SECONDS || runner === 'idle') enough.add(runner);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const all = new Measurements(runs, workloads.value);
  complaints.push(...all.differences());
  const boot = (runner: RunnerName) => all.cpuSeconds(runner, BOOT);
  const figures = withoutGaps({
    sumCpuSeconds: rounded(all.sum('lockstep')),
    qemuRecordSumCpuSeconds: rounded(all.sum('qemu-record')),
    sumRatioToQemuRecord: rounded(all.sum('lockstep') / all.sum('qemu-record')),
    sumRatioToQemu: rounded(all.sum('lockstep') / all.sum('qemu')),
    worstRatioToQemuRecord: rounded(all.worstRatio('lockstep', 'qemu-record')),
    bootCpuSeconds: rounded(boot('lockstep')),
    bootRatioToQemuRecord: rounded(boot('lockstep') / boot('qemu-record')),
    sumRatioToV86: rounded(all.sum('lockstep') / all.sum('v86')),
    recordingOverhead: rounded(all.total('lockstep') / all.total('lockstep-plain')),
    replayRatio: rounded(all.total('replay') / all.total('lockstep')),
    jitShare: rounded(jitShares.length === 0 ? Number.NaN : Math.min(...jitShares), 4),
    idleShare: rounded(all.idleShare(), 4),
    peakMemoryMB: rounded(all.peakMemoryMB('lockstep'), 0),
    mips: rounded(all.sumOfInstructions() / all.sum('lockstep') / 1e6, 1),
  });
  const shown = runners.value.filter((name) => name !== 'idle');
  const rows = shown.length === 0 ? [] : rowsOf(all, shown);
  return { bench: 'cpu', ok: complaints.length === 0, figures, rows, table: tableLines(rows), complaints };
}

async function oneRun(runner: RunnerName, context: RunnerContext): Promise<MarkedRun> {
  const command = commandOf(runner, context);
  if (typeof command === 'string') return notRun(command);
  return markedRun(command.program, command.args, { timeoutSeconds: TIMEOUT_SECONDS, ...command });
}

function told({ spans }: MarkedRun, names: readonly string[]): string {
  const there = names.filter((name) => spans.get(name) !== undefined);
  return there.map((name) => `${name} ${spans.get(name)?.grew.cpu?.toFixed(2)}`).join(' ');
}

/** From the JSON object that `lockstep run --json` ends standard error with. */
function jitShareIn(ran: MarkedRun): number | undefined {
  try {
    const report = JSON.parse(ran.errors.trim().split('\n').at(-1) ?? '') as { jitShare?: unknown };
    return typeof report.jitShare === 'number' ? report.jitShare : undefined;
  } catch {
    return undefined;
  }
}

/** Some of what there is, by names with commas; all by default. */
function chosen<Name extends string>(text: string | undefined, known: readonly Name[]): Result<Name[]> {
  if (text === undefined) return { ok: true, value: [...known] };
  const names = text.split(',');
  const unknown = names.find((name) => !known.includes(name as Name));
  if (unknown !== undefined) return failed(`${unknown} is none of ${known.join(', ')}`);
  return { ok: true, value: known.filter((name) => names.includes(name)) };
}
