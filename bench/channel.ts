import { guestNanoseconds, instructionCount } from '../src/base/units.ts';
import { epoch, instanceId, vmId } from '../src/ft/identity.ts';
import type { Link } from '../src/ft/link.ts';
import { type Message, PROTOCOL_VERSION } from '../src/ft/message.ts';
import { VmAuthority } from '../src/host/vm-authority.ts';
import type { Input } from '../src/machine/door.ts';
import { TcpChannel, type TcpChannelOptions } from '../src/transport/tcp-channel.ts';
import { type Bench, type BenchOptions, type BenchResult, median, percentile, rounded } from './bench.ts';

const VM = vmId('vm');
const PROGRAM = { machine: 'm', build: 'b', logFormat: 2, snapshotFormat: 2 };
const INTRODUCED = { version: PROTOCOL_VERSION, host: 'h', program: PROGRAM };
const ENVELOPE = { vm: VM, generation: epoch(2), sender: instanceId('a') };
const WARM = 1_000;
const ROUND_TRIPS = 3_000;

/** From an entry's making to its ack, both ends in this process: what TLS and compression cost. */
export const channel: Bench = {
  name: 'channel',
  summary: 'a round trip of the logging channel: plain, in TLS, compressed; CPU time of both ends',
  rounds: 5,
  run: runChannel,
};

interface Kind {
  readonly name: string;
  readonly ends: readonly [Partial<TcpChannelOptions>, Partial<TcpChannelOptions>];
}

interface RoundTrips {
  readonly cpuUs: number;
  readonly usP50: number;
  readonly logBytes: number;
  readonly wireBytes: number;
}

const LOADS: Readonly<Record<string, readonly Input[]>> = {
  clock: [
    { kind: 'clock', guestTime: guestNanoseconds(0n), rate: 3n << 32n, cap: guestNanoseconds(5_000_000n) },
  ],
  frames: Array.from({ length: 4 }, (_, index) => ({
    kind: 'frame' as const,
    nic: 0,
    // Half of it text-like, half of it not: neither the best nor the worst for a compressor.
    frame: Uint8Array.from({ length: 1400 }, (__, at) =>
      at < 700 ? 97 + ((at * index) % 13) : (at * at * 31 + index * 7) & 255,
    ),
  })),
};

async function runChannel({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const authority = await VmAuthority.create(VM);
  const secure = async () => ({ security: await authority.issue() });
  const kinds: Kind[] = [
    { name: 'plain', ends: [{}, {}] },
    { name: 'tls', ends: [await secure(), await secure()] },
    { name: 'tlsCompressed', ends: [{ ...(await secure()), compresses: true }, await secure()] },
  ];
  const rows: Record<string, string | number>[] = [];
  const figures: Record<string, number> = {};
  for (const [load, inputs] of Object.entries(LOADS)) {
    for (const { name, ends } of kinds) {
      say(`${rounds} rounds of ${ROUND_TRIPS} round trips: ${load}, ${name}`);
      const all: RoundTrips[] = [];
      for (let round = 0; round < rounds; round++) all.push(await roundTrips(ends, inputs));
      const of = (figure: keyof RoundTrips) => rounded(median(all.map((each) => each[figure])), 1);
      const row = {
        cpuUs: of('cpuUs'),
        usP50: of('usP50'),
        logBytes: of('logBytes'),
        wireBytes: of('wireBytes'),
      };
      rows.push({ load, channel: name, ...row });
      for (const [figure, value] of Object.entries(row))
        figures[`${load}${capital(name)}${capital(figure)}`] = value;
    }
  }
  return { bench: 'channel', ok: true, figures, rows, complaints: [] };
}

async function roundTrips(ends: Kind['ends'], inputs: readonly Input[]): Promise<RoundTrips> {
  const [a, b] = ends.map((end) => new TcpChannel({ vm: VM, security: 'none', ...end }));
  if (!a || !b) throw new Error('two ends');
  b.listen({
    connected() {},
    broken() {},
    received(link, messages) {
      const last = messages.at(-1);
      if (last?.kind === 'hello')
        answer(b, link, {
          ...ENVELOPE,
          ...INTRODUCED,
          kind: 'welcome',
          loaded: false,
          received: 0n,
        });
      if (last?.kind === 'entry')
        answer(b, link, { kind: 'ack', received: last.entry.sequence, replayed: 0n });
    },
  });
  let sequence = 0n;
  let to: Link | undefined;
  let heard: (last: bigint) => void = () => {};
  a.listen({
    connected(link) {
      to = link;
      answer(a, link, {
        ...ENVELOPE,
        ...INTRODUCED,
        kind: 'hello',
        fresh: true,
        attempt: 1,
        purpose: 'pair',
      });
    },
    broken(_link, reason) {
      throw new Error(reason);
    },
    received(_link, messages) {
      for (const message of messages)
        if (message.kind !== 'entry') heard('received' in message ? message.received : 0n);
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    b.accept({ host: '127.0.0.1', port: 0 }, resolve, reject),
  );
  const welcomed = new Promise<void>((resolve) => {
    heard = () => resolve();
  });
  a.connect(`127.0.0.1:${port}`, ENVELOPE.generation);
  await welcomed;
  const trip = () =>
    new Promise<void>((resolve) => {
      for (const input of inputs) {
        sequence += 1n;
        a.send(to!, {
          kind: 'entry',
          entry: { sequence, at: instructionCount(sequence), kind: 'input', input },
        });
      }
      heard = (last) => {
        if (last === sequence) resolve();
      };
      a.flush(to!);
    });
  for (let warm = 0; warm < WARM; warm++) await trip();
  const [logBytes, wireBytes, cpu] = [a.logBytes, a.wireBytes, process.cpuUsage()];
  const times: number[] = [];
  for (let count = 0; count < ROUND_TRIPS; count++) {
    const since = performance.now();
    await trip();
    times.push((performance.now() - since) * 1000);
  }
  const { user, system } = process.cpuUsage(cpu);
  const result = {
    cpuUs: (user + system) / ROUND_TRIPS,
    usP50: percentile(times, 0.5),
    logBytes: (a.logBytes - logBytes) / ROUND_TRIPS,
    wireBytes: (a.wireBytes - wireBytes) / ROUND_TRIPS,
  };
  a.shutDown();
  b.shutDown();
  return result;
}

function answer(end: TcpChannel, link: Link, message: Message): void {
  end.send(link, message);
  end.flush(link);
}

function capital(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}
