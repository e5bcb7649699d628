import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RedisClients } from '../bench/chaos/redis-clients.ts';
import { judge } from '../bench/chaos/redis-history.ts';
import { FT_VERBS, POWER_VERBS } from '../src/host/api.ts';
import { callApi, followApi } from '../src/host/daemon/api-client.ts';
import { buildImage } from '../src/host/image/build-image.ts';
import { runLockstep } from '../tools/cluster/cluster-host.ts';
import { TestCluster, until } from '../tools/cluster/test-cluster.ts';
import { readPcap } from './data/pcap-reader.ts';

/** Host daemons with a real guest under load, on this machine: what a user types, and what comes of it. */

const CLIENTS = 4;
const THINK_MS = 20;
const SLOW = 90_000;

describe('three hosts of one cluster', () => {
  let cluster: TestCluster;
  let clients: RedisClients;

  beforeAll(async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    cluster = await TestCluster.start(image.value, { hosts: ['a', 'b', 'c'] });
    const [a] = cluster.hosts;
    await a!.do('vm', 'create', await cluster.vmFile());
    await a!.do('vm', 'start', 'web', '--on', 'a', '--wait');
    await cluster.serving();
    clients = await RedisClients.open(() => cluster.redis(), CLIENTS, THINK_MS);
    clients.start('verbs');
  }, SLOW);

  afterAll(async () => {
    await cluster?.close();
  }, SLOW);

  /** The load runs on: nobody lost a connection, and everybody got answers since. */
  async function served(): Promise<void> {
    const before = clients.answered;
    await until(30_000, 'clients get no answers', () => clients.answered > before + CLIENTS * 5);
    expect([clients.connectionsLost, clients.refusal]).toEqual([0, undefined]);
  }

  const host = (name: string) => cluster.host(name);
  const web = (what: string, is: Parameters<TestCluster['vmIs']>[3]) => cluster.vmIs('web', 60_000, what, is);

  test('a VM with fault tolerance is Protected, with its two sides on two hosts', async () => {
    const vm = await host('b').vm('web');
    expect(vm.protection).toBe('Protected');
    expect(vm.primaryHost).toBe('a');
    expect(['b', 'c']).toContain(vm.secondaryHost);
    await served();
  });

  test(
    'off and on: the guest works on',
    async () => {
      await host('c').do('ft', 'off', 'web');
      const alone = await web('web is not alone', ({ secondaryHost }) => secondaryHost === undefined);
      expect(alone.protection).toBe('Not Protected: Disabled');
      expect((await host('b').lockstep('ft', 'off', 'web')).error).toBe(
        'lockstep: fault tolerance of web is off already\n',
      );
      expect((await host('b').lockstep('ft', 'resume', 'web')).error).toBe(
        'lockstep: fault tolerance of web is off: lockstep ft on web\n',
      );
      await served();
      await host('b').do('ft', 'on', 'web', '--wait');
      expect((await host('a').vm('web')).protection).toBe('Protected');
      await served();
    },
    SLOW,
  );

  test(
    'migrate-secondary moves it to the third host, without an unprotected moment',
    async () => {
      const { secondaryHost } = await host('a').vm('web');
      const other = secondaryHost === 'b' ? 'c' : 'b';
      await host('a').do('ft', 'migrate-secondary', 'web', '--to', other);
      const moved = await host('a').vm('web');
      expect([moved.protection, moved.primaryHost, moved.secondaryHost]).toEqual(['Protected', 'a', other]);
      await served();
    },
    SLOW,
  );

  test(
    'a copy whose target dies midway leaves everything as it was',
    async () => {
      const before = await host('a').vm('web');
      const other = ['b', 'c'].find((name) => name !== before.secondaryHost)!;
      const moving = host('a').lockstep('ft', 'migrate-secondary', 'web', '--to', other);
      let killed = false;
      await until(60_000, 'no copy begins', async () => {
        const vm = await host('a').vm('web');
        const target = vm.instances.find(({ host: at }) => at === other);
        if (target?.state !== 'LOAD') return false;
        const { processes } = JSON.parse(await host(other).do('host', 'status', '--json')) as {
          processes: { id: string; pid: number }[];
        };
        const { pid } = processes.find(({ id }) => id === target.id)!;
        process.kill(pid, 'SIGKILL');
        killed = true;
        return true;
      });
      const answer = await moving;
      expect([killed, answer.code]).toEqual([true, 2]);
      expect(answer.error).toBe(
        `lockstep: the secondary of web did not come up on ${other}: the one before stays\n`,
      );
      const after = await host('a').vm('web');
      expect([after.protection, after.primaryHost, after.secondaryHost]).toEqual([
        'Protected',
        before.primaryHost,
        before.secondaryHost,
      ]);
      await served();
    },
    SLOW,
  );

  test(
    'test-failover kills the primary: the secondary goes on and gets a new one',
    async () => {
      const before = await host('a').vm('web');
      await host('a').do('ft', 'test-failover', 'web', '--wait');
      const after = await host('a').vm('web');
      expect([after.protection, after.primaryHost]).toEqual(['Protected', before.secondaryHost]);
      await served();
    },
    SLOW,
  );

  test(
    'test-restart-secondary kills the secondary: a new one comes up',
    async () => {
      const before = await host('a').vm('web');
      await host('a').do('ft', 'test-restart-secondary', 'web', '--wait');
      const after = await host('a').vm('web');
      expect([after.protection, after.primaryHost]).toEqual(['Protected', before.primaryHost]);
      await served();
    },
    SLOW,
  );

  test(
    'migrate moves the primary to a host that had neither side',
    async () => {
      const before = await host('a').vm('web');
      const [third] = ['a', 'b', 'c'].filter(
        (name) => name !== before.primaryHost && name !== before.secondaryHost,
      );
      await host('a').do('vm', 'migrate', 'web', '--to', third!);
      expect((await host('a').vm('web')).primaryHost).toBe(third);
      await served();
      await web('web is not Protected again', ({ protection }) => protection === 'Protected');
      await served();
    },
    SLOW,
  );

  test(
    "a daemon's death is nothing to its VMs, and the next daemon finds them again",
    async () => {
      const { primaryHost } = await host('a').vm('web');
      const primary = host(primaryHost!);
      const [other] = cluster.hosts.filter(({ name }) => name !== primaryHost);
      primary.killDaemon();
      await served();
      await primary.start();
      expect(primary.events.some(({ kind, vm }) => kind === 'found' && vm === 'web')).toBe(true);
      expect((await primary.vm('web')).primaryHost).toBe(primaryHost);
      await other!.do('vm', 'pause', 'web');
      await other!.do('vm', 'resume', 'web');
      await served();
    },
    SLOW,
  );

  test(
    'a VM process that does not answer is no reason for a daemon not to start, nor to take it for dead',
    async () => {
      const { primaryHost, instances } = await host('a').vm('web');
      const backup = instances.find(({ role }) => role === 'backup')!;
      const [stopped, other] = [host(backup.host), host(primaryHost!)];
      const { processes } = JSON.parse(await stopped.do('host', 'status', '--json')) as {
        processes: { pid: number }[];
      };
      stopped.killDaemon();
      process.kill(processes[0]!.pid, 'SIGSTOP');
      try {
        await stopped.start();
        const told = await cluster.vmIs(
          'web',
          60_000,
          'the stopped process is not told of',
          ({ instances: now }) => now.some(({ id, present }) => id === backup.id && present),
        );
        expect(told.primaryHost).toBe(other.name);
      } finally {
        process.kill(processes[0]!.pid, 'SIGCONT');
      }
      await web('web is not Protected again', ({ protection }) => protection === 'Protected');
      await served();
    },
    SLOW,
  );

  test(
    'of two that start a VM at one moment at most one does',
    async () => {
      const file = await cluster.vmFile({
        name: 'twin',
        memory: '128M',
        storage: undefined,
        network: undefined,
        faultTolerance: 'off',
      });
      await host('a').do('vm', 'create', file);
      const answers = await Promise.all([
        host('a').lockstep('vm', 'start', 'twin', '--on', 'a'),
        host('b').lockstep('vm', 'start', 'twin', '--on', 'b'),
      ]);
      const started = answers.filter(({ code }) => code === 0).length;
      expect(started).toBeLessThanOrEqual(1);
      for (const { code, error } of answers)
        if (code !== 0)
          expect(error).toMatch(/is on host [ab] already, or is being started there|is on already/);
      const { instances } = await host('c').vm('twin');
      expect(instances.filter(({ state }) => state === 'SOLE')).toHaveLength(started);
      if (started === 0) await host('a').do('vm', 'start', 'twin', '--on', 'c');
    },
    SLOW,
  );

  test(
    'what runs on a silent host is neither forgotten nor started again by mistake',
    async () => {
      const { primaryHost } = await host('a').vm('twin');
      const silent = host(primaryHost!);
      const asked = cluster.hosts.find(({ name }) => name !== primaryHost)!;
      silent.killDaemon();
      await cluster.vmIs(
        'twin',
        60_000,
        'the host is not seen absent',
        ({ instances }) => instances.every(({ host: at, present }) => at !== silent.name || !present),
        [asked],
      );
      const refused = async (...words: string[]) => (await asked.lockstep(...words)).error;
      expect(await refused('vm', 'start', 'twin')).toContain(`twin may still run on ${silent.name}`);
      expect(await refused('vm', 'destroy', 'twin')).toContain(`twin may still run on ${silent.name}`);
      expect(await refused('vm', 'set', 'twin', 'timing={"leaseMs":5000}')).toContain(
        'twin is on, or may be on a silent host: "timing" is changed while it is off',
      );
      expect(await refused('cluster', 'forget', silent.name)).toContain('say so with --surely-off');
      await silent.start();
      expect(await refused('cluster', 'forget', silent.name, '--surely-off')).toContain(
        `host ${silent.name} is up`,
      );
      await asked.do('vm', 'stop', 'twin', '--force');
      await cluster.vmIs('twin', 60_000, 'twin is not off', ({ instances }) =>
        instances.every(({ state }) => state === 'FAILED'),
      );
      await asked.do('vm', 'destroy', 'twin');
    },
    SLOW,
  );

  test('a second daemon of the same name is turned away, and nothing is told in its name', async () => {
    const state = join(cluster.folder, 'other');
    const store = join(cluster.folder, 'store');
    const second = await runLockstep(['host', 'start', '--name', 'a', '--state', state, '--cluster', store]);
    expect(second.code).toBe(2);
    expect(second.error).toBe(
      'lockstep: there is a host "a" in this cluster already: give this one another --name\n',
    );
    expect((await host('b').vm('web')).protection).toBe('Protected');
  });

  test(
    'maintenance empties a host, and nothing comes back until it is over',
    async () => {
      const { primaryHost } = await host('a').vm('web');
      const leaving = host(primaryHost!);
      await leaving.do('host', 'maintenance', 'on', '--wait');
      const moved = await web(
        'web is not Protected elsewhere',
        ({ protection }) => protection === 'Protected',
      );
      expect([moved.primaryHost, moved.secondaryHost]).not.toContain(primaryHost);
      await served();
      expect(await leaving.do('host', 'maintenance', 'off')).toContain('up');
    },
    SLOW,
  );

  test(
    "a capture of the guest's interface is a whole file on any host, and the guest and its pair go on",
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'lockstep-capture-'));
      const file = join(folder, 'web.pcap');
      await host('c').do('vm', 'capture', 'web', '--out', file, '--seconds', '2');
      const packets = readPcap(await readFile(file));
      await rm(folder, { recursive: true });
      const redis = packets.filter(({ frame }) => frame.readUInt16BE(12) === 0x0800 && frame[23] === 6);
      const [source, destination] = [34, 36].map((at) => redis.map(({ frame }) => frame.readUInt16BE(at)));
      // Requests and answers of the load.
      expect(destination!.filter((port) => port === 6379).length).toBeGreaterThan(5);
      expect(source!.filter((port) => port === 6379).length).toBeGreaterThan(5);
      const times = packets.map(({ ns }) => ns);
      expect(times.every((ns, index) => index === 0 || ns >= times[index - 1]!)).toBe(true);
      expect(
        (await host('b').lockstep('vm', 'capture', 'web', '--nic', '1', '--out', '/dev/null')).error,
      ).toBe('lockstep: web has 1 interfaces: there is no 1\n');
      const full = await host('a').lockstep('vm', 'capture', 'web', '--out', '/dev/full');
      expect(full.error).toMatch(/^lockstep: \/dev\/full cannot be written: ENOSPC[^\n]*\n$/);
      expect((await host('a').vm('web')).protection).toBe('Protected');
      await served();
    },
    SLOW,
  );

  test(
    'the console is shown by any host, and takes what is typed',
    async () => {
      const { primaryHost } = await host('a').vm('web');
      const other = cluster.hosts.find(({ name }) => name !== primaryHost)!;
      const at = { socket: other.socket };
      const leave = new AbortController();
      let shown = '';
      const following = followApi(at, '/v1/vms/web/console', (text) => (shown += text), leave.signal);
      const typed = await callApi(at, 'POST', '/v1/vms/web/console', { text: '\necho answer-$((40 + 2))\n' });
      expect(typed).toEqual({ ok: true, value: {} });
      await until(
        30_000,
        () => `the console shows ${JSON.stringify(shown.slice(-200))}`,
        () => shown.includes('answer-42'),
      );
      leave.abort();
      await following;
    },
    SLOW,
  );

  test(
    'a snapshot of a protected VM under load goes on as a new VM, memory and disk of the same instant',
    async () => {
      const { primaryHost = '' } = await host('a').vm('web');
      const at = host(primaryHost);
      const folder = join(cluster.folder, 'snapshot');
      await at.do('vm', 'snapshot', 'web', '--out', folder);
      await served();
      expect((await host('a').vm('web')).protection).toBe('Protected');
      expect((await at.lockstep('vm', 'snapshot', 'web', '--out', folder)).error).toBe(
        `lockstep: ${folder} is there already: a snapshot needs a new folder\n`,
      );
      expect((await at.lockstep('vm', 'restore', folder, '--name', 'web2')).error).toMatch(
        /has its MAC addresses: add --without-network/,
      );
      await at.do('vm', 'restore', folder, '--name', 'web2', '--without-network');
      const leave = new AbortController();
      let shown = '';
      const api = { socket: at.socket };
      const following = followApi(api, '/v1/vms/web2/console', (text) => (shown += text), leave.signal);
      const script = `local t=redis.call("keys","*") table.sort(t) local s="" for _,k in ipairs(t) do s=redis.sha1hex(s..k..redis.call("dump",k)) end return #t.." "..s`;
      const lines = [
        `h() { redis-cli eval '${script}' 0; }`,
        'echo "memory $(h)"; redis-cli shutdown nosave; sync; echo 3 >/proc/sys/vm/drop_caches',
        'redis-server /etc/redis.conf >/dev/null 2>&1 & until [ "$(redis-cli ping 2>/dev/null)" = PONG ]; do sleep 0.1; done',
        'echo "disk $(h)"',
      ];
      await callApi(api, 'POST', '/v1/vms/web2/console', { text: `\n${lines.join('\n')}\n` });
      const told = (what: string) => new RegExp(`^${what} ([1-9]\\d* [0-9a-f]{40})`, 'm').exec(shown)?.[1];
      await until(
        60_000,
        () => `the console shows ${JSON.stringify(shown.slice(-500))}`,
        () => told('disk') !== undefined,
      );
      // What redis had in memory it finds on the disk again: it acknowledges nothing before.
      expect(told('memory')).toBe(told('disk'));
      leave.abort();
      await following;
      await at.do('vm', 'stop', 'web2', '--force');
      await cluster.vmIs('web2', 20_000, 'web2 is not off', ({ instances }) => instances.length === 0);
      await at.do('vm', 'destroy', 'web2');
      await served();
    },
    SLOW,
  );

  test('figures of the primary are told by any host', async () => {
    for (const { name } of cluster.hosts) {
      const figures = JSON.parse(await host(name).do('vm', 'stats', 'web', '--json')) as { role?: string };
      expect(figures.role).toBe('primary');
    }
  });

  test(
    'what cannot be is one line that says what to do',
    async () => {
      const a = host('a');
      const wrong = async (...words: string[]) => {
        const answer = await a.lockstep(...words);
        expect(answer.code).toBe(2);
        expect(answer.error.trim().split('\n')).toHaveLength(1);
        return answer.error;
      };
      expect(await wrong('vm', 'show', 'nobody')).toBe(
        'lockstep: there is no VM "nobody": lockstep vm list shows them\n',
      );
      expect(await wrong('vm', 'create', await cluster.vmFile())).toContain('there is a VM "web" already');
      expect(await wrong('vm', 'start', 'web')).toContain('web is on already');
      expect(await wrong('vm', 'destroy', 'web')).toContain('lockstep vm stop web first');
      expect(await wrong('vm', 'migrate', 'web', '--to', 'z')).toContain(
        'there is no host "z" in the cluster',
      );
      expect(await wrong('ft', 'migrate-secondary', 'web', '--to', 'z')).toContain('there is no host "z"');
      expect(await wrong('ft', 'on', 'web')).toContain('is on already');
      const file = await cluster.vmFile({ name: 'big', memory: '3G', faultTolerance: 'off' });
      await a.do('vm', 'create', file);
      expect(await wrong('vm', 'start', 'big', '--on', 'a')).toMatch(
        /host a has \d+ MiB left for guests, big needs 3272/,
      );
      await a.do('vm', 'destroy', 'big');
      await served();
    },
    SLOW,
  );

  test(
    'an image that one host owns is fetched by the others before they need it, and boots there',
    async () => {
      const image = await buildImage('demo', { progress: () => undefined });
      if (!image.ok) throw new Error(image.error);
      const { kernel, initrd } = image.value;
      const nowhere = { storage: undefined, network: undefined, faultTolerance: 'off', memory: '256M' };
      const file = (fields: object) =>
        cluster.vmFile({ ...nowhere, name: 'tiny', kernel: undefined, initrd: undefined, ...fields });
      const images = async (name: string) =>
        JSON.parse(await host(name).do('host', 'image', 'list', '--json')) as { digest: string }[];
      const add = (...words: string[]) =>
        host('a').lockstep('host', 'image', 'add', 'tiny', ...words, '--append', 'console=ttyS0');

      expect((await add('--kernel', '/nowhere/vmlinuz')).error).toBe(
        'lockstep: kernel /nowhere/vmlinuz does not exist\n',
      );
      const missing = await host('b').lockstep('vm', 'create', await file({ image: 'tiny' }));
      expect(missing.error).toMatch(/^lockstep: there is no image "tiny" here: lockstep host image add tiny/);
      const { out } = await add('--kernel', kernel, '--initrd', initrd);
      const [, digest] = /^tiny@([0-9a-f]{64})$/m.exec(out)!;
      const both = await host('b').lockstep('vm', 'create', await file({ image: 'tiny', kernel }));
      expect(both.error).toContain('image brings its kernel and initrd');

      await host('b').do('vm', 'create', await file({ image: 'tiny' }));
      for (const other of ['b', 'c'])
        await until(20_000, `${other} does not fetch it`, async () =>
          (await images(other)).some((each) => each.digest === digest),
        );
      const used = await host('a').lockstep('host', 'image', 'remove', 'tiny');
      expect(used.error).toContain('tiny boots from image tiny');
      await host('a').do('vm', 'start', 'tiny', '--on', 'c');
      let shown = '';
      const leave = new AbortController();
      const at = { socket: host('b').socket };
      const following = followApi(at, '/v1/vms/tiny/console', (text) => (shown += text), leave.signal);
      await until(30_000, 'the guest does not boot', () => shown.includes('Linux version'));
      leave.abort();
      await following;
      await host('a').do('vm', 'stop', 'tiny', '--force');
      await cluster.vmIs('tiny', 20_000, 'tiny is not off', ({ instances }) => instances.length === 0);
      await host('a').do('vm', 'destroy', 'tiny');
      await host('c').do('host', 'image', 'remove', 'tiny');
      expect(await images('c')).toEqual([]);
      await served();
    },
    SLOW,
  );

  test('a VM file with five mistakes lists all five', async () => {
    const file = await cluster.vmFile({
      name: 'no name',
      memory: 'much',
      kernel: 'vmlinuz',
      storage: { server: 'nowhere', disks: ['vda'] },
      fault: 'on',
    });
    const { code, error } = await host('a').lockstep('vm', 'create', file);
    expect(code).toBe(2);
    expect(error).toContain('has 5 mistakes');
    for (const mistake of [
      'name is letters',
      'memory much is no size',
      'kernel is no path',
      'storage.server is no address',
      'fault is unknown',
    ])
      expect(error).toContain(mistake);
  });

  test('the API describes itself, and what it does not have is one line', async () => {
    const at = { socket: host('a').socket };
    const described = await callApi<{
      openapi: string;
      paths: Record<string, Record<string, { summary?: string }>>;
    }>(at, 'GET', '/v1/openapi.json');
    if (!described.ok) throw new Error(described.error);
    const { openapi, paths } = described.value;
    expect(openapi).toMatch(/^3\./);
    for (const verb of FT_VERBS) expect(paths[`/v1/vms/{vm}/ft/${verb}`]).toHaveProperty('post');
    for (const verb of POWER_VERBS) expect(paths[`/v1/vms/{vm}/${verb}`]).toHaveProperty('post');
    for (const [path, methods] of Object.entries(paths))
      for (const [method, { summary }] of Object.entries(methods))
        expect(summary, `${method} ${path}`).toBeTruthy();
    // What daemons ask of each other is nobody else's.
    expect(Object.keys(paths).filter((path) => path.includes('instances'))).toEqual([]);
    const nothing = await callApi(at, 'GET', '/v1/nothing');
    expect(nothing).toEqual({
      ok: false,
      error: 'there is nothing at GET /v1/nothing: GET /v1/openapi.json lists what there is',
    });
    const rubbish = await callApi(at, 'POST', '/v1/instances', { kind: 'primary', vm: 7, shared: [] });
    expect(rubbish.ok).toBe(false);
  });

  test('on TCP the token and the certificate decide', async () => {
    const { hosts } = await host('a').cluster();
    const at = `https://${hosts.find(({ name }) => name === 'a')!.api}`;
    const state = join(cluster.folder, 'a');
    const token = join(state, 'token');
    const certificate = join(state, 'certificate.pem');
    const list = (tokenFile: string, pem: string) =>
      runLockstep(['vm', 'list', '--host', at, '--token-file', tokenFile, '--certificate', pem]);
    expect((await list(token, certificate)).code).toBe(0);
    const other = join(cluster.folder, 'wrong-token');
    await writeFile(other, 'f'.repeat(64));
    expect((await list(other, certificate)).error).toMatch(/^lockstep: wrong token: /);
    const otherHost = join(cluster.folder, 'b', 'certificate.pem');
    expect((await list(token, otherHost)).error).toContain('proves itself with another certificate');
    expect((await readFile(token, 'utf8')).length).toBe(64);
  });

  test(
    'a guest that switches itself off stays off',
    async () => {
      const { history, lists } = await clients.finish();
      expect(judge(history, lists)).toEqual({
        unknownOutcomes: 0,
        acknowledgedWritesLost: 0,
        notLinearizable: [],
      });
      await host('a').do('vm', 'stop', 'web', '--force');
      const off = await web(
        'web is not off',
        ({ power, instances }) => power === 'off' && instances.length === 0,
      );
      expect(off.protection).toBe('Not Protected: VM not Running');
      await host('b').do('vm', 'destroy', 'web');
      expect(JSON.parse(await host('c').do('vm', 'list', '--json'))).toEqual([]);
    },
    SLOW,
  );
});
