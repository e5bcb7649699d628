import { sharedMs } from '../src/host/host-clock.ts';
import type { StatusLine } from '../tools/pair/json-process.ts';
import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { RedisConnection } from '../tools/pair/redis-connection.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';
import { RedisClients } from './chaos/redis-clients.ts';
import { judge } from './chaos/redis-history.ts';
import { type Ground, type PrimaryWatch, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';

const MEMORY_BYTES = 512 * 1024 * 1024;
const CLIENTS = 8;
const THINK_MS = 40;
const SETTLE_MS = 3_000;
/** Rounds in which the guest is moved besides. */
const MOVES_MAX = 5;
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

/** A move of a guest without fault tolerance. */
interface Move {
  /** From its last instruction on host A until host B goes on with it. */
  readonly movePauseMs: number;
  readonly moveTotalMs: number;
  readonly movePages: number;
  readonly moveLastPages: number;
  readonly moveMegabytes: number;
  readonly moveClientGapMs: number;
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
  const moves: Move[] = [];
  for (let round = 1; round <= Math.min(rounds, MOVES_MAX); round++) {
    try {
      const move = await oneMove(ground.value, round);
      moves.push(move);
      say(
        `move ${round}: ${move.movePages} pages, ${move.moveTotalMs} ms; stood still ${move.movePauseMs} ms`,
      );
    } catch (error) {
      complaints.push(`move ${round}: ${(error as Error).message}`);
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
    moves: moves.length,
    movePauseMsP50: rounded(median(moves.map(({ movePauseMs }) => movePauseMs))),
    movePauseMsWorst: rounded(Math.max(...moves.map(({ movePauseMs }) => movePauseMs))),
    moveTotalMs: rounded(median(moves.map(({ moveTotalMs }) => moveTotalMs))),
    moveMegabytes: rounded(median(moves.map(({ moveMegabytes }) => moveMegabytes))),
    moveClientGapMsWorst: rounded(Math.max(...moves.map(({ moveClientGapMs }) => moveClientGapMs))),
  };
  const rows = measured.map((each, index) => ({ round: index + 1, ...each, ...moves[index] }));
  return { bench: 'vmotion', ok: complaints.length === 0, figures, rows, complaints };
}

/** A guest of 512 MiB on host A, a fifth of it filled, and clients at work: what `measure` finds, if they notice nothing. */
async function underLoad<Found>(
  { image, from, cores }: Ground,
  seed: string,
  measure: (guest: ProtectedGuest, clients: RedisClients) => Promise<Found>,
): Promise<Found> {
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
      const found = await measure(guest, clients);
      const { history, lists } = await clients.finish();
      const verdict = judge(history, lists);
      if (clients.connectionsLost > 0 || clients.refusal !== undefined || !faultless(verdict))
        throw new Error(
          `clients: ${clients.connectionsLost} lost, ${clients.refusal}, ${JSON.stringify(verdict)}`,
        );
      return found;
    } finally {
      clients.close();
    }
  });
}

/** What host A says of the copy that it makes from now on. */
function watchCopy(guest: ProtectedGuest): () => StatusLine {
  let copied: StatusLine | undefined;
  guest.hosts[0].process.listen((line: StatusLine) => {
    if (line.kind === 'copied') copied = line;
  });
  return () => {
    if (!copied) throw new Error('host A says nothing of a copy');
    return copied;
  };
}

function megabytesOf({ samples }: PrimaryWatch): number {
  return rounded(((samples.at(-1)?.wireBytes ?? 0) - (samples[0]?.wireBytes ?? 0)) / 1e6, 1);
}

async function oneRound(ground: Ground, seed: number): Promise<Round> {
  return underLoad(ground, String(seed), async (guest, clients) => {
    const before = watchPrimary(guest);
    await pause(SETTLE_MS);
    const pauseBeforeMs = Math.max(...before.standstillsMs);
    const watch = watchPrimary(guest);
    const copy = watchCopy(guest);
    const [a] = guest.hosts;
    const since = performance.now();
    const answered = clients.answered;
    guest.protect();
    await reaches(guest, 'PAIR');
    const totalMs = performance.now() - since;
    await pause(SETTLE_MS);
    // The backup loads nothing whose digest is another one, and digests are compared once a second from then on.
    if (a.state !== 'PAIR') throw new Error(`host A is in ${a.state}: ${a.reason}`);
    const copied = copy();
    const seconds = (performance.now() - since) / 1000;
    return {
      pauseMs: rounded(Math.max(...watch.standstillsMs)),
      pauseBeforeMs: rounded(pauseBeforeMs),
      totalMs: rounded(totalMs, 0),
      copyRounds: Number(copied.rounds),
      pages: Number(copied.pages),
      lastPages: Number(copied.lastPages),
      megabytes: megabytesOf(watch),
      clientGapMs: rounded(clients.longestGapMs(0)),
      requestsPerSecond: rounded((clients.answered - answered) / seconds, 0),
    };
  });
}

/** The guest goes to host B, without fault tolerance. */
async function oneMove(ground: Ground, seed: number): Promise<Move> {
  return underLoad(ground, `move/${seed}`, async (guest, clients) => {
    const [a, b] = guest.hosts;
    const watch = watchPrimary(guest);
    const copy = watchCopy(guest);
    const [since, sinceShared] = [performance.now(), sharedMs()];
    const gone = b.process.first(({ kind }) => kind === 'moved');
    a.process.order({ order: 'move', address: guest.channel });
    const { stoodMs } = await gone;
    const totalMs = performance.now() - since;
    await pause(SETTLE_MS);
    if (b.state !== 'SOLE') throw new Error(`host B is in ${b.state}: ${b.reason}`);
    const { pages, lastPages } = copy();
    return {
      movePauseMs: rounded(Number(stoodMs)),
      moveTotalMs: rounded(totalMs, 0),
      movePages: Number(pages),
      moveLastPages: Number(lastPages),
      moveMegabytes: megabytesOf(watch),
      moveClientGapMs: rounded(clients.longestGapMs(sinceShared)),
    };
  });
}

function faultless({
  unknownOutcomes,
  acknowledgedWritesLost,
  notLinearizable,
}: ReturnType<typeof judge>): boolean {
  return unknownOutcomes === 0 && acknowledgedWritesLost === 0 && notLinearizable.length === 0;
}
