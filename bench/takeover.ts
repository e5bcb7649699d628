import { TestNetwork } from '../tools/net/test-network.ts';
import { PairNetwork } from '../tools/pair/pair-network.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';
import { Dice } from './chaos/dice.ts';
import { FAULTS, faultOf } from './chaos/fault.ts';
import { type ChaosGround, chaosRound, type RoundResult, WARM_MS_MAX } from './chaos/round.ts';
import { type Ground, prepare } from './pair-rounds.ts';

/** Issue-level demand: the clients together ask at least this often. */
const REQUESTS_PER_SECOND_MIN = 100;

/** Real processes under a checked load, and one of them dies, stops or is cut off, again and again. */
export const takeover: Bench = {
  name: 'takeover',
  summary: 'takeovers of real processes under a checked load; the rounds are those in which host B went live',
  rounds: 20,
  settings: {
    seed: 'TEXT: which faults come at which moments; the same text gives the same plan',
    warm: 'MS: how long the fault waits at most for a pair that keeps up with the load',
    net: 'tap: on hosts made of network namespaces, the guest on their TAPs; needs root, and --fault with one that needs no relay',
    fault: `NAME: only this one (${FAULTS.map(({ name }) => name).join(', ')})`,
  },
  run: runTakeover,
};

async function runTakeover({ say, rounds, settings }: BenchOptions): Promise<BenchResult> {
  const { seed = '1', fault: only, warm = String(WARM_MS_MAX), net = 'user' } = settings;
  const chosen = FAULTS.filter(({ name }) => only === undefined || name === only);
  const failure = (complaint: string): BenchResult => ({
    bench: 'takeover',
    ok: false,
    figures: {},
    rows: [],
    complaints: [complaint],
  });
  if (!/^\d+$/.test(warm)) return failure('--warm takes milliseconds');
  if (chosen.length === 0) return failure(`there is no fault named ${only}`);
  if (net !== 'user' && net !== 'tap') return failure(`--net ${net} is unknown: user or tap`);
  if (net === 'tap' && (only === undefined || chosen.some(({ viaRelay }) => viaRelay)))
    return failure('--net tap needs --fault with a fault that needs no relay, such as kill');
  const impossible = net === 'tap' ? TestNetwork.impossible() : undefined;
  if (impossible !== undefined) return failure(`--net tap: ${impossible}`);
  const ground = await prepare(say);
  if (!ground.ok) return failure(ground.error);
  const hosts = net === 'tap' ? await PairNetwork.create() : undefined;
  try {
    return await runRounds({ ...ground.value, places: hosts?.places }, { say, rounds, seed, only, warm });
  } finally {
    await hosts?.close();
  }
}

interface Plan extends Pick<BenchOptions, 'say' | 'rounds'> {
  readonly seed: string;
  readonly only: string | undefined;
  readonly warm: string;
}

async function runRounds(
  ground: ChaosGround & Pick<Ground, 'complaints'>,
  { say, rounds, seed, only, warm }: Plan,
): Promise<BenchResult> {
  const complaints = [...ground.complaints];
  const results: RoundResult[] = [];
  // A cut may be survived by host A, so there are more rounds than takeovers.
  const tookOver = () => results.filter(isTakeover).length;
  for (let round = 0; tookOver() < rounds && round < 2 * rounds + 5; round++) {
    const fault = FAULTS.find(({ name }) => name === only) ?? faultOf(round, seed, (text) => new Dice(text));
    const roundSeed = `${seed}/${round}`;
    try {
      const result = await chaosRound(ground, fault, roundSeed, Number(warm));
      results.push(result);
      const wrong = wrongOf(result);
      complaints.push(...wrong.map((line) => `round ${round} (${fault.name}, seed ${roundSeed}): ${line}`));
      say(`round ${round}: ${told(result)}${wrong.map((line) => `; WRONG: ${line}`).join('')}`);
    } catch (error) {
      complaints.push(`round ${round} (${fault.name}, seed ${roundSeed}): ${(error as Error).message}`);
      say(complaints.at(-1)!);
    }
  }
  if (tookOver() < rounds) complaints.push(`${tookOver()} takeovers instead of ${rounds}`);
  const rate = median(results.map(({ requestsPerSecond }) => requestsPerSecond));
  if (!(rate >= REQUESTS_PER_SECOND_MIN))
    complaints.push(`the load was ${rounded(rate, 1)} requests a second`);
  const rows = results.map((result) => ({
    fault: result.fault,
    seed: result.seed,
    survivor: result.survivor,
    detectionMs: rounded(result.detectionMs ?? 0),
    drainMs: rounded(result.drainMs ?? 0),
    firstOutputMs: rounded(result.firstOutputMs ?? 0),
    longestGapMs: rounded(result.longestGapMs),
    requestsPerSecond: rounded(result.requestsPerSecond, 1),
    inFlight: result.inFlight,
    operations: result.operations,
  }));
  return { bench: 'takeover', ok: complaints.length === 0, figures: figuresOf(results), rows, complaints };
}

/** Host B went live, because of what was done to host A. */
function isTakeover({ survivor, fault }: RoundResult): boolean {
  return survivor === 'B' && FAULTS.some(({ name }) => name === fault);
}

function wrongOf(result: RoundResult): string[] {
  const wrong = [...result.wrong];
  if (result.connectionsLost > 0) wrong.push(`${result.connectionsLost} connections were lost`);
  if (result.unknownOutcomes > 0) wrong.push(`${result.unknownOutcomes} operations have no answer`);
  if (result.acknowledgedWritesLost > 0)
    wrong.push(`${result.acknowledgedWritesLost} acknowledged writes were lost`);
  if (result.notLinearizable.length > 0) wrong.push(`not linearizable: ${result.notLinearizable.join(', ')}`);
  return wrong;
}

/** Times are those of takeovers in which the storage could be asked; a stalled disk server has figures of its own. */
function figuresOf(results: readonly RoundResult[]): Record<string, number> {
  const stalls = new Set(FAULTS.filter(({ stallsStorage }) => stallsStorage).map(({ name }) => name));
  const takeovers = results.filter(isTakeover);
  const plain = takeovers.filter(({ fault }) => !stalls.has(fault));
  const sum = (count: (result: RoundResult) => number) =>
    results.reduce((total, each) => total + count(each), 0);
  const ms = (
    all: readonly RoundResult[],
    time: (result: RoundResult) => number | undefined,
    share: number,
  ) =>
    rounded(
      percentile(
        all.map(time).filter((value) => value !== undefined),
        share,
      ),
      1,
    );
  return {
    rounds: takeovers.length,
    connectionsLost: sum((result) => result.connectionsLost),
    acknowledgedWritesLost: sum((result) => result.acknowledgedWritesLost),
    unknownOutcomes: sum((result) => result.unknownOutcomes),
    detectionMsP50: ms(plain, (result) => result.detectionMs, 0.5),
    drainMsP99: ms(plain, (result) => result.drainMs, 0.99),
    firstOutputMsP99: ms(plain, (result) => result.firstOutputMs, 0.99),
    longestClientGapMsP99: ms(plain, (result) => result.longestGapMs, 0.99),
    longestClientGapMsP50: ms(plain, (result) => result.longestGapMs, 0.5),
    notLinearizable: sum((result) => result.notLinearizable.length),
    survivedByPrimary: results.filter(({ survivor }) => survivor === 'A').length,
    falseSuspicions: results.filter(({ fault }) => FAULTS.every(({ name }) => name !== fault)).length,
    stalledStorageRounds: takeovers.length - plain.length,
    requestsPerSecondP50: rounded(median(results.map(({ requestsPerSecond }) => requestsPerSecond)), 1),
    requestsInFlightP50: median(results.map(({ inFlight }) => inFlight)),
    operations: sum((result) => result.operations),
  };
}

function told({ fault, survivor, detectionMs, drainMs, firstOutputMs, longestGapMs }: RoundResult): string {
  const times =
    survivor === 'B'
      ? `detection ${ms(detectionMs)}, drain ${ms(drainMs)}, first output ${ms(firstOutputMs)}, `
      : '';
  return `${fault}: host ${survivor} goes on; ${times}longest gap ${ms(longestGapMs)}`;
}

function ms(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(0)} ms`;
}
