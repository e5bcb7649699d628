import { failed, ok, type Result } from '../base/result.ts';
import { ClusterIndex, type HostLoad, markOf, mixed } from './cluster-index.ts';
import { type ClusterContent, FAILED, type HostPresence, type Instance, type Vm } from './content.ts';
import { hasEnded, isSpare, mainPrimary } from './instance-state.ts';
import { linesOf, type Obstacle } from './obstacle.ts';

/**
 * Of a few hosts that are equally fit the freest is taken. Of many it is the freer of two, which differ from VM to VM:
 * after a failure many daemons choose at once and know nothing of each other, and all would take the one freest host
 * [Mitzenmacher 2000].
 */
const FEW = 8;

/** What a host has to offer; only the first difference counts. */
interface Fitness {
  /** A process of this VM waits there already. */
  readonly waits: boolean;
  /** Processes there of VMs that are to be kept apart from this one. */
  readonly neighbours: number;
  /** It would have more processes than cores. Primaries and backups execute alike, so they count alike. */
  readonly crowded: boolean;
  /** Of the same build, where another one is possible. */
  readonly build: boolean;
}

interface Need {
  readonly vm: Vm;
  readonly memoryBytes: number;
  /** A running VM's other side is placed: not where one is. */
  readonly pairs: boolean;
  readonly obstacle: (load: HostLoad) => Obstacle | undefined;
  /** A build that is better than another one, where it matters. */
  readonly build?: string;
}

/**
 * Where VM processes go: functions of the content alone, so that every daemon that has read the same comes to the same
 * answer. A daemon that is asked to start a process still has the last word, since its own memory may be promised to
 * another one meanwhile; it is then excepted.
 *
 * One such object serves many decisions: `reserve` tells it of what was decided.
 */
export class Placement {
  readonly index: ClusterIndex;
  readonly #reserved: Instance[] = [];

  constructor(content: ClusterContent) {
    this.index = new ClusterIndex(content);
  }

  /** A host for a backup of a VM that runs; `except`: hosts that have been tried. */
  backup(name: string, except: readonly string[]): Result<string> {
    const running = this.#running(name);
    if (!running.ok) return running;
    const { vm, memoryBytes, host, presence } = running.value;
    const obstacle = (load: HostLoad) => excepted(load, except) ?? otherVersion(load, host, presence, 'pair');
    return this.#best(`${name}'s backup`, { vm, memoryBytes, obstacle, pairs: true });
  }

  /** A host on which a VM that runs nowhere is started. */
  restart(name: string, except: readonly string[]): Result<string> {
    const vm = this.index.vms.get(name);
    if (vm === undefined) return failed(`there is no VM named ${name}`);
    const obstacle = (load: HostLoad) => excepted(load, except);
    return this.#best(name, { vm, memoryBytes: vm.memoryBytes, obstacle, pairs: false });
  }

  /**
   * A host to which a VM without a backup is moved while it runs. One of another build will do if it must, so that
   * builds can be changed host by host: it is a move, and not a pair.
   */
  move(name: string, except: readonly string[]): Result<string> {
    const running = this.#running(name);
    if (!running.ok) return running;
    const { vm, memoryBytes, host, presence } = running.value;
    const obstacle = (load: HostLoad) => excepted(load, except) ?? otherVersion(load, host, presence, 'move');
    return this.#best(name, { vm, memoryBytes, obstacle, pairs: true, build: presence.build });
  }

  /** A process of `name` will be on `host`. */
  reserve(name: string, role: 'primary' | 'backup', host: string, memoryBytes: number): void {
    const waits = this.index
      .instancesOf(name)
      .some((instance) => instance.host === host && isSpare(instance));
    if (waits && role === 'backup') return;
    const reserved: Instance = {
      ...{ vm: name, host, id: '', role, state: 'STARTING', memoryBytes },
      address: undefined,
    };
    this.#reserved.push(reserved);
    this.index.add(reserved);
  }

  /** The content alone counts again. */
  forgetReservations(): void {
    while (this.#reserved.length > 0) this.index.remove(this.#reserved.pop()!);
  }

  #running(name: string) {
    const vm = this.index.vms.get(name);
    if (vm === undefined) return failed(`there is no VM named ${name}`);
    const primary = mainPrimary(
      this.index.instancesOf(name).filter(({ host }) => this.index.hosts.get(host)?.host.presence),
    );
    if (primary === undefined) return failed(`${name} runs on no host that is present`);
    const { memoryBytes, host } = primary;
    const presence = this.index.hosts.get(host)!.host.presence!;
    return ok({ vm, memoryBytes, host, presence });
  }

  #best(what: string, need: Need): Result<string> {
    let fitness: Fitness | undefined;
    let fittest: HostLoad[] = [];
    const obstacles: (readonly [string, Obstacle])[] = [];
    const there = whatIsThere(need.vm.name, this.index.instancesOf(need.vm.name));
    for (const load of this.index.hosts.values()) {
      const here = there.get(load.host.name) ?? NOTHING_THERE;
      const obstacle =
        (need.pairs && here.side) || need.obstacle(load) || here.failure || unfit(load, need, here.waits);
      if (obstacle) {
        obstacles.push([load.host.name, obstacle]);
        continue;
      }
      const offered = fitnessOf(load, need, here.waits);
      const order = fitness === undefined ? -1 : compareFitness(offered, fitness);
      if (order > 0) continue;
      if (order < 0) fittest = [];
      fitness = offered;
      fittest.push(load);
    }
    const choices = fittest.length <= FEW ? fittest : twoFor(need.vm, fittest);
    const [freest] = choices.sort((a, b) => compareRoom(a, b, need.memoryBytes));
    return freest ? ok(freest.host.name) : failed(linesOf(what, obstacles));
  }
}

/** What a host has of the VM that is being placed. */
interface There {
  /** Two sides of a pair are never on one host (rule 10). */
  readonly side?: Obstacle;
  readonly failure?: Obstacle;
  /** A backup that nobody has copied to yet: it may become one, and its memory is taken already. */
  readonly waits: boolean;
}

const NOTHING_THERE: There = { waits: false };

function whatIsThere(name: string, instances: readonly Instance[]): ReadonlyMap<string, There> {
  const there = new Map<string, There>();
  for (const instance of instances) {
    const { host, role, state } = instance;
    const before = there.get(host) ?? NOTHING_THERE;
    if (state === FAILED)
      there.set(host, { ...before, failure: { kind: 'could not start it', text: 'could not start it' } });
    else if (isSpare(instance)) there.set(host, { ...before, waits: true });
    else if (!hasEnded(instance))
      there.set(host, { ...before, side: { kind: 'has a side of it', text: `has ${name}'s ${role}` } });
  }
  return there;
}

function unfit({ host, freeBytes }: HostLoad, { memoryBytes }: Need, waits: boolean): Obstacle | undefined {
  if (host.presence === undefined) return { kind: 'out of reach', text: 'is out of reach' };
  if (host.maintenance) return { kind: 'in maintenance', text: 'is in maintenance' };
  if (waits || freeBytes >= memoryBytes) return undefined;
  const [free, needed] = [mebibytes(Math.max(0, freeBytes)), Math.ceil(memoryBytes / 2 ** 20)];
  return { kind: 'too little memory', text: `has ${free} MiB free of the ${needed} it needs` };
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}

function excepted({ host }: HostLoad, except: readonly string[]): Obstacle | undefined {
  return except.includes(host.name) ? { kind: 'tried', text: 'has been tried' } : undefined;
}

function otherVersion(
  { host: { presence } }: HostLoad,
  of: string,
  own: HostPresence,
  purpose: 'pair' | 'move',
): Obstacle | undefined {
  if (presence === undefined) return undefined;
  if (purpose === 'move') {
    const [there, here] = [presence.snapshotFormat, own.snapshotFormat];
    const text = `has snapshot format ${there}, ${of} has ${here}`;
    return there === here ? undefined : { kind: 'another snapshot format', text };
  }
  if (presence.logFormat !== own.logFormat)
    return {
      kind: 'another log format',
      text: `has log format ${presence.logFormat}, ${of} has ${own.logFormat}`,
    };
  return presence.build !== own.build ? { kind: 'another build', text: 'runs another build' } : undefined;
}

function fitnessOf({ host, processes, groups }: HostLoad, { vm, build }: Need, waits: boolean): Fitness {
  let neighbours = 0;
  for (const group of vm.antiAffinity) neighbours += groups.get(group) ?? 0;
  return {
    waits,
    neighbours,
    crowded: processes + 1 > host.cores,
    build: build === undefined || host.presence?.build === build,
  };
}

/** Two of them, for each VM others: every host is among these for about as many VMs as any other. */
function twoFor({ name }: Vm, loads: readonly HostLoad[]): HostLoad[] {
  const vmMark = markOf(name);
  let [first, second]: (HostLoad | undefined)[] = [];
  let [firstMark, secondMark] = [-1, -1];
  for (const load of loads) {
    const mark = mixed(vmMark, load.mark);
    if (mark > firstMark) {
      [second, secondMark] = [first, firstMark];
      [first, firstMark] = [load, mark];
    } else if (mark > secondMark) [second, secondMark] = [load, mark];
  }
  return [first, second].filter((load) => load !== undefined);
}

/** Below zero when `a` is the better one. */
function compareFitness(a: Fitness, b: Fitness): number {
  if (a.waits !== b.waits) return a.waits ? -1 : 1;
  if (a.neighbours !== b.neighbours) return a.neighbours - b.neighbours;
  if (a.crowded !== b.crowded) return a.crowded ? 1 : -1;
  if (a.build !== b.build) return a.build ? -1 : 1;
  return 0;
}

/** Below zero when `a` has more room: processes per core where there are too many, then the share of free memory. */
function compareRoom(a: HostLoad, b: HostLoad, memoryBytes: number): number {
  const crowd = ({ processes, host }: HostLoad) => Math.max(0, processes + 1 - host.cores) / host.cores;
  const free = ({ freeBytes, host }: HostLoad) => (freeBytes - memoryBytes) / Math.max(1, host.memoryBytes);
  return crowd(a) - crowd(b) || free(b) - free(a);
}

/** The host that takes a backup of `vm`, or one line that says why none does. */
export function placeBackup(
  content: ClusterContent,
  vm: string,
  except: readonly string[] = [],
): Result<string> {
  return new Placement(content).backup(vm, except);
}

/** The host on which `vm` is started, or one line that says why on none. */
export function placeRestart(
  content: ClusterContent,
  vm: string,
  except: readonly string[] = [],
): Result<string> {
  return new Placement(content).restart(vm, except);
}

/** The host to which `vm` is moved, or one line that says why to none. */
export function placeMove(
  content: ClusterContent,
  vm: string,
  except: readonly string[] = [],
): Result<string> {
  return new Placement(content).move(vm, except);
}
