import type { StatusLine } from '../tools/pair/json-process.ts';
import { RedisConnection } from '../tools/pair/redis-connection.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';
import { RedisClients } from './chaos/redis-clients.ts';
import { judge } from './chaos/redis-history.ts';
import { type Ground, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';

const MEMORY_BYTES = 512 * 1024 * 1024;
const CLIENTS = 8;
const THINK_MS = 40;
const SETTLE_MS = 3_000;
/** Redis holds so much that is not zero: all ones, made in the guest by two commands. */
const FILL_BITS = 8 * 100 * 1024 * 1024;

/** FT VMotion [FT 3.1]: fault tolerance is turned on for a guest that runs and is used. */
export const vmotion: Bench = {
  name: 'vmotion',
  summary: 'turns fault tolerance on for a running guest of 512 MiB under load: pause, bytes, rounds, time',
  rounds: 20,
  run: runVmotion,
};

interface Round {
  /** The longest that the guest could run and did not, and the same before the copy began. */
  readonly pauseMs: number;
  readonly pauseBeforeMs: number;
  readonly totalMs: number;
  readonly copyRounds: number;
  readonly pages: number;
  readonly lastPages: number;
  readonly megabytes: number;
  readonly clientGapMs: number;
  readonly requestsPerSecond: number;
}

async function runVmotion({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const ground = await prepare(say, MEMORY_BYTES);
  if (!ground.ok) return { bench: 'vmotion', ok: false, figures: {}, rows: [], complaints: [ground.error] };
  complaints.push(...ground.value.complaints);
  const measured: Round[] = [];
  for (let round = 1; round <= rounds; round++) {
    try {
      const result = await oneRound(ground.value, round);
      measured.push(result);
      say(
        `round ${round} of ${rounds}: ${result.pages} pages in ${result.copyRounds} rounds, ` +
          `${result.totalMs} ms; the guest stood still for ${result.pauseMs} ms`,
      );
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
      say(complaints.at(-1)!);
    }
  }
  const middle = (name: keyof Round) => rounded(median(measured.map((each) => each[name])));
  const worst = (name: keyof Round) => rounded(Math.max(...measured.map((each) => each[name])));
  const figures = {
    rounds: measured.length,
    pauseMsWorst: worst('pauseMs'),
    pauseMsP50: rounded(
      percentile(
        measured.map(({ pauseMs }) => pauseMs),
        0.5,
      ),
    ),
    pauseBeforeMsWorst: worst('pauseBeforeMs'),
    totalMsP50: middle('totalMs'),
    copyRounds: middle('copyRounds'),
    pages: middle('pages'),
    lastPages: middle('lastPages'),
    megabytesSent: middle('megabytes'),
    // A round with an error of a client is a complaint, and no round.
    clientErrors: complaints.filter((complaint) => /clients: /.test(complaint)).length,
    clientGapMsWorst: worst('clientGapMs'),
    requestsPerSecond: middle('requestsPerSecond'),
  };
  const rows = measured.map((each, index) => ({ round: index + 1, ...each }));
  return { bench: 'vmotion', ok: complaints.length === 0, figures, rows, complaints };
}

async function oneRound({ image, from, cores }: Ground, seed: number): Promise<Round> {
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    await reaches(guest, 'SOLE');
    // The guest finds out that it was away, and its network with it.
    await pause(SETTLE_MS);
    const filler = await RedisConnection.open(guest.redisPort);
    const filled = await filler.call(
      ['SETBIT', 'zeroes', String(FILL_BITS - 1), '0'],
      ['BITOP', 'NOT', 'ones', 'zeroes'],
    );
    filler.close();
    if (filled[1] !== FILL_BITS / 8) throw new Error(`redis holds ${String(filled[1])} bytes`);
    const clients = await RedisClients.open(guest.redisPort, CLIENTS, THINK_MS);
    try {
      clients.start(`vmotion/${seed}`);
      await pause(SETTLE_MS);
      const before = watchPrimary(guest);
      await pause(SETTLE_MS);
      const pauseBeforeMs = Math.max(...before.standstillsMs);
      const watch = watchPrimary(guest);
      const [a] = guest.hosts;
      let copied: StatusLine | undefined;
      a.process.listen((line: StatusLine) => {
        if (line.kind === 'copied') copied = line;
      });
      const since = performance.now();
      const answered = clients.answered;
      guest.protect();
      await reaches(guest, 'PAIR');
      const totalMs = performance.now() - since;
      await pause(SETTLE_MS);
      if (!copied) throw new Error('host A says nothing of a copy');
      // The backup loads nothing whose digest is another one, and digests are compared once a second from then on.
      if (a.state !== 'PAIR') throw new Error(`host A is in ${a.state}: ${a.reason}`);
      const [first, last] = [watch.samples[0], watch.samples.at(-1)];
      const seconds = (performance.now() - since) / 1000;
      const requests = clients.answered - answered;
      const clientGapMs = clients.longestGapMs(0);
      const { history, lists } = await clients.finish();
      const verdict = judge(history, lists);
      if (clients.connectionsLost > 0 || clients.refusal !== undefined || !faultless(verdict))
        throw new Error(
          `clients: ${clients.connectionsLost} lost, ${clients.refusal}, ${JSON.stringify(verdict)}`,
        );
      return {
        pauseMs: rounded(Math.max(...watch.standstillsMs)),
        pauseBeforeMs: rounded(pauseBeforeMs),
        totalMs: rounded(totalMs, 0),
        copyRounds: Number(copied.rounds),
        pages: Number(copied.pages),
        lastPages: Number(copied.lastPages),
        megabytes: rounded(((last?.wireBytes ?? 0) - (first?.wireBytes ?? 0)) / 1e6, 1),
        clientGapMs: rounded(clientGapMs),
        requestsPerSecond: rounded(requests / seconds, 0),
      };
    } finally {
      clients.close();
    }
  });
}

function faultless({
  unknownOutcomes,
  acknowledgedWritesLost,
  notLinearizable,
}: ReturnType<typeof judge>): boolean {
  return unknownOutcomes === 0 && acknowledgedWritesLost === 0 && notLinearizable.length === 0;
}
