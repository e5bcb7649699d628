import { hostMilliseconds } from '../../src/base/units.ts';
import {
  type ClusterContent,
  compareInstances,
  type Host,
  type Instance,
  type Vm,
} from '../../src/cluster/content.ts';
import { LostHosts } from '../../src/cluster/lost-hosts.ts';
import { Placement } from '../../src/cluster/placement.ts';
import { type Decision, decide } from '../../src/cluster/reconcile.ts';

/**
 * Hosts, daemons and VM processes, moved on second by second by nothing but the decisions of src/cluster. It is a world
 * for placement: protocol, arbiter and copies are as simple as they can be. Within one second all daemons decide on the
 * same content, so none knows what the others are about to do: the worst case for piling up.
 */

export interface WorldHost {
  readonly name: string;
  readonly memoryBytes: number;
  readonly cores: number;
  readonly build: string;
}

interface SimulatedHost extends WorldHost {
  up: boolean;
  daemon: boolean;
  maintenance: boolean;
  /** The second in which its presence ends; the store hears of a death late. */
  presentUntil: number;
  /** Its last word. */
  told: readonly Instance[];
  readonly lost: LostHosts;
  readonly processes: Set<Process>;
}

interface Process {
  readonly vm: string;
  readonly host: SimulatedHost;
  readonly id: string;
  role: 'primary' | 'backup';
  state: string;
  /** Of a copy or a start: how long it takes yet. */
  secondsLeft: number;
  readonly memoryBytes: number;
}

export interface WorldFigures {
  /** New backups, moved backups, hand-overs, moved VMs and restarts. */
  backups: number;
  migrations: number;
  switchOvers: number;
  moves: number;
  restarts: number;
  ends: number;
  /** What a daemon was asked for and could not give: it was dead already, or its memory was promised. */
  refusals: number;
  /** Restarts that the arbiter refused, since the VM lives. */
  restartsRefused: number;
  decisions: number;
}

const PRESENCE_SECONDS = 5;
const COPY_BYTES_PER_SECOND = 2 ** 30;

export class ClusterWorld {
  readonly figures: WorldFigures = {
    backups: 0,
    migrations: 0,
    switchOvers: 0,
    moves: 0,
    restarts: 0,
    ends: 0,
    refusals: 0,
    restartsRefused: 0,
    decisions: 0,
  };
  /** What must never be, in words. */
  readonly violations: string[] = [];
  readonly vms = new Map<string, Vm>();
  seconds = 0;
  readonly #hosts = new Map<string, SimulatedHost>();
  readonly #processes = new Set<Process>();
  readonly #processesOf = new Map<string, Set<Process>>();
  /** Primaries that leave their host without a backup. */
  readonly #moving = new Set<Process>();
  /** Hosts that have refused a VM's backup. */
  readonly #tried = new Map<string, string[]>();
  #ids = 0;

  constructor(hosts: readonly WorldHost[], vms: readonly Vm[]) {
    for (const host of hosts)
      this.#hosts.set(host.name, {
        ...host,
        up: true,
        daemon: true,
        maintenance: false,
        presentUntil: Number.POSITIVE_INFINITY,
        told: [],
        lost: new LostHosts(),
        processes: new Set(),
      });
    for (const vm of vms) this.vms.set(vm.name, vm);
  }

  // ------------------------------------------------------------------------------------------ what happens

  /** With everything on it. */
  killHost(name: string): void {
    const host = this.#host(name);
    host.up = false;
    this.killDaemon(name);
    for (const process of host.processes) this.#end(process);
  }

  /** Its VM processes live on. */
  killDaemon(name: string): void {
    const host = this.#host(name);
    if (host.daemon) host.presentUntil = this.seconds + PRESENCE_SECONDS;
    host.daemon = false;
  }

  bringBack(name: string): void {
    const host = this.#host(name);
    host.up = true;
    host.daemon = true;
    host.presentUntil = Number.POSITIVE_INFINITY;
    host.lost.outOfReach();
  }

  setMaintenance(name: string, maintenance: boolean): void {
    this.#host(name).maintenance = maintenance;
  }

  setVm(vm: Vm): void {
    this.vms.set(vm.name, vm);
  }

  // ------------------------------------------------------------------------------------------ what is

  /** What the store holds. */
  content(): ClusterContent {
    const hosts = [...this.#hosts.values()].map(
      (host): Host => ({
        name: host.name,
        presence:
          this.seconds < host.presentUntil
            ? { api: host.name, certificate: host.name, build: host.build, logFormat: 1, snapshotFormat: 1 }
            : undefined,
        memoryBytes: host.memoryBytes,
        cores: host.cores,
        maintenance: host.maintenance,
      }),
    );
    return {
      hosts,
      vms: [...this.vms.values()],
      instances: [...this.#hosts.values()].flatMap(({ told }) => told).sort(compareInstances),
    };
  }

  processesOn(name: string): number {
    return this.#host(name).processes.size;
  }

  /** VMs that should run and do not, and those that should have a backup and have none. */
  unprotected(): string[] {
    return [...this.vms.values()]
      .filter(({ name, power, faultTolerance }) => {
        const primary = this.#primaryOf(name);
        if (power === 'off') return primary !== undefined;
        return primary === undefined || (faultTolerance === 'on' && primary.state !== 'PAIR');
      })
      .map(({ name }) => name);
  }

  /** One second. */
  step(): void {
    this.#protocol();
    for (const host of this.#hosts.values()) if (host.daemon) host.told = this.#instancesOn(host);
    const content = this.content();
    const now = hostMilliseconds(this.seconds * 1000);
    const placement = new Placement(content);
    for (const host of this.#hosts.values()) {
      if (!host.daemon) continue;
      host.lost.observe(content, now);
      this.#answerFindHost(host, placement);
      const decisions = decide(content, host.name, host.lost.at(now), placement);
      for (const decision of decisions) this.#carryOut(decision, host);
      this.figures.decisions += decisions.length;
    }
    this.#check();
    this.seconds += 1;
  }

  // ------------------------------------------------------------------------------------------ the protocol

  /** What VM processes do among themselves in a second. */
  #protocol(): void {
    for (const process of [...this.#processes]) {
      const { vm, role, state } = process;
      if (role === 'primary' && this.vms.get(vm)?.faultTolerance !== 'on') this.#unprotect(process);
      if (role === 'primary' && state === 'PAIR' && !this.#backupOf(vm, 'BACK')) process.state = 'SOLE';
      if (role === 'primary' && state === 'COPY' && !this.#backupOf(vm, 'LOAD'))
        process.state = this.#backupOf(vm, 'BACK') ? 'PAIR' : 'SOLE';
      if (role === 'primary' && state === 'START' && process.secondsLeft-- <= 0) process.state = 'SOLE';
      if (role === 'backup' && this.#primaryOf(vm) === undefined) {
        if (state === 'BACK') {
          process.role = 'primary';
          process.state = 'SOLE';
        } else if (state === 'LOAD') process.state = 'WAIT';
      }
      if (process.state === 'LOAD' && process.secondsLeft-- <= 0) this.#copied(process);
    }
  }

  /** Fault tolerance is off, or was turned off while it was being made. */
  #unprotect(primary: Process): void {
    if (this.#moving.has(primary)) return;
    for (const state of ['BACK', 'LOAD']) {
      const backup = this.#backupOf(primary.vm, state);
      if (backup) this.#end(backup);
    }
    if (primary.state === 'PAIR' || primary.state === 'COPY') primary.state = 'SOLE';
  }

  #copied(copy: Process): void {
    const primary = this.#primaryOf(copy.vm);
    if (primary === undefined) return;
    if (!this.#moving.has(primary)) {
      const old = this.#backupOf(copy.vm, 'BACK');
      if (old) this.#end(old);
      copy.state = 'BACK';
      primary.state = 'PAIR';
      return;
    }
    this.#end(primary);
    copy.role = 'primary';
    copy.state = 'SOLE';
  }

  // ------------------------------------------------------------------------------------------ daemons

  #answerFindHost(host: SimulatedHost, placement: Placement): void {
    for (const primary of host.processes) {
      const vm = this.vms.get(primary.vm);
      if (primary.role !== 'primary' || primary.state !== 'SOLE') continue;
      if (vm?.faultTolerance !== 'on' || vm.power !== 'on') continue;
      this.figures.decisions += 1;
      const tried = this.#tried.get(vm.name) ?? [];
      const placed = placement.backup(vm.name, tried);
      if (!placed.ok) {
        this.#tried.delete(vm.name);
        continue;
      }
      placement.reserve(vm.name, 'backup', placed.value, primary.memoryBytes);
      if (this.#copy(primary, placed.value)) this.figures.backups += 1;
      else this.#tried.set(vm.name, [...tried, placed.value]);
    }
    // What one daemon has decided the others do not know.
    placement.forgetReservations();
  }

  #carryOut(decision: Decision, host: SimulatedHost): void {
    switch (decision.kind) {
      case 'blocked':
        return;
      case 'end': {
        for (const process of host.processes) if (process.id === decision.instance) this.#end(process);
        this.figures.ends += 1;
        return;
      }
      case 'restart': {
        const vm = this.vms.get(decision.vm)!;
        this.#checkPlaced(host);
        if (this.#livesSomewhere(vm.name)) this.figures.restartsRefused += 1;
        else if (!this.#fits(host, vm.memoryBytes)) this.figures.refusals += 1;
        else {
          this.#start(vm.name, host, 'primary', 'START', 2, vm.memoryBytes);
          this.figures.restarts += 1;
        }
        return;
      }
      case 'switch-over': {
        const [primary, backup] = [this.#primaryOf(decision.vm), this.#backupOf(decision.vm, 'BACK')];
        if (primary?.state !== 'PAIR' || !backup) return;
        this.#end(primary);
        backup.role = 'primary';
        backup.state = 'SOLE';
        this.figures.switchOvers += 1;
        return;
      }
      case 'move':
      case 'migrate-backup': {
        const primary = this.#primaryOf(decision.vm);
        if (!primary || primary.state === 'COPY') return;
        if (!this.#copy(primary, decision.to)) return;
        if (decision.kind === 'move') this.#moving.add(primary);
        this.figures[decision.kind === 'move' ? 'moves' : 'migrations'] += 1;
      }
    }
  }

  /** False when the other daemon refuses, or is no more. */
  #copy(primary: Process, to: string): boolean {
    const host = this.#host(to);
    this.#checkPlaced(host);
    const spare = [...host.processes].find(({ vm, state }) => vm === primary.vm && state === 'WAIT');
    if (!host.daemon || (!spare && !this.#fits(host, primary.memoryBytes))) {
      this.figures.refusals += 1;
      return false;
    }
    const seconds = Math.ceil(primary.memoryBytes / COPY_BYTES_PER_SECOND);
    if (spare) {
      spare.state = 'LOAD';
      spare.secondsLeft = seconds;
    } else this.#start(primary.vm, host, 'backup', 'LOAD', seconds, primary.memoryBytes);
    primary.state = 'COPY';
    return true;
  }

  #start(
    vm: string,
    host: SimulatedHost,
    role: Process['role'],
    state: string,
    secondsLeft: number,
    memoryBytes: number,
  ): void {
    this.#ids += 1;
    const process: Process = { vm, host, id: `i${this.#ids}`, role, state, secondsLeft, memoryBytes };
    this.#processes.add(process);
    host.processes.add(process);
    const known = this.#processesOf.get(vm);
    if (known) known.add(process);
    else this.#processesOf.set(vm, new Set([process]));
  }

  #end(process: Process): void {
    this.#processes.delete(process);
    process.host.processes.delete(process);
    this.#processesOf.get(process.vm)?.delete(process);
    this.#moving.delete(process);
  }

  /** A daemon knows what runs on its own host, whatever the store says. */
  #fits(host: SimulatedHost, memoryBytes: number): boolean {
    let used = 0;
    for (const process of host.processes) used += process.memoryBytes;
    return used + memoryBytes <= host.memoryBytes;
  }

  // ------------------------------------------------------------------------------------------ truth

  #check(): void {
    const used = new Map<SimulatedHost, number>();
    const sides = new Set<string>();
    const primaries = new Set<string>();
    for (const { vm, host, role, state, memoryBytes } of this.#processes) {
      used.set(host, (used.get(host) ?? 0) + memoryBytes);
      if (state !== 'WAIT') {
        const side = `${vm} has both sides on ${host.name}`;
        if (sides.has(side)) this.violations.push(side);
        sides.add(side);
      }
      if (role !== 'primary') continue;
      if (primaries.has(vm)) this.violations.push(`${vm} runs twice`);
      primaries.add(vm);
    }
    for (const [host, bytes] of used)
      if (bytes > host.memoryBytes) this.violations.push(`${host.name} is over its memory`);
  }

  #checkPlaced(host: SimulatedHost): void {
    if (this.seconds >= host.presentUntil) this.violations.push(`${host.name} was chosen, and is absent`);
    if (host.maintenance) this.violations.push(`${host.name} was chosen, and is in maintenance`);
  }

  #livesSomewhere(vm: string): boolean {
    return this.#primaryOf(vm) !== undefined || this.#backupOf(vm, 'BACK') !== undefined;
  }

  #primaryOf(vm: string): Process | undefined {
    for (const process of this.#processes)
      if (process.vm === vm && process.role === 'primary') return process;
    return undefined;
  }

  #backupOf(vm: string, state: string): Process | undefined {
    for (const process of this.#processesOf.get(vm) ?? [])
      if (process.role === 'backup' && process.state === state) return process;
    return undefined;
  }

  #instancesOn(host: SimulatedHost): Instance[] {
    return [...host.processes].map(({ vm, id, role, state, memoryBytes }) => ({
      ...{ vm, host: host.name, id, role, state, memoryBytes },
      address: role === 'backup' ? `${host.name}:1` : undefined,
    }));
  }

  #host(name: string): SimulatedHost {
    return this.#hosts.get(name)!;
  }
}
