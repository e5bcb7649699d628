import { unreachable } from '../../base/assert.ts';
import { failed, ok, type Result } from '../../base/result.ts';
import { hasEnded } from '../../cluster/instance-state.ts';
import { placeBackup } from '../../cluster/placement.ts';
import { type Decision, decide } from '../../cluster/reconcile.ts';
import { SNAPSHOT_FORMAT_VERSION } from '../../machine/snapshot-format.ts';
import { LOG_FORMAT_VERSION } from '../../replay/frame.ts';
import type { ClusterStore } from '../../storage/cluster-store.ts';
import type { InstanceView } from '../api.ts';
import { buildIdentity } from '../build-identity.ts';
import { readVmSnapshot, snapshotMemory } from '../vm-snapshot.ts';
import { ClusterImages } from './cluster-images.ts';
import { ClusterMember } from './cluster-member.ts';
import type { EventLog } from './event-log.ts';
import { HostImages } from './host-images.ts';
import { authorityOf, Instances } from './instances.ts';
import { backupConfig, makeCopies, type Place, primaryConfig, sharedConfig, sharedOf } from './launch.ts';
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
const SETTLE_MS = 3_000;
const UNWANTED_MS = 30_000;
const IMAGES_REST_MS = 3_000;
const RESTART_REST_MS_MAX = 60_000;

/**
 * One host of the cluster: its VM processes, and what the cluster's decisions ask of it. It holds no state that is not
 * in the store or in its VM processes, so it may die and come back at any time.
 */
export class HostDaemon implements HostOperations {
  readonly name: string;
  readonly log: EventLog;
  readonly instances: Instances;
  readonly member: ClusterMember;
  readonly images: ClusterImages;
  readonly build = buildIdentity();
  readonly #options: HostDaemonOptions;
  #timer: NodeJS.Timeout | undefined;
  readonly #busy = new Set<string>();
  readonly #exceptUntil = new Map<string, number>();
  readonly #said = new Map<string, string>();
  /** How often a VM was started again in vain. */
  readonly #restarts = new Map<string, number>();

  private constructor(options: HostDaemonOptions, images: HostImages) {
    const { name, address, state, log } = options;
    this.name = name;
    this.log = log;
    this.#options = options;
    this.member = new ClusterMember(name, options.store, log, () => this.instances.told);
    this.images = new ClusterImages(images, () => this.#presentPeers());
    this.instances = new Instances(name, address, state, log, {
      changed: () => this.member.tellSoon(),
      wantsBackup: (instance) => void this.#findBackup(instance),
      ended: (vm, role, reason) => {
        if (role === 'primary' && /powered off$/.test(reason)) this.member.poweredOff(vm);
        this.member.tellSoon();
      },
    });
  }

  /** Reads the store, makes this host known there, and finds its VM processes again. */
  static async start(options: HostDaemonOptions): Promise<Result<HostDaemon>> {
    const daemon = new HostDaemon(options, await HostImages.open(options.state.file('images')));
    const joined = await daemon.member.join(options.memoryBytes, options.cores, options.certificate);
    if (!joined.ok) return joined;
    await daemon.instances.recover();
    daemon.member.watch();
    daemon.#timer = setInterval(() => daemon.#tick(), TICK_MS);
    return ok(daemon);
  }

  /** From now on other hosts see this one, and reach it there. */
  announce(api: string): void {
    const { certificate } = this.#options;
    this.member.announce({
      api,
      certificate,
      build: this.build,
      logFormat: LOG_FORMAT_VERSION,
      snapshotFormat: SNAPSHOT_FORMAT_VERSION,
    });
  }

  /** The operations of a host of the cluster, this one or another one. */
  host(name: string): Result<HostOperations> {
    return name === this.name ? ok(this) : this.peer(name);
  }

  peer(name: string): Result<Peer> {
    const { reading, token } = this.member;
    return Peer.of(
      name,
      reading.content.hosts.find((host) => host.name === name),
      token,
    );
  }

  #presentPeers(): Peer[] {
    const names = this.member.reading.content.hosts.map((host) => host.name);
    return names.flatMap((name) => {
      const peer = name === this.name ? undefined : this.peer(name);
      return peer?.ok ? [peer.value] : [];
    });
  }

  /** Whoever may start a VM has what it boots from, before the hosts that have it now are lost. */
  async #keepImages(): Promise<void> {
    const wanted = [...this.member.reading.vms.values()].flatMap(({ value }) => {
      const { image } = value.definition as { image?: unknown };
      return typeof image === 'string' ? [image] : [];
    });
    for (const image of new Set(wanted)) {
      const got = await this.images.get(image);
      if (got.ok) this.#said.delete(`image ${image}`);
      else this.#sayOnce(`image ${image}`, 'no-image', got.error);
    }
  }

  async setMaintenance(on: boolean): Promise<Result<void>> {
    const { memoryBytes, cores } = this.#options;
    const changed = await this.member.changeHost((before) => ({
      ...(before ?? { memoryBytes, cores }),
      maintenance: on,
    }));
    if (changed.ok)
      this.log.add('maintenance', on ? 'nothing is placed here, and what is here moves away' : 'over');
    return changed;
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
    const document = await this.member.vm(request.vm);
    if (!document.ok) return document;
    const { vm, definition, secrets } = document.value;
    if (request.kind === 'backup' && request.shared.vm !== vm.name)
      return failed(`the configuration is that of ${String(request.shared.vm)}, not of ${vm.name}`);
    const room = this.#room(
      vm.name,
      request.kind === 'backup' ? request.shared.processBytes : vm.memoryBytes,
    );
    if (!room.ok) return room;
    const authority = await authorityOf(vm.name, secrets);
    if (!authority.ok) return authority;
    if (request.kind === 'backup') {
      const copies = await makeCopies(request.shared, this.name);
      if (!copies.ok) return copies;
      const config = (place: Place) => backupConfig(request.shared, place);
      const started = await this.instances.start(authority.value, config, async () =>
        ok(this.member.tellSoon()),
      );
      return started.ok ? ok(started.value.view) : started;
    }
    const parsed = definitionOf(definition);
    if (!parsed.ok) return parsed;
    const boot = await this.images.filesOf(parsed.value.boot);
    if (!boot.ok) return boot;
    const shared = await sharedConfig(parsed.value, boot.value, this.name);
    if (!shared.ok) return shared;
    const saved = request.snapshot === undefined ? undefined : await readVmSnapshot(request.snapshot);
    if (saved?.ok === false) return saved;
    const config = (place: Place) => {
      const booted = primaryConfig(shared.value, boot.value, vm.faultTolerance === 'on', place);
      if (saved === undefined || request.snapshot === undefined) return booted;
      // Its hardware is that of the guest in the snapshot, to the last bit.
      const { machine } = saved.value;
      return { ...booted, machine, boot: undefined, snapshot: snapshotMemory(request.snapshot) };
    };
    // First that it is being started here: whoever saw only that it is to be on would start it too.
    const started = await this.instances.start(authority.value, config, async (id) => {
      const told = await this.member.tell();
      return told.ok ? this.member.switchOn(vm.name, id) : told;
    });
    if (started.ok) return ok(started.value.view);
    if (vm.power === 'off') await this.member.switchOff(vm.name);
    return started;
  }

  async order(id: string, order: object): Promise<Result<void>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(this.instances.whyGone(id));
    return instance.order(order)
      ? ok(undefined)
      : failed(`the VM process of ${instance.vm} on ${this.name} does not answer`);
  }

  async kill(id: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<Result<void>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(this.instances.whyGone(id));
    instance.kill(signal);
    return ok(undefined);
  }

  async detail(id: string): Promise<Result<InstanceDetail>> {
    const instance = this.instances.get(id);
    if (!instance) return failed(this.instances.whyGone(id));
    const { view, figures, snapshots, config } = instance;
    return ok({ view, figures, snapshots, shared: sharedOf(config) });
  }

  /** The VM processes live on. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.instances.forget();
    await this.member.leave();
  }

  // -------------------------------------------------------------------------------------------------- what is to do

  #tick(): void {
    const { member } = this;
    member.tellAgain();
    // What runs was not tried in vain: the next time it is lost it is started again at once.
    for (const { vm, role, state } of this.instances.all)
      if (role === 'primary' && (state === 'SOLE' || state === 'PAIR')) this.#restarts.delete(vm);
    if (member.trouble !== undefined) return;
    if (!this.#busy.has('images')) {
      this.#busy.add('images');
      void this.#keepImages().finally(() => {
        setTimeout(() => this.#busy.delete('images'), IMAGES_REST_MS).unref();
      });
    }
    for (const decision of decide(member.reading.content, this.name, member.lostHosts))
      void this.#carryOut(decision);
  }

  async #carryOut(decision: Decision): Promise<void> {
    const key = `decision ${decision.vm}`;
    if (this.#busy.has(key)) return;
    this.#busy.add(key);
    if (decision.kind !== 'blocked' && decision.kind !== 'end')
      this.#sayOnce(`${key} begins`, decision.kind, decision.reason, decision.vm);
    const done = await this.#perform(decision);
    if (!done.ok) this.#sayOnce(key, decision.kind, done.error, decision.vm);
    setTimeout(() => this.#busy.delete(key), this.#restMs(decision)).unref();
  }

  /**
   * Until what was done is in the store, the same would be decided again. A VM whose arbiter says that it runs (its
   * host's daemon is dead, it is not) is tried less and less often.
   */
  #restMs({ kind, vm }: Decision): number {
    if (kind !== 'restart') return SETTLE_MS;
    const tries = this.#restarts.get(vm) ?? 0;
    this.#restarts.set(vm, tries + 1);
    return Math.min(SETTLE_MS * 2 ** tries, RESTART_REST_MS_MAX);
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
  async #findBackup(instance: VmInstance): Promise<void> {
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
    const placed = on === undefined ? placeBackup(this.member.reading.content, vm, except) : ok(on);
    if (!placed.ok) return placed;
    const host = this.host(placed.value);
    if (!host.ok) return host;
    const started = await host.value.start({ kind: 'backup', vm, shared: shared as never });
    if (!started.ok) this.#exceptUntil.set(placed.value, performance.now() + EXCEPT_MS);
    return started;
  }

  #wish(vm: string): string | undefined {
    return this.member.reading.vms.get(vm)?.value.vm.faultTolerance;
  }

  #room(vm: string, bytes: number): Result<void> {
    const own = this.member.reading.hosts.get(this.name)?.value;
    if (own?.maintenance === true) return failed(`host ${this.name} is in maintenance`);
    if (this.instances.of(vm).length > 0) return failed(`${vm} runs on ${this.name} already`);
    const used = this.instances.told
      .filter((instance) => !hasEnded(instance))
      .reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    const free = this.#options.memoryBytes - used;
    if (free < bytes)
      return failed(
        `host ${this.name} has ${mebibytes(free)} MiB left for guests, ${vm} needs ${mebibytes(bytes)}`,
      );
    return ok(undefined);
  }

  #sayOnce(key: string, kind: string, detail: string, vm?: string): void {
    if (this.#said.get(key) === detail) return;
    this.#said.set(key, detail);
    this.log.add(kind, detail, vm);
  }
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
