import type { ProtectedGuest } from '../../tools/pair/protected-guest.ts';
import { savedGuest } from '../../tools/pair/saved-guest.ts';
import { withPair } from '../../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from '../bench.ts';
import { DelayedChannel } from '../delayed-channel.ts';
import { type Ground, type PrimaryWatch, pause, reaches, watchPrimary } from '../pair-rounds.ts';
import { CORES, pinClients } from '../placing.ts';
import { NetworkClient, requestRate } from './client.ts';
import { networkImage } from './image.ts';
import { QemuGuest } from './qemu-guest.ts';

const MEGABYTE = 1024 * 1024;
const BULK_MEGABYTES = 64;
const REQUESTS = 400;
const CONNECTIONS = 8;
const RATE_MS = 2_000;
/** The logging channel's way in the last part, each way. */
const WAN_DELAY_MS = 5;
const WAN_REQUESTS = 100;
/** The network has to hear of the guest. */
const SETTLE_MS = 1_000;
/** Each way, and with requests: the first seconds of both hosts are those of a compiler, for the guest's code and their own. */
const WARM_MS = 5_000;
/** The last figures of a phase come within this time. */
const FIGURES_MS = 250;

/** What a guest's network gives with and without fault tolerance, and what QEMU's TCG gives beside it [FT 4.2, 4.3]. */
export const network: Bench = {
  name: 'network',
  summary: 'bulk TCP and requests, fault tolerance off and on, beside QEMU, and with 10 ms between the hosts',
  rounds: 3,
  settings: { megabytes: `how much one bulk transfer moves, ${BULK_MEGABYTES} by default` },
  run: runNetwork,
};

interface Speeds {
  /** Mbit/s. */
  readonly transmit: number;
  readonly receive: number;
  /** A second. */
  readonly requests: number;
  readonly latenciesMs: readonly number[];
}

interface Protected extends Speeds {
  /** Mbit/s of log frames while the guest receives, and while it transmits. */
  readonly logReceive: number;
  readonly logTransmit: number;
  readonly roundTripsMs: readonly number[];
}

interface Round {
  readonly off: readonly [Speeds, Speeds];
  readonly on: readonly [Protected, Protected];
  readonly qemu: Speeds | undefined;
}

async function runNetwork({ say, rounds, settings }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const rows: Record<string, string | number | boolean>[] = [];
  const failed = (error: string): BenchResult => ({
    ...{ bench: 'network', ok: false, figures: {}, rows, complaints: [error] },
  });
  const bytes = Number(settings.megabytes ?? BULK_MEGABYTES) * MEGABYTE;
  if (!(bytes > 0)) return failed('--megabytes takes a number above 0');
  const image = await networkImage(say);
  if (!image.ok) return failed(image.error);
  const unpinned = await pinClients();
  if (unpinned !== undefined) complaints.push(unpinned);
  const cores = unpinned === undefined ? { cores: CORES } : {};
  const from = await savedGuest(image.value, say);
  const ground: Ground = { image: image.value, from, cores, complaints };

  const done: Round[] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`round ${round} of ${rounds}: off, on, on, off; then QEMU`);
    try {
      const measured = await pairRound(ground, bytes);
      const qemu = await qemuRound(ground, bytes);
      done.push({ ...measured, qemu });
      for (const [name, speeds] of [
        ['off', measured.off[0]],
        ['on', measured.on[0]],
        ['on', measured.on[1]],
        ['off', measured.off[1]],
        ['qemu', qemu],
      ] as const)
        rows.push({ round, name, ...row(speeds) });
    } catch (error) {
      complaints.push(`round ${round}: ${(error as Error).message}`);
    }
  }
  let wan: Record<string, number> = {};
  try {
    say(`${2 * WAN_DELAY_MS} ms of round trip between the hosts`);
    wan = await wanFigures(ground, bytes, (name, speeds) => rows.push({ round: 0, name, ...row(speeds) }));
  } catch (error) {
    complaints.push(`wide area: ${(error as Error).message}`);
  }
  return {
    bench: 'network',
    ok: complaints.length === 0,
    figures: { ...figures(done), ...wan },
    rows,
    complaints,
  };
}

function row({ transmit, receive, requests, latenciesMs }: Speeds): Record<string, number> {
  return {
    transmitMbit: rounded(transmit, 1),
    receiveMbit: rounded(receive, 1),
    requests: rounded(requests, 0),
    latencyUsP50: rounded(1000 * percentile(latenciesMs, 0.5), 0),
  };
}

function figures(rounds: readonly Round[]): Record<string, number> {
  const mid = (of: (round: Round) => number) => median(rounds.map(of));
  const pair = ([first, second]: readonly [Speeds, Speeds], name: 'transmit' | 'receive' | 'requests') =>
    (first[name] + second[name]) / 2;
  const ratio = (name: 'transmit' | 'receive' | 'requests') =>
    rounded(mid(({ on, off }) => pair(on, name) / pair(off, name)));
  const toQemu = (name: 'transmit' | 'receive' | 'requests') =>
    rounded(mid(({ off, qemu }) => pair(off, name) / (qemu?.[name] ?? Number.NaN)));
  const latency = ([first, second]: readonly [Speeds, Speeds]) =>
    percentile([...first.latenciesMs, ...second.latenciesMs], 0.5);
  const roundTrips = rounds.flatMap(({ on }) => on.flatMap(({ roundTripsMs }) => roundTripsMs));
  return {
    transmitRatio: ratio('transmit'),
    receiveRatio: ratio('receive'),
    requestRatio: ratio('requests'),
    addedUsP50: rounded(1000 * mid(({ on, off }) => latency(on) - latency(off)), 0),
    channelRoundTripUsP50: rounded(1000 * percentile(roundTrips, 0.5), 0),
    logMbitPerSecond: rounded(
      mid(({ on: [a, b] }) => (a.logReceive + b.logReceive) / 2),
      1,
    ),
    logTransmitMbitPerSecond: rounded(
      mid(({ on: [a, b] }) => (a.logTransmit + b.logTransmit) / 2),
      1,
    ),
    transmitRatioToQemu: toQemu('transmit'),
    receiveRatioToQemu: toQemu('receive'),
    requestRatioToQemu: toQemu('requests'),
    transmitMbit: rounded(
      mid(({ off }) => pair(off, 'transmit')),
      1,
    ),
    receiveMbit: rounded(
      mid(({ off }) => pair(off, 'receive')),
      1,
    ),
    requestsPerSecond: rounded(
      mid(({ off }) => pair(off, 'requests')),
      0,
    ),
  };
}

/** Off, on, on, off: what only changes with time, as the programs become warmer, falls out. */
async function pairRound(ground: Ground, bytes: number): Promise<Pick<Round, 'off' | 'on'>> {
  const { image, from, cores } = ground;
  return withPair(image, { from, protectAtStart: false, ...cores }, async (guest) => {
    const ports = [guest.httpPort, guest.redisPort] as const;
    await reaches(guest, 'SOLE');
    await pause(SETTLE_MS);
    await warm(ports, bytes);
    const before = await speeds(ports, bytes);
    guest.protect();
    await reaches(guest, 'PAIR');
    await warm(ports, bytes);
    const on = [
      await protectedSpeeds(guest, ports, bytes),
      await protectedSpeeds(guest, ports, bytes),
    ] as const;
    guest.unprotect();
    await reaches(guest, 'SOLE');
    await pause(SETTLE_MS);
    return { off: [before, await speeds(ports, bytes)], on };
  });
}

async function qemuRound({ image }: Ground, bytes: number): Promise<Speeds> {
  const guest = await QemuGuest.start(image);
  try {
    const ports = [guest.bulkPort, guest.echoPort] as const;
    await pause(SETTLE_MS);
    await warm(ports, bytes);
    return await speeds(ports, bytes);
  } finally {
    await guest.close();
  }
}

type Ports = readonly [bulk: number, echo: number];

async function warm([bulk, echo]: Ports, bytes: number): Promise<void> {
  const client = await NetworkClient.open(bulk);
  for (const transfer of [() => client.transmitted(bytes), () => client.received(bytes)])
    for (const since = performance.now(); performance.now() - since < WARM_MS; ) await transfer();
  client.close();
  await requestRate(echo, CONNECTIONS, WARM_MS);
}

async function speeds(ports: Ports, bytes: number, count = REQUESTS): Promise<Speeds> {
  const [bulk, echo] = ports;
  const client = await NetworkClient.open(bulk);
  const transmit = await client.transmitted(bytes);
  const receive = await client.received(bytes);
  client.close();
  const requests = await requestRate(echo, CONNECTIONS, RATE_MS);
  return { transmit, receive, requests, latenciesMs: await latencies(echo, count) };
}

async function protectedSpeeds(guest: ProtectedGuest, ports: Ports, bytes: number): Promise<Protected> {
  const [bulk, echo] = ports;
  const watch = watchPrimary(guest);
  const client = await NetworkClient.open(bulk);
  const [transmit, logTransmit] = await logged(watch, () => client.transmitted(bytes));
  const [receive, logReceive] = await logged(watch, () => client.received(bytes));
  client.close();
  const requests = await requestRate(echo, CONNECTIONS, RATE_MS);
  await pause(FIGURES_MS);
  watch.roundTripsMs.length = 0;
  const latenciesMs = await latencies(echo, REQUESTS);
  await pause(FIGURES_MS);
  if (watch.states.some((state) => state !== 'PAIR'))
    throw new Error(`host A left PAIR: ${watch.states.join(', ')} (${guest.hosts[0].reason})`);
  // The watch goes on; its samples of later phases are not this one's.
  return {
    transmit,
    receive,
    requests,
    latenciesMs,
    logTransmit,
    logReceive,
    roundTripsMs: [...watch.roundTripsMs],
  };
}

/** A rate, and the log's while it was measured, both in Mbit/s. */
async function logged(watch: PrimaryWatch, measure: () => Promise<number>): Promise<[number, number]> {
  const first = watch.samples.at(-1)?.logBytes;
  const since = performance.now();
  const measured = await measure();
  const ms = performance.now() - since;
  await pause(FIGURES_MS);
  const last = watch.samples.at(-1)?.logBytes;
  return [measured, (((last ?? 0) - (first ?? watch.samples[0]?.logBytes ?? 0)) * 8) / ms / 1000];
}

async function latencies(port: number, count: number): Promise<number[]> {
  const client = await NetworkClient.open(port);
  await client.requests(20);
  const measured = await client.requests(count);
  client.close();
  return measured;
}

/** A channel with 10 ms of round trip: every output waits so long, and how far bulk transfers fall. */
async function wanFigures(
  { image, from, cores }: Ground,
  bytes: number,
  tell: (name: string, speeds: Speeds) => void,
): Promise<Record<string, number>> {
  let channel: DelayedChannel | undefined;
  const channelVia = async (address: string) => {
    channel = await DelayedChannel.open(address, WAN_DELAY_MS);
    return channel.address;
  };
  try {
    return await withPair(image, { from, protectAtStart: false, channelVia, ...cores }, async (guest) => {
      const ports = [guest.httpPort, guest.redisPort] as const;
      await reaches(guest, 'SOLE');
      await pause(SETTLE_MS);
      await warm(ports, bytes);
      const off = await speeds(ports, bytes);
      guest.protect();
      await reaches(guest, 'PAIR');
      await warm(ports, bytes);
      const watch = watchPrimary(guest);
      const on = await speeds(ports, bytes, WAN_REQUESTS);
      const left = watch.states.filter((state) => state !== 'PAIR');
      if (left.length > 0) throw new Error(`host A left PAIR: ${left.join(', ')} (${guest.hosts[0].reason})`);
      tell('wan off', off);
      tell('wan on', on);
      return {
        wanAddedMsP50: rounded(percentile(on.latenciesMs, 0.5) - percentile(off.latenciesMs, 0.5)),
        wanTransmitRatio: rounded(on.transmit / off.transmit),
        wanReceiveRatio: rounded(on.receive / off.receive),
      };
    });
  } finally {
    channel?.close();
  }
}
