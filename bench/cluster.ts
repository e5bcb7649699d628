import { sharedMs } from '../src/host/host-clock.ts';
import { buildImage } from '../src/host/image/build-image.ts';
import { TestCluster, until } from '../tools/cluster/test-cluster.ts';
import { TestNetwork } from '../tools/net/test-network.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from './bench.ts';
import { RedisClients } from './chaos/redis-clients.ts';
import { judge } from './chaos/redis-history.ts';

const CLIENTS = 8;
const THINK_MS = 40;
const HOSTS = ['a', 'b', 'c'];
const BOOT_MS_MAX = 240_000;
const AGAIN_MS_MAX = 120_000;
/** A host that died comes back when the VM is protected again: the next round needs a third one. */
const SETTLE_MS = 2_000;

/** Redundancy returns (rule 10): host after host dies, and every time the VM gets a new backup by itself. */
export const cluster: Bench = {
  name: 'cluster',
  summary: "kills everything on the primary's host of a three-host cluster, again and again",
  rounds: 10,
  run: runCluster,
};

interface Round {
  readonly killed: string;
  /** Until the store says that the VM is Protected by the two other hosts. */
  readonly protectedAgainMs: number;
  readonly clientGapMs: number;
}

async function runCluster({ say, rounds }: BenchOptions): Promise<BenchResult> {
  const failed = (complaint: string): BenchResult => ({
    bench: 'cluster',
    ok: false,
    figures: {},
    rows: [],
    complaints: [complaint],
  });
  const missing = TestNetwork.impossible();
  if (missing !== undefined) return failed(`there are no hosts: ${missing}`);
  const image = await buildImage('demo', { progress: say });
  if (!image.ok) return failed(image.error);
  const made = await TestCluster.start(image.value, { hosts: HOSTS, namespaces: true });
  let clients: RedisClients | undefined;
  const complaints: string[] = [];
  const rows: Round[] = [];
  const stop = () => void made.close().then(() => process.exit(130));
  process.once('SIGINT', stop);
  try {
    const [first] = made.hosts;
    await first!.do('vm', 'create', await made.vmFile());
    await first!.do('vm', 'start', 'web', '--on', 'a', '--wait');
    await made.serving(BOOT_MS_MAX);
    clients = await RedisClients.open(() => made.redis(), CLIENTS, THINK_MS);
    clients.start('cluster');
    for (let round = 1; round <= rounds; round++) {
      const row = await oneRound(made, clients);
      rows.push(row);
      say(
        `round ${round} of ${rounds}: host ${row.killed} died, protected again after ${row.protectedAgainMs} ms`,
      );
    }
    const { history, lists } = await clients.finish();
    const verdict = judge(history, lists);
    const { connectionsLost, refusal } = clients;
    if (connectionsLost > 0) complaints.push(`${connectionsLost} connections were lost`);
    if (refusal !== undefined) complaints.push(`redis refused: ${refusal}`);
    if (
      verdict.acknowledgedWritesLost > 0 ||
      verdict.unknownOutcomes > 0 ||
      verdict.notLinearizable.length > 0
    )
      complaints.push(`what clients saw: ${JSON.stringify(verdict)}`);
    const again = rows.map(({ protectedAgainMs }) => protectedAgainMs);
    return {
      bench: 'cluster',
      ok: complaints.length === 0,
      figures: {
        rounds: rows.length,
        protectedAgainMsP50: rounded(median(again)),
        protectedAgainMsWorst: Math.max(...again),
        longestClientGapMs: Math.max(...rows.map(({ clientGapMs }) => clientGapMs)),
        connectionsLost,
        acknowledgedWritesLost: verdict.acknowledgedWritesLost,
        unknownOutcomes: verdict.unknownOutcomes,
        operations: history.length,
      },
      rows: rows.map((row, index) => ({ round: index + 1, ...row })),
      complaints,
    };
  } catch (error) {
    return failed((error as Error).message);
  } finally {
    process.off('SIGINT', stop);
    clients?.close();
    await made.close();
  }
}

async function oneRound(made: TestCluster, clients: RedisClients): Promise<Round> {
  const [anyone] = made.hosts;
  const { primaryHost } = await made.vmIs(
    'web',
    AGAIN_MS_MAX,
    'web is not Protected',
    ({ protection }) => protection === 'Protected',
  );
  const dying = made.host(primaryHost ?? anyone!.name);
  const left = made.hosts.filter((host) => host !== dying);
  const names = left.map(({ name }) => name);
  const killedMs = sharedMs();
  const since = performance.now();
  await dying.powerOff();
  await made.vmIs(
    'web',
    AGAIN_MS_MAX,
    'web is not Protected again',
    ({ protection, primaryHost: now, secondaryHost }) =>
      protection === 'Protected' && names.includes(now ?? '') && names.includes(secondaryHost ?? ''),
    left,
  );
  const protectedAgainMs = rounded(performance.now() - since, 0);
  const before = clients.answered;
  await until(AGAIN_MS_MAX, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
  await dying.start();
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  return { killed: dying.name, protectedAgainMs, clientGapMs: rounded(clients.longestGapMs(killedMs), 0) };
}
