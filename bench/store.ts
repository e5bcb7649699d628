import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Instance, Vm } from '../src/cluster/content.ts';
import { decide } from '../src/cluster/reconcile.ts';
import type { ArbiterRequest } from '../src/ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../src/ft/identity.ts';
import { selfSigned } from '../src/host/self-signed.ts';
import { VmAuthority } from '../src/host/vm-authority.ts';
import { encodeHost, encodeInstances, encodePresence, encodeVm } from '../src/storage/cluster-records.ts';
import { EtcdArbiter } from '../src/storage/etcd-arbiter.ts';
import { EtcdClusterStore } from '../src/storage/etcd-cluster-store.ts';
import { EtcdGateway } from '../src/storage/etcd-gateway.ts';
import { EtcdPresence } from '../src/storage/etcd-presence.ts';
import { ETCD_IS_MISSING, EtcdProcess } from '../tests/etcd-process.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from './bench.ts';

const HOSTS = 1_000;
const VMS_OF_A_HOST = 10;
/** etcd's own limit on a transaction's operations is 128. */
const BATCH = 100;
const WATCHERS = 50;
const CHANGES = 100;
const CLIENTS = 16;
const LEASES = 1_000;
const PREFIX = 'lockstep/cluster/';
const PATIENCE_MS = 600_000;

/**
 * What the cluster's records weigh in etcd and what daemons cost it [docs/SCALE.md works it out for more]: one member
 * on this machine, through the gateway that daemons use. CPU times are of etcd's process, in ticks of 10 ms.
 */
export const store: Bench = {
  name: 'store',
  summary: 'sizes of records in etcd, and what reading, renewing, watching and changing them costs it',
  rounds: 3,
  settings: { hosts: `N, ${HOSTS} by default; ten VMs each` },
  run: measure,
};

async function measure({ say, rounds, settings }: BenchOptions): Promise<BenchResult> {
  const hosts = Number(settings.hosts ?? HOSTS);
  const wrong = ETCD_IS_MISSING
    ? 'etcd is missing: apt-get install etcd-server'
    : Number.isInteger(hosts) && hosts > 0
      ? undefined
      : '--hosts takes a number from 1';
  if (wrong !== undefined) return { bench: 'store', ok: false, figures: {}, rows: [], complaints: [wrong] };
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-bench-store-'));
  const etcd = await EtcdProcess.in(folder);
  try {
    await etcd.start();
    return await measured(etcd, hosts, rounds, say);
  } finally {
    await etcd.kill();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measured(
  etcd: EtcdProcess,
  hosts: number,
  rounds: number,
  say: BenchOptions['say'],
): Promise<BenchResult> {
  const gateway = new EtcdGateway([etcd.url]);
  const records = await recordsOf(hosts);
  const figures: Record<string, number> = { hosts, vms: hosts * VMS_OF_A_HOST };
  for (const kind of ['hosts', 'presence', 'vms', 'instances'] as const) {
    const own = records.filter(({ key }) => key.startsWith(`${PREFIX}${kind}/`));
    const bytes = own.reduce((sum, { key, text }) => sum + key.length + Buffer.byteLength(text), 0);
    figures[`${kind}Bytes`] = rounded(bytes / own.length, 0);
  }
  say(`writing ${records.length} records`);
  for (let at = 0; at < records.length; at += BATCH)
    await gateway.writeIf([], records.slice(at, at + BATCH), patience());
  figures.databaseMB = rounded((await databaseBytes(etcd)) / 1e6, 1);
  figures.etcdMB = rounded(residentBytes(etcd) / 1e6, 0);

  say('reading all of it');
  const reading = new EtcdClusterStore({ endpoints: [etcd.url], answerMs: PATIENCE_MS });
  const reads: { wallMs: number; etcdMs: number; ownMs: number }[] = [];
  let content = await reading.read();
  for (let round = 0; round < rounds; round++) {
    const [own, before, since] = [ownCpuMs(), cpuMs(etcd), performance.now()];
    content = await reading.read();
    reads.push({
      wallMs: performance.now() - since,
      etcdMs: cpuMs(etcd) - before,
      ownMs: ownCpuMs() - own,
    });
  }
  if (!content.ok) throw new Error(content.error);
  const complaints = content.value.damaged.map(({ key, reason }) => `${key}: ${reason}`).slice(0, 5);
  if (content.value.content.vms.length !== hosts * VMS_OF_A_HOST) complaints.push('VMs are missing');
  figures.readMs = rounded(median(reads.map(({ wallMs }) => wallMs)), 0);
  figures.readEtcdCpuMs = rounded(median(reads.map(({ etcdMs }) => etcdMs)), 0);
  figures.readOwnCpuMs = rounded(median(reads.map(({ ownMs }) => ownMs)), 0);
  const cluster = content.value.content;
  const decided = ownCpuMs();
  for (let round = 0; round < rounds; round++) decide(cluster, cluster.hosts[0]!.name, new Set());
  figures.decideMs = rounded((ownCpuMs() - decided) / rounds, 1);

  say('renewing presence');
  const sample = cluster.hosts[0]!.presence!;
  const signs = Array.from(
    { length: CLIENTS },
    (_, n) => new EtcdPresence(gateway, `bench/presence/${n}`, sample, 60_000),
  );
  for (const sign of signs) await sign.renew(patience());
  figures.renewEtcdCpuUs = await perCall(etcd, 2_000, (n) => signs[n % CLIENTS]!.renew(patience()));
  // What the members have to agree on and to write to their disks: nothing, for a renewal.
  const agreed = await raftIndex(etcd);
  for (const sign of signs) await sign.renew(patience());
  figures.renewRaftEntries = rounded(((await raftIndex(etcd)) - agreed) / CLIENTS, 1);
  say("renewing VMs' leases at the arbiter");
  const arbiter = new EtcdArbiter({ endpoints: [etcd.url], prefix: 'bench/' });
  const lease = (kind: 'restart' | 'renew', n: number) => {
    const own = { vm: vmId(`vm${n}`), nonce: nonce(`${kind}${n}`), instance: instanceId(`i${n}`) };
    const request: ArbiterRequest =
      kind === 'renew' ? { kind, ...own, epoch: epoch(1) } : { kind, ...own, expected: epoch(0) };
    return arbiter.ask(request, patience());
  };
  for (let n = 0; n < CLIENTS; n++) await lease('restart', n);
  const before = await raftIndex(etcd);
  figures.leaseEtcdCpuUs = await perCall(etcd, LEASES, (n) => lease('renew', n % CLIENTS));
  figures.leaseRaftEntries = rounded(((await raftIndex(etcd)) - before) / LEASES, 1);
  say('asking');
  figures.askEtcdCpuUs = await perCall(etcd, 2_000, () => gateway.read([`${PREFIX}beat`], patience()));
  say('changing instances');
  const lists = records.filter(({ key }) => key.startsWith(`${PREFIX}instances/`)).slice(0, CHANGES);
  figures.changeEtcdCpuUs = await perCall(etcd, 2_000, (n) =>
    gateway.writeIf([], [lists[n % lists.length]!], patience()),
  );
  say(`${WATCHERS} watchers of ${CHANGES} changes`);
  figures.eventEtcdCpuUs = await watched(etcd, gateway, lists);
  await reading.close();
  return { bench: 'store', ok: complaints.length === 0, figures, rows: [], complaints };
}

/** One for each question: a signal of many would keep a listener of each. */
function patience(): AbortSignal {
  return AbortSignal.timeout(PATIENCE_MS);
}

/** Microseconds of etcd's CPU for one call, with a few callers at once. */
async function perCall(
  etcd: EtcdProcess,
  calls: number,
  call: (n: number) => Promise<unknown>,
): Promise<number> {
  const before = cpuMs(etcd);
  let next = 0;
  const caller = async (client: number) => {
    // Each caller has its own sign of life: no two renew one at once.
    for (let n = client; next < calls; n += CLIENTS) {
      next += 1;
      await call(n);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, client) => caller(client)));
  return rounded(((cpuMs(etcd) - before) * 1000) / calls, 0);
}

/** Microseconds of etcd's CPU for one change that one watcher is told. */
async function watched(
  etcd: EtcdProcess,
  gateway: EtcdGateway,
  lists: readonly { readonly key: string; readonly text: string }[],
): Promise<number> {
  const ending = new AbortController();
  const { revision } = await gateway.readAll('bench/none/', ending.signal);
  let told = 0;
  const watchers = Array.from({ length: WATCHERS }, async () => {
    for await (const changes of gateway.changes(PREFIX, revision, ending.signal)) {
      told += changes.length;
      if (told >= WATCHERS * lists.length) ending.abort();
    }
  });
  const ended = Promise.allSettled(watchers);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const before = cpuMs(etcd);
  for (const list of lists) await gateway.writeIf([], [list], patience());
  await ended;
  return rounded(((cpuMs(etcd) - before) * 1000) / (WATCHERS * lists.length), 1);
}

// ---------------------------------------------------------------------------------------------------- records

/** As daemons write them: a VM of the file in docs/CLUSTER.md, its authority, both sides of ten pairs on a host. */
async function recordsOf(hosts: number): Promise<{ readonly key: string; readonly text: string }[]> {
  const { certificate } = await selfSigned('Lockstep host h000000');
  const name = (letter: string, n: number) => `${letter}${String(n).padStart(6, '0')}`;
  const authority = (await VmAuthority.create('vm000000')).encode();
  const vmName = (host: number, n: number) => name('vm', (host % hosts) * VMS_OF_A_HOST + n);
  const records: { key: string; text: string }[] = [];
  for (let host = 0; host < hosts; host++) {
    const own = name('h', host);
    const api = `10.${host >> 16}.${(host >> 8) & 255}.${host & 255}:7443`;
    const presence = {
      api,
      certificate,
      build: 'b'.repeat(16),
      logFormat: 2,
      snapshotFormat: 1,
    };
    const instances: Instance[] = [];
    for (let n = 0; n < VMS_OF_A_HOST; n++) {
      const common = { host: own, memoryBytes: 600 * 2 ** 20 };
      const [here, before] = [vmName(host, n), vmName(host + hosts - 1, n)];
      instances.push(
        { ...common, vm: here, id: '0123abcd', role: 'primary', state: 'PAIR', address: api },
        { ...common, vm: before, id: '4567cdef', role: 'backup', state: 'BACK', address: api },
      );
      records.push({ key: `${PREFIX}vms/${here}`, text: encodeVm(documentOf(here, authority)) });
    }
    const memoryBytes = 64 * 2 ** 30;
    records.push(
      {
        key: `${PREFIX}hosts/${own}`,
        text: encodeHost({ name: own, memoryBytes, cores: 32, maintenance: false }),
      },
      { key: `${PREFIX}presence/${own}`, text: encodePresence(presence) },
      { key: `${PREFIX}instances/${own}`, text: encodeInstances(instances) },
    );
  }
  return records;
}

function documentOf(name: string, authority: string): Parameters<typeof encodeVm>[0] {
  const vm: Vm = {
    ...{ name, memoryBytes: 600 * 2 ** 20, power: 'on', faultTolerance: 'on', restart: true },
    antiAffinity: ['group-1'],
  };
  const definition = {
    ...{ name, memory: '512M', faultTolerance: 'on', restart: true, antiAffinity: ['group-1'] },
    ...{
      kernel: '/var/lib/lockstep/images/demo/vmlinuz',
      initrd: '/var/lib/lockstep/images/demo/initrd.img',
    },
    append: 'console=ttyS0 root=/dev/vda lockstep.address=10.0.2.15/24 lockstep.gateway=10.0.2.2',
    storage: { server: '10.0.0.1:10809', disks: ['vda', 'vdb'] },
    network: { taps: ['lockstep0'], macs: ['52:54:00:12:34:56'] },
    arbiter: {
      kind: 'etcd',
      endpoints: ['http://10.0.0.2:2379', 'http://10.0.0.3:2379', 'http://10.0.0.4:2379'],
    },
  };
  return { vm, definition, secrets: { authority } };
}

// ------------------------------------------------------------------------------------------- etcd's process

async function databaseBytes(etcd: EtcdProcess): Promise<number> {
  return Number((await statusOf(etcd)).dbSize);
}

/** How much the members have agreed on. */
async function raftIndex(etcd: EtcdProcess): Promise<number> {
  return Number((await statusOf(etcd)).raftIndex);
}

async function statusOf({ url }: EtcdProcess): Promise<{ dbSize?: string; raftIndex?: string }> {
  const answer = await fetch(`${url}/v3/maintenance/status`, { method: 'POST', body: '{}' });
  return (await answer.json()) as { dbSize?: string; raftIndex?: string };
}

function residentBytes({ pid }: EtcdProcess): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}

/** User and system time [proc(5), stat]. */
function cpuMs({ pid }: EtcdProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
