import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from './bench.ts';
import { type Ground, type PrimaryWatch, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';
import { WORKLOADS, type Workload } from './paper-workloads.ts';
import { cpuSecondsOf } from './process-cpu.ts';

/** After a change of the pair, before anything is measured. */
const SETTLE_MS = 2_000;
/** Longer than the time between two of host A's figures. */
const FIGURES_MS = 250;

/**
 * The paper's Table 1 with what there is of it in today's guest: a build, a database under transactions, a server that
 * an interpreter runs. The work is a fixed amount, without, with, with and without fault tolerance in one pair, so that
 * what only changes with time (programs that become warmer) falls out. Placing as in design section 10.
 */
export const paper: Bench = {
  name: 'paper',
  summary: "the paper's Table 1: a build, a database and a server, without and with fault tolerance",
  rounds: 3,
  settings: {
    work: 'PERCENT of the usual amount of work, to try it',
    only: `NAME,... of ${WORKLOADS.map(({ name }) => name).join(', ')}`,
  },
  run: runPaper,
};

/** One amount of work. */
interface Done {
  readonly seconds: number;
  /** Of host A's process. */
  readonly cpuSeconds: number;
  readonly logMbitPerSecond: number;
  readonly wireMbitPerSecond: number;
  /** The share of its time that a lagging backup left to host A's vCPU. */
  readonly vcpuShare: number;
}

interface Load {
  readonly workloads: readonly Workload[];
  /** Of the usual amount of each. */
  readonly share: number;
}

interface Compared {
  readonly ratio: number;
  readonly cpuRatio: number;
  readonly logMbitPerSecond: number;
  readonly wireMbitPerSecond: number;
  readonly vcpuShare: number;
  readonly secondsOff: number;
  readonly cpuSecondsOff: number;
}

async function runPaper({ say, rounds, settings }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const rows: Record<string, string | number>[] = [];
  const percent = Number(settings.work ?? 100);
  const failed = (complaint: string): BenchResult => ({
    bench: 'paper',
    ok: false,
    figures: {},
    rows,
    complaints: [complaint],
  });
  if (!(percent > 0 && percent <= 1000)) return failed('--work takes a percentage from 1 to 1000');
  const names = settings.only?.split(',') ?? WORKLOADS.map(({ name }) => name);
  const chosen = WORKLOADS.filter(({ name }) => names.includes(name));
  if (chosen.length !== names.length) return failed(`--only ${names.join()} names what there is not`);
  const ground = await prepare(say, undefined, 'paper');
  if (!ground.ok) return failed(ground.error);
  complaints.push(...ground.value.complaints);
  if (chosen.length < WORKLOADS.length) complaints.push(`only ${names.join(' and ')}: a trial`);
  if (percent !== 100) complaints.push(`only ${percent} % of the work: a trial`);

  const all = new Map<Workload, Compared[]>(chosen.map((workload) => [workload, []]));
  for (let round = 1; round <= rounds; round++) {
    try {
      const told = (line: string) => say(`round ${round} of ${rounds}: ${line}`);
      for (const [workload, compared] of await oneRound(
        ground.value,
        { workloads: chosen, share: percent / 100 },
        told,
      )) {
        all.get(workload)!.push(compared);
        rows.push({ round, workload: workload.name, ...compared });
      }
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
    }
  }
  const figures: Record<string, number> = {};
  const table = [row('', 'speed', 'paper', 'CPU', 'Mbit/s', 'paper', 'wire', 'share', 's off', 'CPU s off')];
  for (const [{ name, paper: then }, measured] of all) {
    const of = (figure: keyof Compared) => rounded(median(measured.map((each) => each[figure])));
    figures[`${name}Ratio`] = of('ratio');
    figures[`${name}CpuRatio`] = of('cpuRatio');
    figures[`${name}LogMbitPerSecond`] = of('logMbitPerSecond');
    figures[`${name}WireMbitPerSecond`] = of('wireMbitPerSecond');
    table.push(
      row(
        `${name} (${then.name})`,
        ...[of('ratio'), then.ratio, of('cpuRatio'), of('logMbitPerSecond'), then.mbitPerSecond],
        ...[of('wireMbitPerSecond'), of('vcpuShare'), of('secondsOff'), of('cpuSecondsOff')],
      ),
    );
  }
  const ok = complaints.length === 0 && Object.values(figures).every(Number.isFinite);
  return { bench: 'paper', ok, figures, rows, table, complaints };
}

function row(name: string, ...cells: (string | number)[]): string {
  return name.padEnd(30) + cells.map((cell) => String(cell).padStart(10)).join('');
}

async function oneRound(
  { image, from, cores }: Ground,
  load: Load,
  say: (line: string) => void,
): Promise<Map<Workload, Compared>> {
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    await reaches(guest, 'SOLE');
    const watch = watchPrimary(guest);
    // Whoever leaves a pair says why, once.
    const told: string[] = [];
    for (const { name, process } of guest.hosts)
      process.listen(({ kind, state, what, reason, detail }) => {
        if (['state', 'halted', 'failed', 'event'].includes(kind))
          told.push(`${name} ${[state ?? what ?? kind, reason, detail].filter(Boolean).join(' ')}`);
      });
    const alone = () => {
      if (guest.primary !== guest.hosts[0])
        throw new Error(`host A lost the guest: ${told.slice(-8).join('; ')}`);
    };
    const inPair = () => {
      if (guest.hosts[0].state !== 'PAIR')
        throw new Error(`host A left the pair: ${told.slice(-8).join('; ')}`);
    };
    const off: Map<Workload, Done>[] = [];
    const on: Map<Workload, Done>[] = [];
    say('warming up alone');
    await allWork(guest, watch, load, say, alone);
    say('without fault tolerance');
    off.push(await allWork(guest, watch, load, say, alone));
    guest.protect();
    await reaches(guest, 'PAIR');
    say('warming up with a backup');
    await allWork(guest, watch, load, say, inPair);
    say('with fault tolerance, twice');
    for (const _ of ['once', 'twice']) on.push(await allWork(guest, watch, load, say, inPair));
    guest.unprotect();
    await reaches(guest, 'SOLE');
    await pause(SETTLE_MS);
    say('without fault tolerance again');
    off.push(await allWork(guest, watch, load, say, alone));
    return new Map(load.workloads.map((workload) => [workload, compared(workload, off, on)]));
  });
}

function compared(
  workload: Workload,
  off: readonly Map<Workload, Done>[],
  on: readonly Map<Workload, Done>[],
): Compared {
  const mean = (of: readonly Map<Workload, Done>[], figure: keyof Done) =>
    of.reduce((sum, each) => sum + each.get(workload)![figure], 0) / of.length;
  return {
    ratio: rounded(mean(off, 'seconds') / mean(on, 'seconds')),
    cpuRatio: rounded(mean(off, 'cpuSeconds') / mean(on, 'cpuSeconds')),
    logMbitPerSecond: rounded(mean(on, 'logMbitPerSecond')),
    wireMbitPerSecond: rounded(mean(on, 'wireMbitPerSecond')),
    vcpuShare: rounded(mean(on, 'vcpuShare')),
    secondsOff: rounded(mean(off, 'seconds')),
    cpuSecondsOff: rounded(mean(off, 'cpuSeconds')),
  };
}

async function allWork(
  guest: ProtectedGuest,
  watch: PrimaryWatch,
  { workloads, share }: Load,
  say: (line: string) => void,
  check: () => void,
): Promise<Map<Workload, Done>> {
  const done = new Map<Workload, Done>();
  for (const workload of workloads) {
    await pause(FIGURES_MS);
    done.set(workload, await measured(guest, watch, workload, share, check));
  }
  const times = [...done].map(
    ([{ name }, { seconds, cpuSeconds }]) => `${name} ${rounded(seconds, 1)} (${rounded(cpuSeconds, 1)})`,
  );
  say(`seconds, and of CPU: ${times.join(', ')}`);
  return done;
}

async function measured(
  guest: ProtectedGuest,
  watch: PrimaryWatch,
  workload: Workload,
  share: number,
  check: () => void,
): Promise<Done> {
  const [a] = guest.hosts;
  const { pid } = a.process;
  const amount = Math.max(1, Math.round(workload.amount * share));
  const first = watch.samples.at(-1);
  const before = watch.samples.length;
  const cpuBefore = await cpuSecondsOf(pid);
  const since = performance.now();
  await workload.run(guest, amount);
  // Host B may have taken over: what it did is no figure.
  check();
  const seconds = (performance.now() - since) / 1000;
  const cpuSeconds = (await cpuSecondsOf(pid)) - cpuBefore;
  const last = watch.samples.at(-1);
  if (first === undefined || last === undefined || last === first) throw new Error('host A reports nothing');
  const shares = watch.samples.slice(before).map((sample) => sample.share);
  const mbit = (figure: 'logBytes' | 'wireBytes') =>
    ((last[figure] - first[figure]) * 8) / 1000 / (last.ms - first.ms);
  return {
    seconds,
    cpuSeconds,
    logMbitPerSecond: mbit('logBytes'),
    wireMbitPerSecond: mbit('wireBytes'),
    vcpuShare: shares.reduce((sum, share) => sum + share, 0) / shares.length,
  };
}
