import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RedisClients } from '../../bench/chaos/redis-clients.ts';
import { judge } from '../../bench/chaos/redis-history.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { TestCluster, until } from '../../tools/cluster/test-cluster.ts';
import { ETCD_IS_MISSING, EtcdProcess } from '../etcd-process.ts';

/** etcd as the cluster's store and as the VM's arbiter, with three members: what its troubles are to a running VM. */

const CLIENTS = 4;
const THINK_MS = 20;
/** Longer than any time-out of the protocol. */
const OUTAGE_MS = 30_000;
const SLOW = 200_000;

describe.skipIf(ETCD_IS_MISSING)('a cluster in etcd', () => {
  let folder: string;
  let etcd: EtcdProcess[];
  let cluster: TestCluster;
  let clients: RedisClients;

  beforeAll(async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    folder = await mkdtemp(join(tmpdir(), 'lockstep-etcd-'));
    etcd = await EtcdProcess.members(folder, 3);
    await Promise.all(etcd.map((member) => member.start()));
    const endpoints = etcd.map(({ url }) => url);
    cluster = await TestCluster.start(image.value, {
      hosts: ['a', 'b', 'c'],
      store: async () => `etcd:${endpoints.join(',')}`,
    });
    const file = await cluster.vmFile({ arbiter: { kind: 'etcd', endpoints } });
    await cluster.host('a').do('vm', 'create', file);
    await cluster.host('a').do('vm', 'start', 'web', '--on', 'a', '--wait');
    await cluster.serving();
    clients = await RedisClients.open(() => cluster.redis(), CLIENTS, THINK_MS);
    clients.start('etcd');
  }, SLOW);

  afterAll(async () => {
    clients?.close();
    for (const member of etcd ?? []) member.thaw();
    await cluster?.close();
    await Promise.all((etcd ?? []).map((member) => member.kill()));
    await rm(folder, { recursive: true, force: true });
  }, SLOW);

  async function served(): Promise<void> {
    const before = clients.answered;
    await until(60_000, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
    expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
  }

  test(
    'it loses its leader: the VM does not notice, and the cluster goes on',
    async () => {
      const leaders = await Promise.all(etcd.map((member) => member.isLeader()));
      const leader = etcd[leaders.indexOf(true)]!;
      await leader.kill();
      await served();
      await cluster.host('b').do('ft', 'test-restart-secondary', 'web', '--wait');
      await served();
      await leader.start();
    },
    SLOW,
  );

  test(
    'nobody reaches it for a while: the VM does not notice',
    async () => {
      for (const member of etcd) member.freeze();
      await until(
        60_000,
        () => `host a does not see it: ${JSON.stringify(cluster.host('a').events.slice(-5))}`,
        () =>
          cluster
            .host('a')
            .events.some(({ kind, detail }) => kind === 'store' && /out of reach/.test(detail)),
      );
      await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
      await served();
      for (const member of etcd) member.thaw();
      const vm = await cluster.vmIs(
        'web',
        60_000,
        'web is not Protected',
        ({ protection }) => protection === 'Protected',
      );
      expect(vm.primaryHost).toBe('a');
      await served();
    },
    SLOW,
  );

  test(
    'a host dies while nobody reaches it: the takeover waits for it, and then there is one',
    async () => {
      const { primaryHost, secondaryHost } = await cluster.host('a').vm('web');
      const dying = cluster.host(primaryHost!);
      const backup = cluster.host(secondaryHost!);
      for (const member of etcd) member.freeze();
      await dying.powerOff();
      const waits = () =>
        backup.events.some(({ kind, detail }) => kind === 'arbiter' && /^no decision/.test(detail));
      await until(60_000, 'the backup does not ask', waits);
      const answered = clients.answered;
      const lives = () => backup.events.some(({ kind, vm }) => kind === 'LIVE' && vm === 'web');
      expect(lives()).toBe(false);
      for (const member of etcd) member.thaw();
      await until(60_000, 'the backup does not go on', lives);
      expect(clients.answered).toBeGreaterThanOrEqual(answered);
      await served();
      await dying.start();
      await cluster.vmIs(
        'web',
        60_000,
        'web is not Protected again',
        ({ protection }) => protection === 'Protected',
      );
    },
    SLOW,
  );

  test('what the clients saw is one history, and nothing that was acknowledged is lost', async () => {
    const { history, lists } = await clients.finish();
    expect(judge(history, lists)).toEqual({
      unknownOutcomes: 0,
      acknowledgedWritesLost: 0,
      notLinearizable: [],
    });
  });
});
