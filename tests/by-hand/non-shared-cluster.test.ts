import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RedisClients } from '../../bench/chaos/redis-clients.ts';
import { judge } from '../../bench/chaos/redis-history.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { TestCluster, until } from '../../tools/cluster/test-cluster.ts';

/** A VM whose disks are each host's own [FT 4.1], on hosts with daemons: nobody shares more than the arbiter's directory. */

const CLIENTS = 8;
const THINK_MS = 40;
const SLOW = 200_000;
const run = promisify(execFile);

describe('hosts with disks of their own', () => {
  let cluster: TestCluster;
  let clients: RedisClients;
  const copyOf = (host: string) => join(cluster.folder, `copy-${host}.img`);

  beforeAll(async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    cluster = await TestCluster.start(image.value, { hosts: ['a', 'b', 'c'] });
    await copyFile(image.value.disk ?? '', copyOf('a'), constants.COPYFILE_FICLONE);
    const arbiter = join(cluster.folder, 'arbiter');
    await mkdir(arbiter);
    const file = await cluster.vmFile({
      storage: { mode: 'non-shared', files: [copyOf('{host}')] },
      arbiter: { kind: 'directory', path: arbiter },
    });
    await cluster.host('a').do('vm', 'create', file);
    await cluster.host('a').do('vm', 'start', 'web', '--on', 'a', '--wait');
    await cluster.serving();
    clients = await RedisClients.open(() => cluster.redis(), CLIENTS, THINK_MS);
    clients.start('own-disks');
  }, SLOW);

  afterAll(async () => {
    clients?.close();
    await cluster?.close();
  }, SLOW);

  async function served(): Promise<void> {
    const before = clients.answered;
    await until(60_000, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
    expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
  }

  test(
    'two hosts die one after the other; the VM goes on from the copies of those that are left',
    async () => {
      const first = await cluster.host('b').vm('web');
      expect(first.protection).toBe('Protected');
      const second = first.secondaryHost ?? '';
      const third = ['b', 'c'].find((name) => name !== second)!;
      await served();
      await cluster.host('a').powerOff();
      const living = [cluster.host('b'), cluster.host('c')];
      await cluster.vmIs(
        'web',
        90_000,
        'web is not Protected again',
        ({ protection, primaryHost, secondaryHost }) =>
          protection === 'Protected' && primaryHost === second && secondaryHost === third,
        living,
      );
      await served();
      await cluster.host(second).powerOff();
      await cluster.vmIs('web', 60_000, 'web does not go on', (vm) => vm.primaryHost === third, [
        cluster.host(third),
      ]);
      await served();
      const { history, lists } = await clients.finish();
      expect(judge(history, lists)).toEqual({
        unknownOutcomes: 0,
        acknowledgedWritesLost: 0,
        notLinearizable: [],
      });
      await cluster.host(third).do('vm', 'stop', 'web', '--force');
      const ended = () =>
        cluster.vmIs('web', 60_000, 'web does not end', (vm) => vm.instances.length === 0, [
          cluster.host(third),
        ]);
      // Hosts that are back say that nothing of it lives there.
      await cluster.host('a').start();
      await cluster.host(second).start();
      await ended();
      // The journal is played; anything that is wrong besides ends with another code.
      await run('/sbin/e2fsck', ['-fp', copyOf(third)]).catch(({ code }) => expect(code).toBe(1));
      const stale = await cluster.host(third).lockstep('vm', 'start', 'web', '--on', 'a');
      expect(stale.error).toMatch(/^lockstep: web cannot start on a: the copy of a is not whole: /);
      await cluster.host(third).do('vm', 'start', 'web', '--on', third);
      await cluster.serving();
    },
    SLOW,
  );
});
