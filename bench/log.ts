import { readFile } from 'node:fs/promises';
import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';
import { type Ground, type PrimaryWatch, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';

/** Each phase is so long, after the programs of both hosts have become warm. */
const PHASE_MS = 8_000;
const WARM_MS = 6_000;
const START_LOOP = 'while :; do :; done &\n';
const END_LOOP = 'kill $!\n';
/** Of /proc/PID/stat [proc(5)]: utime and stime, counted from the state, in hundredths of a second. */
const STAT = { user: 11, system: 12, perSecond: 100 } as const;

/** What the logging channel carries while the guest idles and while it computes, and what that costs the primary. */
export const log: Bench = {
  name: 'log',
  summary: 'the logging channel with an idle and with a busy guest; the lag of the backup',
  rounds: 2,
  run: runLog,
};

interface Round {
  readonly idleKbitPerSecond: number;
  readonly cpuBoundKbitPerSecond: number;
  /** The share of its time that a lagging backup left to the primary's vCPU. */
  readonly vcpuShare: number;
  readonly primarySlowdown: number;
  readonly lagsMs: readonly number[];
}

async function runLog({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const rows: Record<string, number>[] = [];
  const ground = await prepare(say);
  if (!ground.ok) return { bench: 'log', ok: false, figures: {}, rows, complaints: [ground.error] };
  complaints.push(...ground.value.complaints);
  const measured: Round[] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`round ${round} of ${rounds}: a busy guest alone, then with a backup an idle and a busy one`);
    try {
      const { lagsMs, ...figures } = await oneRound(ground.value);
      measured.push({ lagsMs, ...figures });
      rows.push({ round, ...figures, lagMsP50: percentile(lagsMs, 0.5), lagMsP99: percentile(lagsMs, 0.99) });
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
    }
  }
  const of = (name: Exclude<keyof Round, 'lagsMs'>) => rounded(median(measured.map((round) => round[name])));
  const lagsMs = measured.flatMap((round) => round.lagsMs);
  const figures = {
    idleKbitPerSecond: of('idleKbitPerSecond'),
    cpuBoundKbitPerSecond: of('cpuBoundKbitPerSecond'),
    lagMsP50: rounded(percentile(lagsMs, 0.5)),
    lagMsP99: rounded(percentile(lagsMs, 0.99)),
    primarySlowdown: of('primarySlowdown'),
  };
  return { bench: 'log', ok: complaints.length === 0, figures, rows, complaints };
}

async function oneRound({ image, from, cores }: Ground): Promise<Round> {
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    await reaches(guest, 'SOLE');
    guest.type(START_LOOP);
    await pause(WARM_MS);
    const alone = await phase(guest);
    guest.type(END_LOOP);
    guest.protect();
    await reaches(guest, 'PAIR');
    await pause(WARM_MS);
    const idle = await phase(guest);
    guest.type(START_LOOP);
    await pause(WARM_MS);
    const busy = await phase(guest);
    const left = [...idle.watch.states, ...busy.watch.states];
    if (left.length > 0) throw new Error(`host A left PAIR: ${left.join(', ')}`);
    // Instructions for a second of host A's processor, and how much of it a lagging backup let it use.
    const speed = (busy.countsPerCpuSecond / alone.countsPerCpuSecond) * busy.share;
    return {
      idleKbitPerSecond: rounded(idle.kbitPerSecond),
      cpuBoundKbitPerSecond: rounded(busy.kbitPerSecond),
      vcpuShare: rounded(busy.share),
      primarySlowdown: rounded(1 / speed),
      lagsMs: busy.watch.lagsMs,
    };
  });
}

interface Phase {
  readonly watch: PrimaryWatch;
  readonly kbitPerSecond: number;
  readonly countsPerCpuSecond: number;
  readonly share: number;
}

async function phase(guest: ProtectedGuest): Promise<Phase> {
  const { pid } = guest.hosts[0].process;
  const watch = watchPrimary(guest);
  const cpuBefore = await cpuSeconds(pid);
  await pause(PHASE_MS);
  const cpu = (await cpuSeconds(pid)) - cpuBefore;
  const [first, last] = [watch.samples[0], watch.samples.at(-1)];
  if (!first || !last || last.ms - first.ms < PHASE_MS / 2) throw new Error('host A reports nothing');
  const shares = watch.samples.map(({ share }) => share);
  return {
    watch,
    kbitPerSecond: ((last.logBytes - first.logBytes) * 8) / (last.ms - first.ms),
    countsPerCpuSecond: (last.count - first.count) / cpu,
    share: shares.reduce((sum, share) => sum + share, 0) / shares.length,
  };
}

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The program's name is in parentheses and may hold anything; the state follows it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[STAT.user]) + Number(fields[STAT.system])) / STAT.perSecond;
}
