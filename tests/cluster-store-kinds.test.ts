import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Result } from '../src/base/result.ts';
import type { ClusterStore, WriteOutcome } from '../src/storage/cluster-store.ts';
import { EtcdCompactedError, EtcdGateway } from '../src/storage/etcd-gateway.ts';
import { EtcdWatch } from '../src/storage/etcd-watch.ts';
import { hostNamed, openStore, presenceOf, vmNamed } from './cluster-store-client.ts';
import { ETCD_IS_MISSING, EtcdProcess } from './etcd-process.ts';
import { instanceOf, must, PRESENCE_MS, pause, until, Watched } from './watched-store.ts';

/** What only one kind of store can do wrong; `cluster-stores.test.ts` is for all of them. */

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-cluster-store-'));
  closing.push(() => rm(folder, { recursive: true, force: true }));
});

describe('a directory', () => {
  test('is for its owner alone, and stays small', async () => {
    const path = join(folder, 'own');
    await mkdir(path);
    const store = openStore({ kind: 'directory', path });
    closing.push(() => store.close());
    let version: Parameters<ClusterStore['writeVm']>[1];
    for (let n = 0; n < 60; n++) {
      const outcome = must(await store.writeVm(vmNamed('vm1', n), version));
      if (!outcome.written) throw new Error('not written');
      version = outcome.version;
    }
    must(await store.reportInstances('a', []));
    must(await store.token('secret'));
    const files = (await readdir(path, { recursive: true, withFileTypes: true })).filter((e) => e.isFile());
    expect(files.length).toBeLessThan(20);
    for (const { parentPath, name } of files) {
      expect((await stat(join(parentPath, name))).mode & 0o777, name).toBe(0o600);
    }
    for (const name of await readdir(path)) expect((await stat(join(path, name))).mode & 0o777).toBe(0o700);
  });

  test('that is not mounted any more is out of reach, and no empty store', async () => {
    const path = join(folder, 'mount');
    await mkdir(path);
    const store = openStore({ kind: 'directory', path });
    closing.push(() => store.close());
    must(await store.writeHost(hostNamed('a'), undefined));
    await rename(path, join(folder, 'elsewhere'));
    await mkdir(path);
    expect((await store.read()).ok).toBe(false);
    expect(await readdir(path)).toEqual([]);
  });

  test('that hangs lets no older word of a host overtake a newer one', async () => {
    const store = openStore({ kind: 'directory', path: folder });
    closing.push(() => store.close());
    must(await store.reportInstances('a', []));
    // Whoever writes to it waits until somebody reads it: a file server that hangs.
    const hanging = join(folder, 'instances', 'a.json.new');
    execFileSync('mkfifo', [hanging]);
    const older = store.reportInstances('a', [instanceOf('older', 'a')]);
    const newer = store.reportInstances('a', [instanceOf('newer', 'a')]);
    await pause(50);
    await readFile(hanging);
    must(await older);
    must(await newer);
    const { content } = must(await store.read());
    expect(content.instances.map(({ vm }) => vm)).toEqual(['newer']);
  });
});

describe.skipIf(ETCD_IS_MISSING)('etcd', () => {
  let members: EtcdProcess[] = [];
  const begin = async (count: number) => {
    members = await EtcdProcess.members(folder, count);
    for (const member of members) closing.push(() => member.kill());
    await Promise.all(members.map((member) => member.start()));
  };
  const connect = (first = 0): ClusterStore => {
    const urls = members.map(({ url }) => url);
    const endpoints = [...urls.slice(first), ...urls.slice(0, first)];
    const store = openStore({ kind: 'etcd', endpoints }, PRESENCE_MS);
    closing.push(() => store.close());
    return store;
  };
  const leader = async (): Promise<number> => {
    for (const [index, member] of members.entries()) if (await member.isLeader()) return index;
    throw new Error('nobody leads');
  };

  test('loses its leader: hosts stay present, and what others change is seen', async () => {
    await begin(3);
    const lost = await leader();
    const store = connect(lost);
    must(await store.writeHost(hostNamed('a'), undefined));
    const watched = new Watched(store);
    closing.push(watched.stop);
    const said: string[] = [];
    store.announce('a', presenceOf('a'), (line) => said.push(line));
    await until(() => watched.isPresent('a'));
    const before = watched.readings.length;
    await members[lost]!.kill();
    const other = connect((lost + 1) % 3);
    let written: Result<WriteOutcome> | undefined;
    while (!written?.ok) written = await other.writeVm(vmNamed('vm1'), undefined);
    await until(() => watched.newest?.content.vms.length === 1);
    // Longer than presence lasts without renewal.
    await pause(PRESENCE_MS * 1.5);
    for (const { content } of watched.readings.slice(before))
      expect(content.hosts[0]?.presence).toBeDefined();
    // Most of them are gone: nobody is told anything, and that is said.
    const troubles = watched.troubles.length;
    const next = members.findIndex((_, index) => index !== lost);
    await members[next]!.kill();
    await until(() => watched.troubles.length > troubles);
    expect((await store.read()).ok).toBe(false);
    await members[next]!.start();
    await until(() => watched.isPresent('a'));
    must(await store.writeVm(vmNamed('vm2'), undefined));
    await until(() => watched.newest?.content.vms.length === 2);
  });

  test('a member that stands still is left for another one', async () => {
    await begin(3);
    const lost = await leader();
    const store = connect(lost);
    const watched = new Watched(store);
    closing.push(watched.stop);
    await until(() => watched.newest !== undefined);
    members[lost]!.freeze();
    closing.push(() => members[lost]!.thaw());
    const other = connect((lost + 1) % 3);
    let written: Result<WriteOutcome> | undefined;
    while (!written?.ok) written = await other.writeVm(vmNamed('vm1'), undefined);
    await until(() => watched.newest?.content.vms.length === 1);
  });

  test('a stream that is deaf is found out by a change that somebody makes, and by nothing that the content shows', async () => {
    await begin(1);
    const gateway = new EtcdGateway([members[0]!.url]);
    let deaf = false;
    let streams = 0;
    const hearing = gateway.changes.bind(gateway);
    gateway.changes = async function* (...asked) {
      streams += 1;
      for await (const changes of hearing(...asked)) if (!deaf || changes.length === 0) yield changes;
    };
    const told = { changed: 0, unchanged: 0, keys: [] as string[], troubles: [] as unknown[] };
    const watch = new EtcdWatch(
      gateway,
      'lockstep/cluster/',
      {
        changed: (entries) => {
          told.changed += 1;
          told.keys = [...entries.keys()];
        },
        unchanged: () => {
          told.unchanged += 1;
        },
        outOfReach: (error) => told.troubles.push(error),
      },
      { idleMs: 500, askMs: 200 },
    );
    closing.push(() => watch.end());
    await until(() => told.unchanged > 2);
    expect([told.changed, streams, told.troubles]).toEqual([1, 1, []]);
    deaf = true;
    must(await connect().writeHost(hostNamed('a'), undefined));
    await until(() => told.changed > 1);
    deaf = false;
    expect(String(told.troubles[0])).toContain('it does not tell of changes');
    expect(told.keys).toEqual(['lockstep/cluster/hosts/a']);
  });

  test('many records come in pages of one revision', async () => {
    await begin(1);
    const store = connect();
    const gateway = new EtcdGateway([members[0]!.url]);
    const signal = AbortSignal.timeout(60_000);
    const key = (n: number) => `many/${String(n).padStart(4, '0')}`;
    // Both keys change together: whoever sees them apart has seen two revisions.
    const pair = (text: string) => [key(0), key(4499)].map((one) => ({ key: one, text }));
    for (let n = 1; n < 4499; n += 100)
      await gateway.writeIf(
        [],
        Array.from({ length: 100 }, (_, m) => ({ key: key(n + m), text: 'x' })),
        signal,
      );
    await gateway.writeIf([], pair('0'), signal);
    let writing = true;
    const writer = (async () => {
      for (let n = 1; writing; n++) await gateway.writeIf([], pair(String(n)), signal);
    })();
    for (let n = 0; n < 5; n++) {
      const { entries } = await gateway.readAll('many/', signal);
      expect(entries.map((entry) => entry.key)).toEqual(
        Array.from({ length: 4600 }, (_, m) => key(m)).slice(0, entries.length),
      );
      expect(entries.length).toBeGreaterThanOrEqual(4500);
      expect(entries[0]!.text).toBe(entries.find((entry) => entry.key === key(4499))!.text);
    }
    writing = false;
    await writer;
    expect(must(await store.read()).content.vms).toEqual([]);
  });

  test('changes that are no longer kept are told apart from trouble', async () => {
    await begin(1);
    const gateway = new EtcdGateway([members[0]!.url]);
    const signal = AbortSignal.timeout(30_000);
    let revision = 0n;
    for (let n = 0; n < 5; n++)
      revision = (await gateway.writeAt([], [{ key: 'k/1', text: String(n) }], signal)) ?? 0n;
    const compaction = JSON.stringify({ revision: String(revision), physical: true });
    await fetch(`${members[0]!.url}/v3/kv/compaction`, { method: 'POST', body: compaction });
    const lost = gateway.changes('k/', 1n, signal);
    const whole = async () => {
      for await (const _ of lost);
    };
    await expect(whole()).rejects.toThrow(EtcdCompactedError);
    const kept = gateway.changes('k/', revision, signal);
    expect((await kept.next()).value).toEqual([]);
    await gateway.writeIf([], [{ key: 'k/1', remove: true }], signal);
    expect((await kept.next()).value).toEqual([{ kind: 'removed', revision: revision + 1n, key: 'k/1' }]);
    await kept.return(undefined);
  });
});
