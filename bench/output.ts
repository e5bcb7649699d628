import { RedisConnection } from '../tools/pair/redis-connection.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, percentile, rounded } from './bench.ts';
import { DelayedChannel } from './delayed-channel.ts';
import { type Ground, type PrimaryWatch, pause, prepare, reaches, watchPrimary } from './pair-rounds.ts';
import { requestLatencies } from './requests.ts';

/** Host B's program has to be warm as well: its first seconds are those of a compiler. */
const WARM_REQUESTS = 500;
const REQUESTS = 300;
/** The logging channel's way is made longer by this much, each way. */
const DELAY_MS = 50;
const ROUND_TRIP_MS = 2 * DELAY_MS;
const DELAYED_REQUESTS = 20;
/** Host timers may be early by a millisecond, each way. */
const EARLY_MS = 2;
/** The last figures of a phase come within this time. */
const FIGURES_MS = 250;
const SETTLE_MS = 1_000;
const RARE = 0.1;
/** Typed on the guest's console: from then on nothing of its own makes it stand still. */
const BUSY_LOOP = 'while :; do :; done &\n';

/**
 * The Output Rule's price, and that it is the outputs which pay it: a client waits for the ack, the vCPU does not
 * [FT 2.2]. On a channel that is slow by order, every output is held for the whole round trip and the guest runs on.
 */
export const output: Bench = {
  name: 'output',
  summary: 'what a small request costs more under fault tolerance; the vCPU never waits for an ack',
  rounds: 3,
  run: runOutput,
};

interface Measured {
  readonly off: number[];
  readonly on: number[];
  readonly roundTripsMs: number[];
}

async function runOutput({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const rows: Record<string, string | number | boolean>[] = [];
  const ground = await prepare(say);
  if (!ground.ok) return { bench: 'output', ok: false, figures: {}, rows, complaints: [ground.error] };
  complaints.push(...ground.value.complaints);

  const all: Measured = { off: [], on: [], roundTripsMs: [] };
  for (let round = 1; round <= rounds; round++) {
    say(`round ${round} of ${rounds}: ${REQUESTS} requests without and ${REQUESTS} with fault tolerance`);
    try {
      const measured = await offAndOn(ground.value);
      for (const name of ['off', 'on', 'roundTripsMs'] as const) all[name].push(...measured[name]);
      rows.push({ round, ...latencies('off', measured.off), ...latencies('on', measured.on) });
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
    }
  }
  let held: Record<string, number> = {};
  try {
    say(`a channel with ${ROUND_TRIP_MS} ms more of round trip: the outputs wait, the guest does not`);
    const slow = await onSlowChannel(ground.value);
    complaints.push(...slow.complaints);
    held = slow.figures;
  } catch (error) {
    complaints.push(`slow channel: ${(error as Error).message}`);
  }
  const difference = (share: number) => rounded(percentile(all.on, share) - percentile(all.off, share));
  const figures = {
    addedMsP50: difference(0.5),
    addedMsP99: difference(0.99),
    channelRoundTripMsP50: rounded(percentile(all.roundTripsMs, 0.5)),
    ...latencies('off', all.off),
    ...latencies('on', all.on),
    ...held,
  };
  return { bench: 'output', ok: complaints.length === 0, figures, rows, complaints };
}

/** One guest, one connection: first alone, then with a backup. */
async function offAndOn({ image, from, cores }: Ground): Promise<Measured> {
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    await reaches(guest, 'SOLE');
    // The network has to hear of the guest first.
    await pause(SETTLE_MS);
    const connection = await RedisConnection.open(guest.redisPort);
    await requestLatencies(connection, WARM_REQUESTS);
    const off = await requestLatencies(connection, REQUESTS);
    guest.protect();
    await reaches(guest, 'PAIR');
    await requestLatencies(connection, WARM_REQUESTS);
    await pause(SETTLE_MS);
    const watch = watchPrimary(guest);
    const on = await requestLatencies(connection, REQUESTS);
    await pause(FIGURES_MS);
    connection.close();
    if (watch.states.length > 0) throw new Error(`host A left PAIR: ${watch.states.join(', ')}`);
    if (watch.roundTripsMs.length === 0) throw new Error('no output waited for an ack');
    return { off, on, roundTripsMs: watch.roundTripsMs };
  });
}

/** First an idle guest, whose requests cost the round trip more; then a busy one, which must not stand still. */
async function onSlowChannel({
  image,
  from,
  cores,
}: Ground): Promise<{ figures: Record<string, number>; complaints: string[] }> {
  let channel: DelayedChannel | undefined;
  const channelVia = async (address: string) => {
    channel = await DelayedChannel.open(address, DELAY_MS);
    return channel.address;
  };
  try {
    return await withPair(image, { from, channelVia, ...cores }, async (guest) => {
      await reaches(guest, 'PAIR');
      const connection = await RedisConnection.open(guest.redisPort);
      await requestLatencies(connection, 3);
      const idle = watchPrimary(guest);
      const delayed = await requestLatencies(connection, DELAYED_REQUESTS);
      guest.type(BUSY_LOOP);
      await pause(SETTLE_MS);
      const busy = watchPrimary(guest);
      await requestLatencies(connection, DELAYED_REQUESTS);
      await pause(FIGURES_MS);
      connection.close();
      const complaints = [...early(idle, delayed), ...early(busy, []), ...stalled(busy)];
      if (busy.states.length > 0) complaints.push(`host A left PAIR: ${busy.states.join(', ')}`);
      const figures = {
        slowChannelRoundTripMs: ROUND_TRIP_MS,
        slowChannelMsP50: rounded(percentile(delayed, 0.5)),
        heldMsMin: rounded(Math.min(...idle.heldMs, ...busy.heldMs)),
        heldMsMax: rounded(Math.max(...idle.heldMs, ...busy.heldMs)),
        outputsHeld: idle.heldMs.length + busy.heldMs.length,
        guestInstructionsWhileHeld: Math.round(percentile(busy.countsWhileHeld, 0.5)),
        guestInstructionsWhileHeldMin: Math.min(...busy.countsWhileHeld),
        vcpuStallMsMax: rounded(Math.max(...busy.standstillsMs)),
      };
      return { figures, complaints };
    });
  } finally {
    channel?.close();
  }
}

/** Outputs, or answers at the client, that came before an ack can have been there. */
function early(watch: PrimaryWatch, latenciesMs: readonly number[]): string[] {
  const least = ROUND_TRIP_MS - EARLY_MS;
  const complaints: string[] = [];
  if (watch.heldMs.length === 0) complaints.push('slow channel: no output was held');
  const outputs = watch.heldMs.filter((ms) => ms < least).length;
  if (outputs > 0) complaints.push(`${outputs} outputs left before their ack`);
  const answers = latenciesMs.filter((ms) => ms < least).length;
  if (answers > 0) complaints.push(`${answers} answers came sooner than an ack can`);
  return complaints;
}

/**
 * A vCPU that waits for an ack stands still for a round trip, at every output. A busy host's scheduler may take as
 * long from it now and then, but not at one output in ten.
 */
function stalled({ standstillsMs, countsWhileHeld }: PrimaryWatch): string[] {
  const complaints: string[] = [];
  const stalls = standstillsMs.filter((ms) => ms >= ROUND_TRIP_MS - EARLY_MS).length;
  if (stalls > countsWhileHeld.length * RARE) complaints.push(`the vCPU stood still ${stalls} times`);
  const idle = countsWhileHeld.filter((counts) => counts <= 0).length;
  if (idle > countsWhileHeld.length * RARE)
    complaints.push(`the guest did not run while ${idle} outputs were held`);
  return complaints;
}

function latencies<Name extends string>(name: Name, ms: readonly number[]): Record<string, number> {
  return {
    [`${name}MsP50`]: rounded(percentile(ms, 0.5)),
    [`${name}MsP99`]: rounded(percentile(ms, 0.99)),
  };
}
