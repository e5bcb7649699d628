import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RedisClients } from '../../bench/chaos/redis-clients.ts';
import { judge } from '../../bench/chaos/redis-history.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { LOG_FORMAT_VERSION } from '../../src/replay/frame.ts';
import { TestCluster, until } from '../../tools/cluster/test-cluster.ts';
import { otherBuild } from '../other-build.ts';

/** A cluster goes from one version to the next under load: suspend, migrate live, protect again. */

const CLIENTS = 4;
const THINK_MS = 20;
const SLOW = 120_000;

let folder: string;
let cluster: TestCluster;
let clients: RedisClients;

beforeAll(async () => {
  const image = await buildImage('demo', { progress: () => undefined });
  if (!image.ok) throw new Error(image.error);
  folder = await mkdtemp(join(tmpdir(), 'lockstep-upgrade-'));
  const next = await otherBuild(folder, LOG_FORMAT_VERSION + 1);
  cluster = await TestCluster.start(image.value, {
    hosts: ['old1', 'old2', 'new1', 'new2'],
    programs: { new1: next, new2: next },
  });
  await cluster.host('old1').do('vm', 'create', await cluster.vmFile());
  await cluster.host('old1').do('vm', 'start', 'web', '--on', 'old1', '--wait');
  await cluster.serving();
  clients = await RedisClients.open(() => cluster.redis(), CLIENTS, THINK_MS);
  clients.start('upgrade');
}, SLOW);

afterAll(async () => {
  clients?.close();
  await cluster?.close();
  await rm(folder, { recursive: true, force: true });
}, SLOW);

async function served(): Promise<void> {
  const before = clients.answered;
  await until(60_000, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
  expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
}

test('a backup is placed on a host of the same build, and nowhere else by order either', async () => {
  const vm = await cluster.host('new1').vm('web');
  expect([vm.primaryHost, vm.secondaryHost]).toEqual(['old1', 'old2']);
  const { error, code } = await cluster
    .host('old1')
    .lockstep('ft', 'migrate-secondary', 'web', '--to', 'new1');
  expect(code).toBe(2);
  expect(error).toMatch(
    /^lockstep: new1 runs build \w+ \(log format \d+\), old1 build \w+ \(log format \d+\): they cannot pair; lockstep ft suspend web, /,
  );
  await served();
});

test(
  'suspended, moved to the next version and resumed there: no client notices',
  async () => {
    await cluster.host('old1').do('ft', 'suspend', 'web');
    await cluster.host('old1').do('vm', 'migrate', 'web', '--to', 'new1');
    await served();
    await cluster.host('old2').do('ft', 'resume', 'web', '--wait');
    const vm = await cluster.host('old1').vm('web');
    expect([vm.protection, vm.primaryHost, vm.secondaryHost]).toEqual(['Protected', 'new1', 'new2']);
    await served();
    const { history, lists } = await clients.finish();
    expect(judge(history, lists)).toEqual({
      unknownOutcomes: 0,
      acknowledgedWritesLost: 0,
      notLinearizable: [],
    });
  },
  SLOW,
);
