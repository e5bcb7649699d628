import type { Vm } from '../../src/cluster/content.ts';
import { ClusterWorld, type WorldFigures, type WorldHost } from './cluster-world.ts';

export interface ScaleOptions {
  readonly hosts: number;
  readonly vms: number;
  readonly rackHosts: number;
  /** How many racks are emptied for maintenance, one after the other. */
  readonly racksMaintained: number;
  /** Deaths of single hosts, one after the other. */
  readonly deaths: number;
}

/** What befell the world, and how it was when it had come to rest. */
export type ScaleRow = {
  readonly event: string;
  /** Until every VM that should be is protected again, and what should be empty is. */
  readonly seconds: number;
  readonly unprotected: number;
  readonly mostProcesses: number;
  readonly cpuMs: number;
} & Readonly<Omit<WorldFigures, 'decisions'>>;

export interface ScaleResult {
  readonly rows: readonly ScaleRow[];
  readonly violations: readonly string[];
}

const GIB = 2 ** 30;
const SETTLE_SECONDS_MAX = 120;

/** Hosts of 64 GiB and 32 cores, VMs of half a GiB to two, every fifth one of an anti-affinity group. */
export function scaleWorld({ hosts, vms }: ScaleOptions): { world: ClusterWorld; names: string[] } {
  const name = (letter: string, n: number) => `${letter}${String(n).padStart(5, '0')}`;
  const all: WorldHost[] = Array.from({ length: hosts }, (_, n) => ({
    ...{ name: name('h', n), memoryBytes: 64 * GIB, cores: 32, build: 'b1' },
  }));
  const wishes = { power: 'on', faultTolerance: 'on', restart: true } as const;
  const guests = Array.from({ length: vms }, (_, n): Vm => {
    const antiAffinity = n % 5 === 0 ? [`group ${Math.floor(n / 25)}`] : [];
    return { name: name('vm', n), memoryBytes: ([1, 2, 2, 4][n % 4]! * GIB) / 2, antiAffinity, ...wishes };
  });
  return { world: new ClusterWorld(all, guests), names: all.map((host) => host.name) };
}

/** Everything at once, single deaths, a rack's death, a return, maintenance of rack after rack. */
export function runScale(
  options: ScaleOptions,
  cpuMs: () => number,
  say: (line: string) => void,
): ScaleResult {
  const { world, names } = scaleWorld(options);
  const rows: ScaleRow[] = [];
  const empty = new Set<string>();
  const after = (event: string) => {
    const [before, since, cpu] = [{ ...world.figures }, world.seconds, cpuMs()];
    do world.step();
    while (!isAtRest(world, empty) && world.seconds - since < SETTLE_SECONDS_MAX);
    const { decisions: _, ...figures } = world.figures;
    const own = Object.fromEntries(
      Object.entries(figures).map(([figure, value]) => [
        figure,
        value - before[figure as keyof WorldFigures],
      ]),
    ) as Omit<WorldFigures, 'decisions'>;
    rows.push({
      event,
      seconds: world.seconds - since,
      unprotected: world.unprotected().length,
      mostProcesses: Math.max(...names.map((host) => world.processesOn(host))),
      cpuMs: cpuMs() - cpu,
      ...own,
    });
    say(`${event}: ${world.seconds - since} s, ${world.unprotected().length} unprotected`);
  };
  after(`${options.vms} VMs are switched on`);
  for (let n = 0; n < options.deaths; n++) {
    const host = names[(n * 37) % names.length]!;
    world.killHost(host);
    after(`${host} dies`);
    world.bringBack(host);
    after(`${host} returns`);
  }
  const rack = (n: number) => names.slice(n * options.rackHosts, (n + 1) * options.rackHosts);
  for (const host of rack(1)) world.killHost(host);
  after(`${options.rackHosts} hosts die at once`);
  for (const host of rack(1)) world.bringBack(host);
  after(`${options.rackHosts} hosts return`);
  for (let n = 0; n < options.racksMaintained; n++) {
    for (const host of rack(n)) {
      world.setMaintenance(host, true);
      empty.add(host);
    }
    after(`${options.rackHosts} hosts in maintenance`);
    for (const host of rack(n)) world.setMaintenance(host, false);
    empty.clear();
  }
  return { rows, violations: world.violations };
}

function isAtRest(world: ClusterWorld, empty: ReadonlySet<string>): boolean {
  return world.unprotected().length === 0 && [...empty].every((host) => world.processesOn(host) === 0);
}
