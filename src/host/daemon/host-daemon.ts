import { randomBytes } from 'node:crypto';
import { unreachable } from '../../base/assert.ts';
import { failed, ok, type Result } from '../../base/result.ts';
import { type HostMilliseconds, hostMilliseconds } from '../../base/units.ts';
import type { Vm } from '../../cluster/content.ts';
import { LostHosts } from '../../cluster/lost-hosts.ts';
import { placeBackup } from '../../cluster/placement.ts';
import { type Decision, decide } from '../../cluster/reconcile.ts';
import type { Announcement, ClusterReading, ClusterStore, VmDocument } from '../../storage/cluster-store.ts';
import type { InstanceView } from '../api.ts';
import { buildIdentity } from '../build-identity.ts';
import type { EventLog } from './event-log.ts';
import { authorityOf, Instances } from './instances.ts';
import { backupConfig, type Place, primaryConfig, sharedConfig, sharedOf } from './launch.ts';
import { type HostOperations, type InstanceDetail, type InstanceRequest, Peer } from './peers.ts';
import type { StateFolder } from './state-folder.ts';
import { definitionOf } from './vm-file.ts';
import type { VmInstance } from './vm-instance.ts';

export interface HostDaemonOptions {
  readonly name: string;
  readonly state: StateFolder;
  readonly store: ClusterStore;
  readonly log: EventLog;
  /** What guests may take of this host. */
  readonly memoryBytes: number;
  readonly cores: number;
  /** The address on which VM processes take logging channels. */
  readonly address: string;
  readonly certificate: string;
}

const TICK_MS = 1000;
/** A host that could not take a backup is not asked again for so long. */
const EXCEPT_MS = 10_000;
const WRITE_TRIES = 8;
const SETTLE_MS = 3_000;
const UNWANTED_MS = 30_000;
/** Version of the log on disk and on the wire (docs/LOG_FORMAT.md). */
const LOG_FORMAT = 1;

/**
 * One host of the cluster: its VM processes, its sign of life in the store, and what the cluster's decisions ask of it.
 * It holds no state that is not in the store or in its VM processes, so it may die and come back at any time.
 */
export class HostDaemon implements HostOperations {
  readonly name: string;
  readonly log: EventLog;
  readonly instances: Instances;
  readonly #options: HostDaemonOptions;
  readonly #store: ClusterStore;
  readonly build = buildIdentity();
  #reading: ClusterReading | undefined;
  #trouble: string | undefined = 'nothing was read yet';
  #token = '';
  #announcement: Announcement | undefined;
  #unwatch: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #waiting = new Set<() => void>();
  /** VMs that switched themselves off, until the store knows. */
  readonly #poweredOff = new Set<string>();
  readonly #busy = new Set<string>();
  readonly #exceptUntil = new Map<string, number>();
  readonly #said = new Map<string, string>();
  readonly #lost = new LostHosts();
  #telling = false;
  #reporting: Promise<unknown> = Promise.resolve();
  #changed = true;

  private constructor(options: HostDaemonOptions) {
    this.name = options.name;
    this.log = options.log;
    this.#options = options;
    this.#store = options.store;
    this.instances = new Instances(options.name, options.address, options.state, options.log, {
      changed: () => this.#tellSoon(),
      wantsBackup: (instance, except) => void this.#findBackup(instance, except),
      ended: (vm, role, reason) => {
        if (role === 'primary' && /powered off$/.test(reason)) this.#poweredOff.add(vm);
        this.#tellSoon();
      },
    });
  }

  /** Reads the store, makes this host known there, and finds its VM processes again. */
  static async start(options: HostDaemonOptions): Promise<Result<HostDaemon>> {
    const daemon = new HostDaemon(options);
    const first = await options.store.read();
    if (!first.ok) return first;
    const token = await options.store.token(randomBytes(32).toString('hex'));
    if (!token.ok) return token;
    daemon.#token = token.value;
    const { name, memoryBytes, cores } = options;
    const known = first.value.hosts.get(name);
    if (known === undefined || known.value.memoryBytes !== memoryBytes || known.value.cores !== cores) {
      const maintenance = known?.value.maintenance ?? false;
      const written = await options.store.writeHost(
        { name, memoryBytes, cores, maintenance },
        known?.version,
      );
      if (!written.ok) return written;
    }
    daemon.#take(first.value);
    await daemon.instances.recover();
    daemon.#unwatch = options.store.watch({
      changed: (reading) => daemon.#take(reading),
      unchanged: () => daemon.#lost.confirm(now()),
      outOfReach: (reason) => {
        daemon.#trouble = reason;
        daemon.#lost.outOfReach();
        options.log.add('store', `out of reach, VMs run on: ${reason}`);
      },
    });
    daemon.#timer = setInterval(() => daemon.#tick(), TICK_MS);
    return ok(daemon);
  }

  /** From now on other hosts see this one, and reach it there. */
  announce(api: string): void {
    const presence = {
      api,
      certificate: this.#options.certificate,
      build: this.build,
      logFormat: LOG_FORMAT,
    };
    this.#announcement = this.#store.announce(this.name, presence, (line) => this.log.add('store', line));
  }

  get token(): string {
    return this.#token;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** What was read last; the store may be out of reach since. */
  get reading(): ClusterReading {
    return this.#reading!;
  }

  /** The newest content; while the store is out of reach, why. */
  async read(): Promise<Result<ClusterReading>> {
    const reading = await this.#store.read();
    if (reading.ok) this.#take(reading.value);
    return reading;
  }

  /** The next time that anything in the cluster changes, or a second has passed. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, TICK_MS);
      const waiting = this.#waiting;
      function done(): void {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      }
      waiting.add(done);
    });
  }

  /** The operations of a host of the cluster, this one or another one. */
  host(name: string): Result<HostOperations> {
    return name === this.name ? ok(this) : this.peer(name);
  }

  peer(name: string): Result<Peer> {
    return Peer.of(
      name,
      this.reading.content.hosts.find((host) => host.name === name),
      this.#token,
    );
  }

  /** Changes a VM's record, whoever else changes it at the same time. */
  async changeVm(
    name: string,
    change: (document: VmDocument) => Result<VmDocument>,
  ): Promise<Result<VmDocument>> {
    for (let tries = 0; tries < WRITE_TRIES; tries++) {
      const reading = await this.read();
      if (!reading.ok) return reading;
      const before = reading.value.vms.get(name);
      if (before === undefined) return failed(noSuchVm(name));
      const after = change(before.value);
      if (!after.ok) return after;
      const outcome = await this.#store.writeVm(after.value, before.version);
      if (!outcome.ok) return outcome;
      if (outcome.value.written) {
        await this.read();
        return after;
      }
    }
    return failed(`others change ${name} all the time: try again`);
  }

  async createVm(document: VmDocument): Promise<Result<void>> {
    const outcome = await this.#store.writeVm(document, undefined);
    if (!outcome.ok) return outcome;
    await this.read();
    return outcome.value.written ? ok(undefined) : failed(`there is a VM "${document.vm.name}" already`);
  }

  async removeVm(name: string): Promise<Result<void>> {
    const found = this.reading.vms.get(name);
    if (found === undefined) return failed(noSuchVm(name));
    const outcome = await this.#store.removeVm(name, found.version);
    if (!outcome.ok) return outcome;
    await this.read();
    return outcome.value.written ? ok(undefined) : failed(`${name} was changed meanwhile: try again`);
  }

  async setMaintenance(on: boolean): Promise<Result<void>> {
    for (let tries = 0; tries < WRITE_TRIES; tries++) {
      const reading = await this.read();
      if (!reading.ok) return reading;
      const own = reading.value.hosts.get(this.name);
      if (own === undefined) return failed(`host ${this.name} is not in the store any more: start it again`);
      if (own.value.maintenance === on) return ok(undefined);
      const outcome = await this.#store.writeHost({ ...own.value, maintenance: on }, own.version);
      if (!outcome.ok) return outcome;
      if (outcome.value.written) {
        this.log.add('maintenance', on ? 'nothing is placed here, and what is here moves away' : 'over');
        await this.read();
        return ok(undefined);
      }
    }
    return failed(`others change host ${this.name} all the time: try again`);
  }

  // ------------------------------------------------------------------------------------- this host's VM processes

  async start(request: InstanceRequest): Promise<Result<InstanceView>> {
    const { vm } = request;
    if (this.#busy.has(`start ${vm}`)) return failed(`${vm} is being started on ${this.name} already`);
    this.#busy.add(`start ${vm}`);
    try {
      return await this.#start(request);
    } finally {
      this.#busy.delete(`start ${vm}`);
    }
  }

  async #start(request: InstanceRequest): Promise<Result<InstanceView>> {
    const document = await this.#documentOf(request.vm);
    if (!document.ok) return document;
    const { vm, definition, secrets } = document.value;
    const room = this.#room(vm);
    if (!room.ok) return room;
    const authority = await authorityOf(vm.name, secrets);
    if (!authority.ok) return authority;
    if (request.kind === 'backup') {
      const config = (place: Place) => backupConfig(request.shared, place);
      const started = await this.instances.start(authority.value, config, async () => ok(this.#tellSoon()));
      return started.ok ? ok(started.value.view) : started;
    }
    const parsed = definitionOf(definition);
    if (!parsed.ok) return parsed;
    const shared = await sharedConfig(parsed.value);
    if (!shared.ok) return shared;
    const config = (place: Place) =>
      primaryConfig(shared.value, parsed.value.boot, vm.faultTolerance === 'on', place);
    // First that it is being started here: whoever saw only that it is to be on would start it too.
    const started = await this.instances.start(authority.value, config, async () => {
      const told = await this.#report();
      return told.ok ? this.#switch(vm.name, 'on') : told;
    });
    if (started.ok) return ok(started.value.view);
    if (vm.power === 'off') await this.#switch(vm.name, 'off');
    return started;
  }

  #switch(vm: string, power: 'on' | 'off'): Promise<Result<VmDocument>> {
    return this.changeVm(vm, (document) => ok({ ...document, vm: { ...document.vm, power } }));
  }

  async order(id: string, order: object): Promise<Result<void>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(`the VM process ${id} is not on ${this.name} any more`);
    instance.order(order);
    return ok(undefined);
  }

  async kill(id: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<Result<void>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(`the VM process ${id} is not on ${this.name} any more`);
    instance.kill(signal);
    return ok(undefined);
  }

  async detail(id: string): Promise<Result<InstanceDetail>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(`the VM process ${id} is not on ${this.name} any more`);
    const { view, figures, config } = instance;
    return ok({ view, figures, shared: sharedOf(config) });
  }

  /** The VM processes live on. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#unwatch?.();
    this.instances.forget();
    await this.#announcement?.withdraw();
    await this.#store.close();
  }

  // -------------------------------------------------------------------------------------------------- what is to do

  #take(reading: ClusterReading): void {
    if (this.#trouble !== undefined && this.#reading) this.log.add('store', 'answers again');
    this.#trouble = undefined;
    this.#reading = reading;
    this.#lost.observe(reading.content, now());
    for (const { key, reason } of reading.damaged) this.#sayOnce(`damaged ${key}`, 'store', reason);
    for (const wake of [...this.#waiting]) wake();
  }

  #tick(): void {
    // What could not be told is told again.
    if (this.#changed && !this.#telling) void this.#tell();
    if (this.#trouble !== undefined) return;
    for (const decision of decide(this.reading.content, this.name, this.#lost.at(now())))
      void this.#carryOut(decision);
  }

  async #carryOut(decision: Decision): Promise<void> {
    const key = `decision ${decision.vm}`;
    if (this.#busy.has(key)) return;
    this.#busy.add(key);
    if (decision.kind !== 'blocked' && decision.kind !== 'end')
      this.log.add(decision.kind, decision.reason, decision.vm);
    const done = await this.#perform(decision);
    if (!done.ok) this.#sayOnce(key, decision.kind, done.error, decision.vm);
    // Until what it did is in the store, the same would be decided again.
    setTimeout(() => this.#busy.delete(key), SETTLE_MS).unref();
  }

  async #perform(decision: Decision): Promise<Result<unknown>> {
    const { vm } = decision;
    switch (decision.kind) {
      case 'blocked':
        return failed(decision.reason);
      case 'restart':
        return this.start({ kind: 'primary', vm });
      case 'end':
        await this.#end(decision.instance);
        return ok(undefined);
      case 'switch-over':
        return this.order(decision.instance, { order: 'switch-over' });
      case 'migrate-backup':
      case 'move': {
        const instance = this.instances.get(decision.instance);
        if (!instance) return ok(undefined);
        const started = await this.startBackup(vm, sharedOf(instance.config), decision.to);
        if (!started.ok) return started;
        instance.order({ order: decision.kind, address: started.value.address });
        return ok(undefined);
      }
      default:
        return unreachable(decision);
    }
  }

  /** Not what has just been started: whoever wants it may not have said so in the store yet. */
  async #end(id: string): Promise<void> {
    const instance = this.instances.get(id);
    if (instance === undefined || instance.ageMs < UNWANTED_MS) return;
    this.log.add('end', `${instance.role} that nobody wants`, instance.vm);
    await instance.end();
  }

  /** Rule 10: the primary here lacks a backup; another host is asked to start one. */
  async #findBackup(instance: VmInstance, _except: readonly string[]): Promise<void> {
    const { vm } = instance;
    const key = `backup ${vm}`;
    if (this.#busy.has(key) || this.#wish(vm) !== 'on') return;
    this.#busy.add(key);
    try {
      const started = await this.startBackup(vm, sharedOf(instance.config));
      if (started.ok) {
        this.#said.delete(key);
        instance.order({ order: 'candidate', address: started.value.address, host: started.value.host });
      } else this.#sayOnce(key, 'no-backup', started.error, vm);
    } finally {
      this.#busy.delete(key);
    }
  }

  /** An instance that waits for its primary, on the host that suits best. */
  async startBackup(vm: string, shared: object, on?: string): Promise<Result<InstanceView>> {
    const except = [...this.#exceptUntil]
      .filter(([, until]) => performance.now() < until)
      .map(([host]) => host);
    const placed = on === undefined ? placeBackup(this.reading.content, vm, except) : ok(on);
    if (!placed.ok) return placed;
    const host = this.host(placed.value);
    if (!host.ok) return host;
    const started = await host.value.start({ kind: 'backup', vm, shared: shared as never });
    if (!started.ok) this.#exceptUntil.set(placed.value, performance.now() + EXCEPT_MS);
    return started;
  }

  #wish(vm: string): string | undefined {
    return this.reading.vms.get(vm)?.value.vm.faultTolerance;
  }

  /** While the store is out of reach, what it said last. */
  async #documentOf(vm: string): Promise<Result<VmDocument>> {
    await this.read();
    const found = this.reading.vms.get(vm);
    return found ? ok(found.value) : failed(noSuchVm(vm));
  }

  #room(vm: Vm): Result<void> {
    const own = this.reading.hosts.get(this.name)?.value;
    if (own?.maintenance === true) return failed(`host ${this.name} is in maintenance`);
    if (this.instances.of(vm.name).length > 0) return failed(`${vm.name} runs on ${this.name} already`);
    const used = this.instances.told.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    const free = this.#options.memoryBytes - used;
    if (free < vm.memoryBytes)
      return failed(
        `host ${this.name} has ${mebibytes(free)} MiB left for guests, ${vm.name} needs ${mebibytes(vm.memoryBytes)}`,
      );
    return ok(undefined);
  }

  #sayOnce(key: string, kind: string, detail: string, vm?: string): void {
    if (this.#said.get(key) === detail) return;
    this.#said.set(key, detail);
    this.log.add(kind, detail, vm);
  }

  // ----------------------------------------------------------------------------------------- what the store is told

  #tellSoon(): void {
    this.#changed = true;
    for (const wake of [...this.#waiting]) wake();
    if (!this.#telling) void this.#tell();
  }

  /** One after the other: the last word has to be the newest. */
  #report(): Promise<Result<unknown>> {
    const report = () => this.#store.reportInstances(this.name, this.instances.told);
    const next = this.#reporting.then(report, report);
    this.#reporting = next;
    return next;
  }

  /**
   * First that a VM switched itself off, then that its process is gone: who saw only the latter would start it again.
   */
  async #tell(): Promise<void> {
    this.#telling = true;
    try {
      while (this.#changed) {
        this.#changed = false;
        for (const vm of this.#poweredOff) {
          const off = await this.changeVm(vm, (document) =>
            ok({ ...document, vm: { ...document.vm, power: 'off' } }),
          );
          if (!off.ok && this.reading.vms.has(vm)) {
            this.#changed = true;
            return;
          }
          this.#poweredOff.delete(vm);
        }
        const told = await this.#report();
        if (told.ok) continue;
        this.#changed = true;
        return;
      }
    } finally {
      this.#telling = false;
    }
  }
}

function now(): HostMilliseconds {
  return hostMilliseconds(performance.now());
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}

export function noSuchVm(name: string): string {
  return `there is no VM "${name}": lockstep vm list shows them`;
}
