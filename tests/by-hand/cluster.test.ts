import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RedisClients } from '../../bench/chaos/redis-clients.ts';
import { judge } from '../../bench/chaos/redis-history.ts';
import type { VmView } from '../../src/host/api.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import type { ClusterHost } from '../../tools/cluster/cluster-host.ts';
import { TestCluster, until } from '../../tools/cluster/test-cluster.ts';
import { TestNetwork } from '../../tools/net/test-network.ts';

/** Several hosts, each a network namespace: everything on one of them dies at one moment, and clients notice nothing. */

const CLIENTS = 8;
const THINK_MS = 40;
const SLOW = 150_000;
const missing = TestNetwork.impossible();

describe.skipIf(missing !== undefined)(`a cluster of hosts${missing ? `: skipped, ${missing}` : ''}`, () => {
  let cluster: TestCluster;
  let clients: RedisClients;

  beforeAll(async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    cluster = await TestCluster.start(image.value, { hosts: ['a', 'b', 'c'], namespaces: true });
    await cluster.host('a').do('vm', 'create', await cluster.vmFile({ restart: true }));
    await cluster.host('a').do('vm', 'start', 'web', '--on', 'a', '--wait');
    await cluster.serving();
    clients = await RedisClients.open(() => cluster.redis(), CLIENTS, THINK_MS);
    clients.start('cluster');
  }, SLOW);

  afterAll(async () => {
    clients?.close();
    await cluster?.close();
  }, SLOW);

  const isProtectedBy =
    (...hosts: string[]) =>
    ({ protection, primaryHost, secondaryHost }: VmView) =>
      protection === 'Protected' && hosts.includes(primaryHost ?? '') && hosts.includes(secondaryHost ?? '');

  async function served(): Promise<void> {
    const before = clients.answered;
    await until(60_000, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
    expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
  }

  const others = (...dead: ClusterHost[]) => cluster.hosts.filter((host) => !dead.includes(host));

  test(
    "everything on the primary's host dies: protected again on the third host, without a command",
    async () => {
      const a = cluster.host('a');
      await served();
      await a.powerOff();
      await cluster.vmIs('web', 60_000, 'web is not Protected again', isProtectedBy('b', 'c'), others(a));
      await served();
    },
    SLOW,
  );

  test(
    'the host comes back, and the next one dies: still alive, and nothing is lost',
    async () => {
      const a = cluster.host('a');
      await a.start();
      const { primaryHost } = await a.vm('web');
      const dying = cluster.host(primaryHost!);
      await dying.powerOff();
      const left = others(dying).map(({ name }) => name);
      await cluster.vmIs('web', 60_000, 'web is not Protected again', isProtectedBy(...left), others(dying));
      await served();
      await dying.start();
    },
    SLOW,
  );

  test(
    'a host that is cut from all others, and comes back: one goes on, and the other one ends',
    async () => {
      const { primaryHost } = await cluster.host('b').vm('web');
      const network = cluster.network!;
      const cut = network.hosts.find(({ name }) => name === primaryHost)!;
      const dark = cluster.host(primaryHost!);
      await cut.cut();
      const left = others(dark).map(({ name }) => name);
      await cluster.vmIs('web', 60_000, 'web is not Protected again', isProtectedBy(...left), others(dark));
      await served();
      await cut.mend();
      await until(60_000, 'the cut side does not end', () =>
        dark.events.some(
          ({ kind, detail }) => kind === 'ended' && /superseded|newer generation/.test(detail),
        ),
      );
      await served();
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

  test(
    'both hosts of a VM die at one moment: it is started again from its disk, once',
    async () => {
      const before = await cluster.host('b').vm('web');
      const pair = [cluster.host(before.primaryHost!), cluster.host(before.secondaryHost!)];
      const [survivor] = others(...pair);
      await Promise.all(pair.map((host) => host.powerOff()));
      await cluster.vmIs(
        'web',
        90_000,
        'web is not started again',
        ({ primaryHost }) => primaryHost === survivor!.name,
        [survivor!],
      );
      await cluster.serving();
      const starts = survivor!.events.filter(({ kind, vm }) => kind === 'restart' && vm === 'web');
      expect(starts).toHaveLength(1);
      for (const host of pair) await host.start();
      await cluster.vmIs(
        'web',
        60_000,
        'web is not Protected again',
        ({ protection }) => protection === 'Protected',
      );
    },
    SLOW,
  );
});
