import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { RedisConnection } from '../tools/pair/redis-connection.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';
import { type Ground, type PrimaryWatch, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';
import { cpuSecondsOf } from './process-cpu.ts';

/** Each phase is so long, after the programs of both hosts have become warm. */
const PHASE_MS = 8_000;
const WARM_MS = 10_000;
const CLIENTS = 8;
const START_LOOP = 'while :; do :; done &\n';
const END_LOOP = 'kill $!\n';

/** What the logging channel carries while the guest idles, computes and serves, and what that costs the primary. */
export const log: Bench = {
  name: 'log',
  summary: 'the logging channel with an idle and with a busy guest; the lag of the backup',
  rounds: 5,
  run: runLog,
};

interface Round {
  readonly idleKbitPerSecond: number;
  readonly cpuBoundKbitPerSecond: number;
  readonly networkBoundKbitPerSecond: number;
  readonly idleWireKbitPerSecond: number;
  readonly cpuBoundWireKbitPerSecond: number;
  /** The share of its time that a lagging backup left to the primary's vCPU. */
  readonly vcpuShare: number;
  readonly primarySlowdown: number;
  readonly requestsPerSecond: number;
}

interface Lags {
  readonly cpuBound: number[];
  readonly networkBound: number[];
}

async function runLog({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const rows: Record<string, number>[] = [];
  const ground = await prepare(say);
  if (!ground.ok) return { bench: 'log', ok: false, figures: {}, rows, complaints: [ground.error] };
  complaints.push(...ground.value.complaints);
  const measured: Round[] = [];
  const lags: Lags = { cpuBound: [], networkBound: [] };
  for (let round = 1; round <= rounds; round++) {
    say(
      `round ${round} of ${rounds}: a busy guest alone and with a backup, an idle one, a serving one, a busy one again`,
    );
    try {
      const before = { cpu: lags.cpuBound.length, network: lags.networkBound.length };
      const figures = await oneRound(ground.value, lags);
      measured.push(figures);
      const cpu = lagFigures('cpuBound', lags.cpuBound.slice(before.cpu));
      const network = lagFigures('networkBound', lags.networkBound.slice(before.network));
      rows.push({ round, ...figures, ...cpu, ...network });
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
    }
  }
  const of = (name: keyof Round) => rounded(median(measured.map((round) => round[name])));
  const cpu = lagFigures('cpuBound', lags.cpuBound);
  const network = lagFigures('networkBound', lags.networkBound);
  const figures = {
    idleKbitPerSecond: of('idleKbitPerSecond'),
    cpuBoundKbitPerSecond: of('cpuBoundKbitPerSecond'),
    // Of the two guests the worse one.
    lagMsP50: Math.max(cpu.cpuBoundLagMsP50 ?? Number.NaN, network.networkBoundLagMsP50 ?? Number.NaN),
    lagMsP99: Math.max(cpu.cpuBoundLagMsP99 ?? Number.NaN, network.networkBoundLagMsP99 ?? Number.NaN),
    primarySlowdown: of('primarySlowdown'),
    ...cpu,
    ...network,
    networkBoundKbitPerSecond: of('networkBoundKbitPerSecond'),
    requestsPerSecond: of('requestsPerSecond'),
    idleWireKbitPerSecond: of('idleWireKbitPerSecond'),
    cpuBoundWireKbitPerSecond: of('cpuBoundWireKbitPerSecond'),
  };
  return { bench: 'log', ok: complaints.length === 0, figures, rows, complaints };
}

function lagFigures(name: keyof Lags, lagsMs: readonly number[]): Record<string, number> {
  return {
    [`${name}LagMsP50`]: rounded(percentile(lagsMs, 0.5)),
    [`${name}LagMsP99`]: rounded(percentile(lagsMs, 0.99)),
  };
}

async function oneRound({ image, from, cores }: Ground, lags: Lags): Promise<Round> {
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    await reaches(guest, 'SOLE');
    guest.type(START_LOOP);
    await pause(WARM_MS);
    const aloneBefore = await phase(guest);
    guest.protect();
    await reaches(guest, 'PAIR');
    await pause(WARM_MS);
    const busyBefore = await phase(guest);
    guest.type(END_LOOP);
    await pause(WARM_MS);
    const idle = await phase(guest);
    const clients = await RedisClients.open(guest.redisPort);
    await pause(WARM_MS);
    const answered = clients.answered;
    const serving = await phase(guest);
    const requests = clients.answered - answered;
    await clients.stop();
    guest.type(START_LOOP);
    await pause(WARM_MS);
    const busyAfter = await phase(guest);
    // The watches go on: from here on it leaves the pair by order.
    const left = [busyBefore, idle, serving, busyAfter].flatMap(({ watch }) => watch.states);
    if (left.length > 0) throw new Error(`host A left PAIR: ${left.join(', ')}`);
    guest.unprotect();
    await reaches(guest, 'SOLE');
    await pause(WARM_MS);
    const aloneAfter = await phase(guest);
    const [alone, busy] = [
      [aloneBefore, aloneAfter],
      [busyBefore, busyAfter],
    ] as const;
    for (const { lagsMs } of busy) lags.cpuBound.push(...lagsMs);
    lags.networkBound.push(...serving.lagsMs);
    const share = mean(busy, (each) => each.share);
    // Instructions for a second of host A's processor, and how much of it a lagging backup let it use. Alone, in the
    // pair, in the pair, alone: what only changes with time, as the programs become warmer, falls out.
    const speed =
      (mean(busy, (each) => each.countsPerCpuSecond) / mean(alone, (each) => each.countsPerCpuSecond)) *
      share;
    return {
      idleKbitPerSecond: rounded(idle.kbitPerSecond),
      cpuBoundKbitPerSecond: rounded(mean(busy, (each) => each.kbitPerSecond)),
      networkBoundKbitPerSecond: rounded(serving.kbitPerSecond),
      idleWireKbitPerSecond: rounded(idle.wireKbitPerSecond),
      cpuBoundWireKbitPerSecond: rounded(mean(busy, (each) => each.wireKbitPerSecond)),
      vcpuShare: rounded(share),
      primarySlowdown: rounded(1 / speed),
      requestsPerSecond: rounded((requests * 1000) / PHASE_MS, 0),
    };
  });
}

/** So many connections, each with one request at a time and no pause between: what the guest does is network. */
class RedisClients {
  answered = 0;
  #stopping = false;
  readonly #connections: readonly RedisConnection[];
  readonly #loops: readonly Promise<void>[];

  private constructor(connections: readonly RedisConnection[]) {
    this.#connections = connections;
    this.#loops = connections.map((connection, index) => this.#ask(connection, index));
  }

  static async open(port: number): Promise<RedisClients> {
    return new RedisClients(
      await Promise.all(Array.from({ length: CLIENTS }, () => RedisConnection.open(port))),
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#loops);
    for (const connection of this.#connections) connection.close();
  }

  async #ask(connection: RedisConnection, index: number): Promise<void> {
    for (let n = 0; !this.#stopping; n++) {
      const value = `${index}/${n}`;
      const replies = await connection.call(['SET', `key${index}`, value], ['GET', `key${index}`]);
      if (replies[1] !== value) throw new Error(`redis answered ${String(replies[1])}, ${value} was set`);
      this.answered += 2;
    }
  }
}

interface Phase {
  readonly watch: PrimaryWatch;
  /** Of the phase alone; the watch goes on. */
  readonly lagsMs: readonly number[];
  readonly kbitPerSecond: number;
  readonly wireKbitPerSecond: number;
  readonly countsPerCpuSecond: number;
  readonly share: number;
}

function mean(phases: readonly Phase[], value: (phase: Phase) => number): number {
  return phases.reduce((sum, phase) => sum + value(phase), 0) / phases.length;
}

async function phase(guest: ProtectedGuest): Promise<Phase> {
  const { pid } = guest.hosts[0].process;
  const watch = watchPrimary(guest);
  const cpuBefore = await cpuSecondsOf(pid);
  await pause(PHASE_MS);
  const cpu = (await cpuSecondsOf(pid)) - cpuBefore;
  const [first, last] = [watch.samples[0], watch.samples.at(-1)];
  if (!first || !last || last.ms - first.ms < PHASE_MS / 2) throw new Error('host A reports nothing');
  const shares = watch.samples.map(({ share }) => share);
  return {
    watch,
    lagsMs: [...watch.lagsMs],
    kbitPerSecond: ((last.logBytes - first.logBytes) * 8) / (last.ms - first.ms),
    wireKbitPerSecond: ((last.wireBytes - first.wireBytes) * 8) / (last.ms - first.ms),
    countsPerCpuSecond: (last.count - first.count) / cpu,
    share: shares.reduce((sum, share) => sum + share, 0) / shares.length,
  };
}
