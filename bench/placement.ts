import { runScale, scaleWorld } from '../sim/cluster/scale-scenario.ts';
import { Placement } from '../src/cluster/placement.ts';
import { decide } from '../src/cluster/reconcile.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from './bench.ts';

const SCALE = { hosts: 100, vms: 1000, rackHosts: 10, racksMaintained: 10, deaths: 5 };
const CALLS = 200;

/**
 * The cluster's decisions on hosts that exist in memory only [sim/cluster/cluster-world.ts]: that every VM is protected
 * again after every blow, what moves for it, and what deciding costs.
 */
export const placement: Bench = {
  name: 'placement',
  summary: '1,000 VMs on 100 simulated hosts: deaths, racks, maintenance; protected again, moves, CPU time',
  rounds: 5,
  run: async (options) => measure(options),
};

function measure({ say, rounds }: BenchOptions): BenchResult {
  const { rows, violations } = runScale(SCALE, cpuMs, say);
  say('what deciding costs');
  const { world } = scaleWorld(SCALE);
  for (let second = 0; second < 20; second++) world.step();
  const content = world.content();
  const none = new Set<string>();
  const times = { decideMs: [] as number[], placeOneUs: [] as number[], placeAllMs: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const host = content.hosts[round % content.hosts.length]!.name;
    times.decideMs.push(each(CALLS, () => decide(content, host, none)));
    const placing = new Placement(content);
    const vm = content.vms[round]!.name;
    times.placeOneUs.push(each(CALLS * 10, () => placing.backup(vm, [])) * 1000);
    times.placeAllMs.push(each(10, () => placeAll(content)));
  }
  const left = rows.reduce((sum, { unprotected }) => sum + unprotected, 0);
  const sum = (figure: 'backups' | 'migrations' | 'switchOvers' | 'moves' | 'restarts' | 'refusals') =>
    rows.reduce((total, row) => total + row[figure], 0);
  const slowest = (pattern: RegExp) =>
    Math.max(...rows.filter(({ event }) => pattern.test(event)).map(({ seconds }) => seconds));
  const complaints = [
    ...violations.slice(0, 5),
    ...(left > 0 ? [`${left} VMs were not protected again`] : []),
  ];
  return {
    bench: 'placement',
    ok: complaints.length === 0,
    figures: {
      hosts: SCALE.hosts,
      vms: SCALE.vms,
      violations: violations.length,
      unprotected: left,
      hostDeathSeconds: slowest(/ dies$/),
      rackDeathSeconds: slowest(/hosts die/),
      maintenanceSeconds: slowest(/maintenance/),
      newBackups: sum('backups'),
      movedBackups: sum('migrations'),
      switchOvers: sum('switchOvers'),
      moves: sum('moves'),
      restarts: sum('restarts'),
      refusals: sum('refusals'),
      decideMs: rounded(median(times.decideMs)),
      placeOneUs: rounded(median(times.placeOneUs), 1),
      placeAllMs: rounded(median(times.placeAllMs), 1),
      worldCpuSeconds: rounded(rows.reduce((total, { cpuMs: ms }) => total + ms, 0) / 1000, 1),
    },
    rows: rows.map((row) => ({ ...row, cpuMs: rounded(row.cpuMs, 0) })),
    complaints,
  };
}

/** A backup for every VM, one decision knowing of the other. */
function placeAll(content: ConstructorParameters<typeof Placement>[0]): void {
  const placing = new Placement(content);
  for (const { name, memoryBytes } of content.vms) {
    const placed = placing.backup(name, []);
    if (placed.ok) placing.reserve(name, 'backup', placed.value, memoryBytes);
  }
}

/** CPU milliseconds of one call. */
function each(calls: number, work: () => unknown): number {
  const before = cpuMs();
  for (let call = 0; call < calls; call++) work();
  return (cpuMs() - before) / calls;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
