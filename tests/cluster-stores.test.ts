import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Result } from '../src/base/result.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import type { ClusterStore } from '../src/storage/cluster-store.ts';
import {
  type ClientTask,
  hostNamed,
  openStore,
  presenceOf,
  type StoreAddress,
  vmNamed,
} from './cluster-store-client.ts';
import { ETCD_IS_MISSING, EtcdProcess } from './etcd-process.ts';
import { instanceOf, must, PRESENCE_MS, pause, until, Watched } from './watched-store.ts';

/** One suite for every store of a cluster (design 8): whichever it is, daemons see the same. */

interface Keeper {
  start(): Promise<void>;
  /** Out of reach from here on; `start` brings it back with all that it had promised to keep. */
  stop(): Promise<void>;
  address(): StoreAddress;
  /** Puts a text in the place of a record that is not there yet. */
  damage(kind: string, name: string, text: string): Promise<void>;
}

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-cluster-store-'));
  closing.push(() => rm(folder, { recursive: true, force: true }));
});

function directory(): Keeper {
  const path = join(folder, 'shared');
  const away = join(folder, 'away');
  return {
    async start() {
      if (existsSync(away)) await rename(away, path);
      else await mkdir(path);
    },
    async stop() {
      if (existsSync(path)) await rename(path, away);
    },
    address: () => ({ kind: 'directory', path }),
    async damage(kind, name, text) {
      const file = kind === 'hosts' || kind === 'vms' ? `${name}@000000000001` : `${name}.json`;
      await writeFile(join(path, kind, file), text);
    },
  };
}

function etcd(): Keeper {
  let process: EtcdProcess | undefined;
  return {
    async start() {
      process ??= await EtcdProcess.in(folder);
      await process.start();
    },
    stop: async () => process?.kill(),
    address: () => ({ kind: 'etcd', endpoints: [`${process?.url}/`] }),
    async damage(kind, name, text) {
      const [key, value] = [`lockstep/cluster/${kind}/${name}`, text].map((part) =>
        Buffer.from(part).toString('base64'),
      );
      await fetch(`${process?.url}/v3/kv/put`, { method: 'POST', body: JSON.stringify({ key, value }) });
    },
  };
}

const KEEPERS = [
  { name: 'a directory', make: directory, missing: false },
  { name: 'etcd', make: etcd, missing: ETCD_IS_MISSING },
] as const;

/** A process of its own, and the lines that it has said. */
class Client {
  readonly child: ChildProcess;
  readonly lines: unknown[] = [];
  readonly ended: Promise<void>;

  constructor(task: ClientTask) {
    const program = join(repositoryRoot(), 'dist/tests/cluster-store-client.js');
    this.child = spawn(process.execPath, [program, JSON.stringify(task)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    createInterface({ input: this.child.stdout! }).on('line', (line) => this.lines.push(JSON.parse(line)));
    this.ended = new Promise((resolve) => this.child.once('close', () => resolve()));
    closing.push(() => this.kill());
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

describe.each(KEEPERS.filter(({ missing }) => !missing))("a cluster's store: $name", ({ make }) => {
  let keeper: Keeper;
  let store: ClusterStore;
  const connect = (): ClusterStore => {
    const opened = openStore(keeper.address(), PRESENCE_MS);
    closing.push(() => opened.close());
    return opened;
  };
  const watch = (): Watched => {
    const watched = new Watched(connect());
    closing.push(watched.stop);
    return watched;
  };
  const read = async () => must(await store.read());
  beforeEach(async () => {
    keeper = make();
    closing.push(() => keeper.stop());
    await keeper.start();
    store = connect();
  });

  test('what is written is read, in the order of names, by others too', async () => {
    expect((await read()).content).toEqual({ hosts: [], vms: [], instances: [] });
    const document = vmNamed('vm2', { disks: ['vda'], deep: [{ n: 1.5 }] });
    for (const name of ['b', 'a']) must(await store.writeHost(hostNamed(name), undefined));
    must(await store.writeVm(document, undefined));
    must(await store.writeVm(vmNamed('vm1'), undefined));
    must(
      await store.reportInstances('b', [
        { ...instanceOf('vm2', 'b', 'WAIT'), role: 'backup', address: 'b:1' },
      ]),
    );
    must(await store.reportInstances('a', [instanceOf('vm2', 'a'), instanceOf('vm1', 'a')]));
    const reading = must(await connect().read());
    expect(reading.content.hosts).toEqual(['a', 'b'].map((n) => ({ ...hostNamed(n), presence: undefined })));
    expect(reading.content.vms.map(({ name }) => name)).toEqual(['vm1', 'vm2']);
    expect(reading.content.instances.map(({ vm, host, role }) => [vm, host, role])).toEqual([
      ['vm1', 'a', 'primary'],
      ['vm2', 'a', 'primary'],
      ['vm2', 'b', 'backup'],
    ]);
    expect(reading.content.instances[2]?.address).toBe('b:1');
    expect(reading.vms.get('vm2')?.value).toEqual(document);
    expect(reading.damaged).toEqual([]);
  });

  test('a record changes only from the version that was read', async () => {
    const first = must(await store.writeVm(vmNamed('vm1', 1), undefined));
    if (!first.written) throw new Error('not written');
    const other = connect();
    expect(must(await other.writeVm(vmNamed('vm1', 2), undefined))).toEqual({ written: false });
    const second = must(await other.writeVm(vmNamed('vm1', 2), first.version));
    if (!second.written) throw new Error('not written');
    expect(must(await store.writeVm(vmNamed('vm1', 3), first.version))).toEqual({ written: false });
    expect(must(await store.removeVm('vm1', first.version))).toEqual({ written: false });
    expect((await read()).vms.get('vm1')).toEqual({ value: vmNamed('vm1', 2), version: second.version });
    expect(must(await store.removeVm('vm1', second.version)).written).toBe(true);
    expect((await read()).content.vms).toEqual([]);
    // The version of a record that was removed is of no use, also when there is one again.
    expect(must(await store.writeVm(vmNamed('vm1', 4), second.version))).toEqual({ written: false });
    expect(must(await store.writeVm(vmNamed('vm1', 5), undefined)).written).toBe(true);
    expect(must(await store.writeVm(vmNamed('vm1', 6), first.version))).toEqual({ written: false });
    expect((await read()).vms.get('vm1')?.value.definition).toBe(5);
  });

  test('of several processes that change one record, each change is won by exactly one', async () => {
    must(await store.read());
    const [processes, times] = [4, 15];
    const clients = Array.from(
      { length: processes },
      () => new Client({ store: keeper.address(), do: 'count', vm: 'vm1', times }),
    );
    await Promise.all(clients.map(({ ended }) => ended));
    const won = clients.flatMap(({ lines }) => lines[0] as number[]).sort((a, b) => a - b);
    expect(won).toEqual(Array.from({ length: processes * times }, (_, index) => index + 1));
    expect((await read()).vms.get('vm1')?.value.definition).toBe(processes * times);
  });

  test('the token is that of whoever came first, for everybody', async () => {
    const clients = Array.from(
      { length: 4 },
      (_, n) => new Client({ store: keeper.address(), do: 'token', proposed: `secret ${n}` }),
    );
    await Promise.all(clients.map(({ ended }) => ended));
    const tokens = new Set(clients.map(({ lines }) => must(lines[0] as Result<string>)));
    expect(tokens.size).toBe(1);
    expect([...tokens][0]).toMatch(/^secret [0-3]$/);
    expect(must(await store.token('late'))).toBe([...tokens][0]);
  });

  test('a host is present while its daemon lives, and no longer; what it ran stays told', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    must(await store.reportInstances('a', [instanceOf('vm1', 'a')]));
    const watched = watch();
    const daemon = new Client({
      store: keeper.address(),
      do: 'announce',
      host: 'a',
      presenceMs: PRESENCE_MS,
    });
    await until(() => watched.isPresent('a'));
    expect(watched.newest?.content.hosts[0]?.presence).toEqual(presenceOf('a'));
    const before = watched.readings.length;
    await pause(PRESENCE_MS * 1.5);
    expect(watched.readings.slice(before)).toEqual([]);
    expect((await read()).content.hosts[0]?.presence).toBeDefined();
    await daemon.kill();
    await until(() => !watched.isPresent('a'));
    expect(watched.newest?.content.instances).toEqual([instanceOf('vm1', 'a')]);
  });

  test('a daemon that stands still is absent, and is back when it goes on', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    const watched = watch();
    const daemon = new Client({
      store: keeper.address(),
      do: 'announce',
      host: 'a',
      presenceMs: PRESENCE_MS,
    });
    await until(() => watched.isPresent('a'));
    daemon.child.kill('SIGSTOP');
    await until(() => !watched.isPresent('a'));
    daemon.child.kill('SIGCONT');
    await until(() => watched.isPresent('a'));
  });

  test('a daemon that withdraws is absent at once', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    const watched = watch();
    const announcement = store.announce('a', presenceOf('a'), () => {});
    await until(() => watched.isPresent('a'));
    await announcement.withdraw();
    expect((await read()).content.hosts[0]?.presence).toBeUndefined();
    await until(() => !watched.isPresent('a'));
  });

  test('two daemons of one name: the second is told, and takes over when the first is gone', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    const watched = watch();
    const first = store.announce('a', presenceOf('a'), () => {});
    await until(() => watched.isPresent('a'));
    const said: string[] = [];
    connect().announce('a', { ...presenceOf('a'), api: 'x:1', certificate: 'another' }, (line) =>
      said.push(line),
    );
    await until(() => said.length > 0);
    expect(said[0]).toMatch(/^a is not announced: .*a daemon at a:7000 goes by the same name/);
    expect((await read()).content.hosts[0]?.presence?.api).toBe('a:7000');
    await first.withdraw();
    await until(() => said.length > 1);
    expect(said).toEqual([said[0], 'a is announced again']);
    expect((await read()).content.hosts[0]?.presence?.api).toBe('x:1');
  });

  test('a daemon that is started again takes its own name over at once', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    const watched = watch();
    const before = new Client({
      store: keeper.address(),
      do: 'announce',
      host: 'a',
      presenceMs: PRESENCE_MS,
    });
    await until(() => watched.isPresent('a'));
    await before.kill();
    const said: string[] = [];
    store.announce('a', { ...presenceOf('a'), api: 'a:7001' }, (line) => said.push(line));
    await until(() => watched.newest?.content.hosts[0]?.presence?.api === 'a:7001');
    expect(said).toEqual([]);
    // The silence of the one before is not this one's.
    const readings = watched.readings.length;
    await pause(PRESENCE_MS * 1.2);
    expect(watched.readings.length).toBe(readings);
  });

  test('a watcher sees every change in the end, and nothing that is none', async () => {
    const watched = watch();
    await until(() => watched.newest !== undefined);
    const writers = [connect(), connect(), connect()];
    await Promise.all(
      writers.map(async (writer, w) => {
        for (let n = 0; n < 8; n++) {
          must(await writer.writeVm(vmNamed(`vm-${w}-${n}`), undefined));
          must(await writer.reportInstances(`h${w}`, [instanceOf(`vm-${w}-${n}`, `h${w}`)]));
        }
      }),
    );
    const { vms } = await read();
    must(await store.removeVm('vm-0-0', vms.get('vm-0-0')!.version));
    const expected = await read();
    await until(
      () => watched.newest?.content.vms.length === 23 && watched.newest.content.instances.length === 3,
    );
    await until(() => JSON.stringify(watched.newest?.content) === JSON.stringify(expected.content));
    const count = watched.readings.length;
    const { confirmations } = watched;
    await until(() => watched.confirmations > confirmations + 1);
    expect(watched.readings.length).toBe(count);
  });

  test('a watch that was ended says nothing more', async () => {
    const watched = watch();
    await until(() => watched.newest !== undefined);
    watched.stop();
    const count = watched.readings.length;
    must(await store.writeHost(hostNamed('a'), undefined));
    await pause(600);
    expect(watched.readings.length).toBe(count);
  });

  test('what is damaged is told by its key, and nothing else is missed', async () => {
    must(await store.writeHost(hostNamed('a'), undefined));
    must(await store.writeVm(vmNamed('vm1'), undefined));
    await keeper.damage('hosts', 'b', '{"name":"b","memoryBytes":-1,"cores":1,"maintenance":false}');
    await keeper.damage('vms', 'vm2', '{"vm":');
    await keeper.damage('instances', 'c', '[{"vm":"vm1"}]');
    await keeper.damage('presence', 'a', '"hello"');
    const reading = await read();
    expect(reading.damaged.map(({ key, reason }) => [key, reason])).toEqual([
      ['hosts/b', 'its "memoryBytes" is no number of bytes'],
      ['presence/a', 'its "api" is no address'],
      ['vms/vm2', 'it is no JSON'],
      ['instances/c', 'instance 0 of it is none'],
    ]);
    expect(reading.content.hosts).toEqual([{ ...hostNamed('a'), presence: undefined }]);
    expect(reading.content.vms.map(({ name }) => name)).toEqual(['vm1']);
    // It is there, although nobody can read it.
    expect(must(await store.writeVm(vmNamed('vm2'), undefined))).toEqual({ written: false });
    const { version } = reading.damaged.find(({ key }) => key === 'vms/vm2')!;
    expect(must(await store.writeVm(vmNamed('vm2'), version)).written).toBe(true);
    expect((await read()).damaged.map(({ key }) => key)).toEqual(['hosts/b', 'presence/a', 'instances/c']);
  });

  test('what nobody could read is not written', async () => {
    const host = await store.writeHost({ ...hostNamed('a'), cores: 0 }, undefined);
    expect(host).toEqual({ ok: false, error: 'hosts/a cannot be stored: its "cores" is no number from 1' });
    const vm = await store.writeVm(vmNamed('../vm1'), undefined);
    expect(vm.ok ? '' : vm.error).toMatch(/^"\.\.\/vm1" is no name/);
    const instances = await store.reportInstances('a', [instanceOf('vm1', 'b')]);
    expect(instances).toEqual({ ok: false, error: 'instances/a cannot be stored: vm1-1 is of b' });
    expect((await read()).content).toEqual({ hosts: [], vms: [], instances: [] });
  });

  test('a host that is removed takes along what it told', async () => {
    const written = must(await store.writeHost(hostNamed('a'), undefined));
    if (!written.written) throw new Error('not written');
    must(await store.reportInstances('a', [instanceOf('vm1', 'a')]));
    expect(must(await store.removeHost('a', written.version)).written).toBe(true);
    expect((await read()).content).toEqual({ hosts: [], vms: [], instances: [] });
    must(await store.writeHost(hostNamed('a'), undefined));
    expect((await read()).content.hosts).toEqual([{ ...hostNamed('a'), presence: undefined }]);
  });

  test('out of reach everybody is told once, in one line; when it is back all goes on', async () => {
    const host = must(await store.writeHost(hostNamed('a'), undefined));
    const watched = watch();
    const said: string[] = [];
    connect().announce('a', presenceOf('a'), (line) => said.push(line));
    await until(() => watched.isPresent('a'));
    await keeper.stop();
    await until(() => watched.troubles.length > 0 && said.length > 0);
    for (const failure of [
      await store.read(),
      await store.writeHost(hostNamed('a'), host.written ? host.version : undefined),
      await store.reportInstances('a', []),
      await store.token('new'),
    ]) {
      expect(failure.ok ? '' : failure.error).toMatch(/^the cluster's store .+: .+$/);
    }
    const { confirmations } = watched;
    await pause(1_000);
    expect(watched.confirmations).toBe(confirmations);
    expect(watched.troubles).toHaveLength(1);
    expect(watched.troubles[0]).toMatch(/^the cluster's store .+$/);
    expect(said).toHaveLength(1);
    const count = watched.readings.length;
    await keeper.start();
    await until(() => watched.readings.length > count && said.length > 1);
    expect(said[1]).toBe('a is announced again');
    await until(() => watched.isPresent('a'));
    must(await store.writeVm(vmNamed('vm1'), undefined));
    await until(() => watched.newest?.content.vms.length === 1);
    expect(watched.troubles).toHaveLength(1);
  });
});
