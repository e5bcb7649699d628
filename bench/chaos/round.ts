import { sharedMs } from '../../src/host/host-clock.ts';
import { CuttableRelay } from '../../tests/cuttable-relay.ts';
import type { StatusLine } from '../../tools/pair/json-process.ts';
import type { HostView, Places, ProtectedGuest } from '../../tools/pair/protected-guest.ts';
import { withPair } from '../../tools/pair/with-pair.ts';
import { type Ground, pause, reaches } from '../pair-rounds.ts';
import { Dice } from './dice.ts';
import type { Fault } from './fault.ts';
import { RedisClients } from './redis-clients.ts';
import { judge, type RedisJudgement } from './redis-history.ts';

const CLIENTS = 8;
const THINK_MS = 40;
/** Both programs are cold after a start from the saved guest: until then they are slower than they will be. */
const WARM = { requestsPerSecond: 100, lagMs: 100, forMs: 1_000 } as const;
export const WARM_MS_MAX = 20_000;
/** The network has to hear of the guest before anybody can connect. */
const SETTLE_MS = 500;
const DECISION_MS_MAX = 30_000;
const ANSWERS_AFTER = 5;
const WATCH_AFTER_MS = 500;
const PROBE_MS = 10_000;
const ANSWERING_MS_MAX = 60_000;

export interface RoundResult extends RedisJudgement {
  readonly fault: string;
  readonly seed: string;
  readonly survivor: 'A' | 'B' | 'nobody';
  /** From the fault to the backup's suspicion; the times are those of host B's takeover. */
  readonly detectionMs: number | undefined;
  /** From suspicion over test-and-set, opening of the disks and replay of the whole log to go-live. */
  readonly drainMs: number | undefined;
  /** From go-live to the first frame that leaves. */
  readonly firstOutputMs: number | undefined;
  readonly longestGapMs: number;
  readonly requestsPerSecond: number;
  /** Requests that had no answer at the moment of the fault. */
  readonly inFlight: number;
  readonly operations: number;
  readonly connectionsLost: number;
  /** Anything that must not be. */
  readonly wrong: readonly string[];
}

/** When a host came to which state, by the clock that all processes share. */
class Timeline {
  readonly times: { readonly what: string; readonly ms: number }[] = [];
  #last: StatusLine | undefined;

  constructor(host: HostView) {
    host.process.listen((line: StatusLine) => {
      const ms = Number(line.ms);
      if (line.kind === 'figures') this.#last = line;
      if (line.kind === 'state') this.times.push({ what: String(line.state), ms });
      if (line.kind === 'event') this.times.push({ what: String(line.what), ms });
    });
  }

  /** For whoever has to find out what went wrong. */
  toString(): string {
    const { waits: _, roundTripsMs: __, ...figures } = this.#last ?? { kind: 'none' };
    const times = this.times.slice(-20).map(({ what, ms }) => `${what} ${ms.toFixed(0)}`);
    return `${times.join(', ')}; ${JSON.stringify(figures)}`;
  }

  /** The first time after `ms` that it was there. */
  after(ms: number, what: string): number | undefined {
    return this.times.find((time) => time.ms >= ms && time.what === what)?.ms;
  }
}

/** `places`: hosts of their own for all parts, instead of this machine. */
export interface ChaosGround extends Pick<Ground, 'image' | 'from' | 'cores'> {
  readonly places?: Places | undefined;
}

/** One pair from the saved guest, one load, one fault, one judgement. */
export async function chaosRound(
  { image, from, cores, places }: ChaosGround,
  fault: Fault,
  seed: string,
  warmMsMax = WARM_MS_MAX,
): Promise<RoundResult> {
  const dice = new Dice(seed);
  let relay: CuttableRelay | undefined;
  const channelVia = async (address: string) => {
    relay = await CuttableRelay.start(Number(address.split(':')[1]));
    return `127.0.0.1:${relay.port}`;
  };
  let clients: RedisClients | undefined;
  try {
    return await withPair(
      image,
      { from, places, ...cores, ...(fault.viaRelay && { channelVia }) },
      async (guest) => {
        await reaches(guest, 'PAIR');
        const lines = { a: new Timeline(guest.hosts[0]), b: new Timeline(guest.hosts[1]) };
        await pause(SETTLE_MS);
        await answering(guest);
        clients = await RedisClients.open(() => guest.redis(), CLIENTS, THINK_MS);
        clients.start(seed);
        await warmUp(guest, clients, warmMsMax);
        return await underLoad(guest, lines, clients, relay, fault, dice, seed);
      },
    );
  } finally {
    clients?.close();
    relay?.close();
  }
}

/** Until the guest answers at all: a cold one on a busy host may take longer than passt waits for a connection. */
async function answering(guest: ProtectedGuest): Promise<void> {
  const deadline = performance.now() + ANSWERING_MS_MAX;
  for (;;) {
    const connection = await guest.redis();
    const reply = await Promise.race([connection.call(['PING']).catch(() => undefined), pause(PROBE_MS)]);
    connection.close();
    if (reply) return;
    if (performance.now() > deadline)
      throw new Error('the guest did not answer before anything was done to it');
  }
}

/** Until the pair keeps up with the clients, or there is no more patience. */
async function warmUp(guest: ProtectedGuest, clients: RedisClients, msMax: number): Promise<void> {
  const deadline = performance.now() + msMax;
  while (performance.now() < deadline) {
    const before = clients.answered;
    await pause(WARM.forMs);
    const rate = ((clients.answered - before) / WARM.forMs) * 1000;
    const lagMs = Number(guest.hosts[0].figures?.lagMs ?? Number.POSITIVE_INFINITY);
    if (rate >= WARM.requestsPerSecond && lagMs < WARM.lagMs) break;
  }
  // Whoever waits for a first answer now waits for no takeover.
  await until(ANSWERING_MS_MAX, () => clients.leastAnsweredSince(0) > 0);
}

/** A pair that ended before anything was done to it: one side got no processor for a second, most likely. */
const FALSE_SUSPICION: Fault = {
  name: 'false-suspicion',
  summary: 'a host without a processor for longer than the failure time-out is suspected',
  weight: 0,
  survivor: 'either',
  loserHalts: true,
  inflict: () => Promise.resolve(0),
};

async function underLoad(
  guest: ProtectedGuest,
  lines: { readonly a: Timeline; readonly b: Timeline },
  clients: RedisClients,
  relay: CuttableRelay | undefined,
  planned: Fault,
  dice: Dice,
  seed: string,
): Promise<RoundResult> {
  const [a, b] = guest.hosts;
  const wrong: string[] = [];
  const backupIs = async (state: string) => {
    await until(DECISION_MS_MAX, () => lines.b.after(0, state) !== undefined || !b.process.running);
  };
  const [startedMs, answered] = [sharedMs(), clients.answered];
  await pause(dice.between(1500, 3000));
  const fault = a.state === 'PAIR' && b.state === 'BACK' ? planned : FALSE_SUSPICION;
  const requestsPerSecond = ((clients.answered - answered) / (sharedMs() - startedMs)) * 1000;
  const { inFlight } = clients;
  const faultMs = await fault.inflict({ guest, clients, relay, dice, backupIs });

  const alone = (line: Timeline) => line.after(faultMs, 'SOLE');
  await until(DECISION_MS_MAX, () => alone(lines.a) !== undefined || alone(lines.b) !== undefined);
  const survivor = alone(lines.b) !== undefined ? 'B' : alone(lines.a) !== undefined ? 'A' : 'nobody';
  if (survivor === 'nobody')
    wrong.push(`nobody goes on (A ${a.state}: ${a.reason}, B ${b.state}: ${b.reason})`);
  if (fault.survivor !== 'either' && survivor !== 'nobody' && fault.survivor !== survivor)
    wrong.push(`host ${survivor} went on`);
  const since = alone(survivor === 'A' ? lines.a : lines.b) ?? faultMs;
  const served = await until(
    DECISION_MS_MAX,
    () => clients.leastAnsweredSince(since) >= ANSWERS_AFTER || clients.connectionsLost > 0,
  );
  if (!served) wrong.push(`a client got no answers after the fault; host A: ${lines.a}; host B: ${lines.b}`);
  await pause(WATCH_AFTER_MS);
  if (alone(lines.a) !== undefined && alone(lines.b) !== undefined) wrong.push('both hosts went on');
  const loser = survivor === 'A' ? b : a;
  if (fault.loserHalts) {
    if (!(await until(DECISION_MS_MAX, () => !loser.process.running)))
      wrong.push(`host ${loser.name} did not halt`);
    else if (!/superseded|newer generation/.test(loser.reason))
      wrong.push(`host ${loser.name} halted for another reason: ${loser.reason}`);
  }
  const { history, lists } = await clients.finish();
  if (clients.refusal !== undefined) wrong.push(`redis refused: ${clients.refusal}`);
  const judgement = judge(history, lists);
  const { connectionsLost } = clients;
  const askedMs = lines.b.after(faultMs, 'ASK');
  const liveMs = lines.b.after(faultMs, 'LIVE');
  const frameMs = liveMs === undefined ? undefined : lines.b.after(liveMs, 'first-frame');
  const tookOver = survivor === 'B';
  return {
    fault: fault.name,
    seed,
    survivor,
    detectionMs: tookOver ? between(faultMs, askedMs) : undefined,
    drainMs: tookOver ? between(askedMs, liveMs) : undefined,
    firstOutputMs: tookOver ? between(liveMs, frameMs) : undefined,
    longestGapMs: clients.longestGapMs(faultMs),
    requestsPerSecond,
    inFlight,
    operations: history.length,
    connectionsLost,
    ...judgement,
    wrong,
  };
}

function between(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : to - from;
}

async function until(ms: number, holds: () => boolean): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > deadline) return false;
    await pause(5);
  }
  return true;
}
