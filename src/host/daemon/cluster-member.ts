import { randomBytes } from 'node:crypto';
import { failed, ok, type Result } from '../../base/result.ts';
import { type HostMilliseconds, hostMilliseconds } from '../../base/units.ts';
import type { HostPresence, Instance, Vm } from '../../cluster/content.ts';
import { hasEnded } from '../../cluster/instance-state.ts';
import { LostHosts } from '../../cluster/lost-hosts.ts';
import type {
  Announcement,
  ClusterReading,
  ClusterStore,
  HostRecord,
  VmDocument,
  WriteOutcome,
} from '../../storage/cluster-store.ts';
import type { EventLog } from './event-log.ts';

const WAKE_MS = 1000;
const WRITE_TRIES = 8;

/**
 * A host's part in the cluster's store: what it read there last, what it says of itself, and changes of records,
 * whoever else changes them at the same time.
 */
export class ClusterMember {
  readonly name: string;
  readonly #store: ClusterStore;
  readonly #log: EventLog;
  /** What this host's VM processes are at this moment. */
  readonly #instances: () => readonly Instance[];
  readonly #lost = new LostHosts();
  readonly #waiting = new Set<() => void>();
  readonly #damaged = new Map<string, string>();
  /** VMs that switched themselves off, until the store knows. */
  readonly #poweredOff = new Set<string>();
  #reading: ClusterReading | undefined;
  #trouble: string | undefined;
  #token = '';
  #certificate = '';
  #open = false;
  #announcement: Announcement | undefined;
  #unwatch: (() => void) | undefined;
  #telling = false;
  #untold = true;
  #reporting: Promise<unknown> = Promise.resolve();

  constructor(name: string, store: ClusterStore, log: EventLog, instances: () => readonly Instance[]) {
    this.name = name;
    this.#store = store;
    this.#log = log;
    this.#instances = instances;
  }

  /**
   * Makes this host known, with what guests may take of it. Not where another daemon is present under its name: what
   * this one said of its VM processes would be taken for that one's.
   */
  async join(memoryBytes: number, cores: number, certificate: string): Promise<Result<void>> {
    const first = await this.read();
    if (!first.ok) return first;
    this.#certificate = certificate;
    if (this.#rival())
      return failed(`there is a host "${this.name}" in this cluster already: give this one another --name`);
    const token = await this.#store.token(randomBytes(32).toString('hex'));
    if (!token.ok) return token;
    this.#token = token.value;
    return this.changeHost((before) => ({ maintenance: before?.maintenance ?? false, memoryBytes, cores }));
  }

  /** From now on changes are seen, and this host tells of its VM processes: it knows them all. */
  watch(): void {
    this.#open = true;
    this.tellSoon();
    this.#unwatch = this.#store.watch({
      changed: (reading) => this.#take(reading),
      unchanged: () => this.#lost.confirm(now()),
      outOfReach: (reason) => {
        this.#trouble = reason;
        this.#lost.outOfReach();
        this.#log.add('store', `out of reach, VMs run on: ${reason}`);
      },
    });
  }

  /** From now on other hosts see this one. */
  announce(presence: HostPresence): void {
    this.#announcement = this.#store.announce(this.name, presence, (line) => this.#log.add('store', line));
  }

  async leave(): Promise<void> {
    this.#unwatch?.();
    await this.#announcement?.withdraw();
    await this.#store.close();
  }

  /** The cluster's shared secret. */
  get token(): string {
    return this.#token;
  }

  /** Why the store does not answer. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** What was read last; the store may be out of reach since. */
  get reading(): ClusterReading {
    if (this.#reading === undefined) throw new Error('the store is read before anything is asked of it');
    return this.#reading;
  }

  /** Hosts that have been absent for so long that what they ran is started elsewhere. */
  get lostHosts(): ReadonlySet<string> {
    return this.#lost.at(now());
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
      const waiting = this.#waiting;
      const timer = setTimeout(done, WAKE_MS);
      function done(): void {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      }
      waiting.add(done);
    });
  }

  // ------------------------------------------------------------------------------------------------------- records

  /** The newest record; while the store is out of reach, what it said last. */
  async vm(name: string): Promise<Result<VmDocument>> {
    await this.read();
    const found = this.reading.vms.get(name);
    return found ? ok(found.value) : failed(noSuchVm(name));
  }

  async changeVm(
    name: string,
    change: (document: VmDocument) => Result<VmDocument>,
  ): Promise<Result<VmDocument>> {
    return this.#changed(name, (reading) => {
      const before = reading.vms.get(name);
      if (before === undefined) return failed(this.#damage('vms', name) ?? noSuchVm(name));
      const after = change(before.value);
      return after.ok
        ? ok({ after: after.value, write: (store) => store.writeVm(after.value, before.version) })
        : after;
    });
  }

  /** Not where it runs elsewhere meanwhile: this host's word is older. */
  switchOff(vm: string): Promise<Result<VmDocument>> {
    return this.changeVm(vm, (document) =>
      this.othersOf(document.vm, undefined).length > 0
        ? ok(document)
        : ok({ ...document, vm: { ...document.vm, power: 'off' } }),
    );
  }

  /** Switches it on for this host's process `own`, unless another host has a process of it, or is about to. */
  switchOn(vm: string, own: string): Promise<Result<VmDocument>> {
    return this.changeVm(vm, (document) => {
      const [damaged] = this.reading.damaged.filter(({ key }) => key.startsWith('instances'));
      if (damaged !== undefined)
        return failed(`where ${vm} runs is not known: ${damaged.key} in the store: ${damaged.reason}`);
      const [other] = this.othersOf(document.vm, own);
      return other === undefined
        ? ok({ ...document, vm: { ...document.vm, power: 'on' } })
        : failed(`${vm} is on host ${other.host} already, or is being started there`);
    });
  }

  /** Processes that may run the VM; what a lost host had of a VM with a lease is its arbiter's to judge. */
  othersOf({ name, restart }: Vm, own: string | undefined): readonly Instance[] {
    const lost = this.lostHosts;
    return this.reading.content.instances.filter(
      (instance) =>
        instance.vm === name &&
        !hasEnded(instance) &&
        !(instance.host === this.name && (own === undefined || instance.id === own)) &&
        !(restart && lost.has(instance.host)),
    );
  }

  async createVm(document: VmDocument): Promise<Result<void>> {
    return this.#written(
      await this.#store.writeVm(document, undefined),
      `there is a VM "${document.vm.name}" already`,
    );
  }

  /** A host that is surely off and does not come back, with all that it ran. */
  async removeHost(name: string): Promise<Result<void>> {
    const read = await this.read();
    if (!read.ok) return read;
    const found = read.value.hosts.get(name);
    if (found === undefined)
      return failed(`there is no host "${name}" in the cluster: lockstep cluster status lists them`);
    const present = read.value.content.hosts.some((host) => host.name === name && host.presence);
    if (present) return failed(`host ${name} is up: end its daemon and its VMs first`);
    return this.#written(
      await this.#store.removeHost(name, found.version),
      `host ${name} was changed meanwhile: try again`,
    );
  }

  async removeVm(name: string): Promise<Result<void>> {
    const found = this.reading.vms.get(name);
    if (found === undefined) return failed(this.#damage('vms', name) ?? noSuchVm(name));
    return this.#written(
      await this.#store.removeVm(name, found.version),
      `${name} was changed meanwhile: try again`,
    );
  }

  /** `change` is given this host's record, if there is one. */
  async changeHost(
    change: (before: HostRecord | undefined) => Omit<HostRecord, 'name'>,
  ): Promise<Result<void>> {
    const changed = await this.#changed<HostRecord>(`host ${this.name}`, (reading) => {
      const before = reading.hosts.get(this.name);
      const damage = this.#damage('hosts', this.name);
      if (damage !== undefined) return failed(damage);
      const after = { ...change(before?.value), name: this.name };
      return ok({ after, write: (store) => store.writeHost(after, before?.version) });
    });
    return changed.ok ? ok(undefined) : changed;
  }

  async #changed<Value>(
    what: string,
    change: (reading: ClusterReading) => Result<{
      after: Value;
      write: (store: ClusterStore) => Promise<Result<WriteOutcome>>;
    }>,
  ): Promise<Result<Value>> {
    for (let tries = 0; tries < WRITE_TRIES; tries++) {
      const reading = await this.read();
      if (!reading.ok) return reading;
      const next = change(reading.value);
      if (!next.ok) return next;
      const outcome = await next.value.write(this.#store);
      if (!outcome.ok) return outcome;
      if (!outcome.value.written) continue;
      await this.read();
      return ok(next.value.after);
    }
    return failed(`others change ${what} all the time: try again`);
  }

  /** A record that is there and cannot be read is not one that is missing. */
  #damage(kind: 'hosts' | 'vms', name: string): string | undefined {
    const found = this.reading.damaged.find(({ key }) => key.endsWith(`${kind}/${name}`));
    return found && `${found.key} in the store is damaged (${found.reason}): mend or delete it there`;
  }

  /** Another daemon is present under this host's name. */
  #rival(): boolean {
    const own = this.reading.content.hosts.find(({ name }) => name === this.name);
    return own?.presence !== undefined && own.presence.certificate !== this.#certificate;
  }

  async #written(outcome: Result<WriteOutcome>, otherwise: string): Promise<Result<void>> {
    if (!outcome.ok) return outcome;
    await this.read();
    return outcome.value.written ? ok(undefined) : failed(otherwise);
  }

  #take(reading: ClusterReading): void {
    if (this.#trouble !== undefined) this.#log.add('store', 'answers again');
    this.#trouble = undefined;
    this.#reading = reading;
    this.#lost.observe(reading.content, now());
    for (const { key, reason } of reading.damaged) {
      if (this.#damaged.get(key) !== reason) this.#log.add('store', `${key}: ${reason}`);
      this.#damaged.set(key, reason);
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  // ------------------------------------------------------------------------------------------ what the store is told

  /** A VM of this host switched itself off: nobody may start it again. */
  poweredOff(vm: string): void {
    this.#poweredOff.add(vm);
  }

  /** Something about this host's VM processes has changed. */
  tellSoon(): void {
    this.#untold = true;
    this.#wake();
    this.tellAgain();
  }

  /** What could not be told is told again. */
  tellAgain(): void {
    if (this.#open && this.#untold && !this.#telling) void this.#tell();
  }

  /** Resolves when the store knows of this host's VM processes. One after the other: the last word is the newest. */
  tell(): Promise<Result<unknown>> {
    const report = async () =>
      this.#rival()
        ? failed(`another daemon is present as host "${this.name}"`)
        : this.#store.reportInstances(this.name, this.#instances());
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
      while (this.#untold) {
        this.#untold = false;
        const told = (await this.#tellPowerOffs()) && (await this.tell()).ok;
        if (told) continue;
        this.#untold = true;
        return;
      }
    } finally {
      this.#telling = false;
    }
  }

  async #tellPowerOffs(): Promise<boolean> {
    for (const vm of this.#poweredOff) {
      const off = await this.switchOff(vm);
      if (!off.ok && this.reading.vms.has(vm)) return false;
      this.#poweredOff.delete(vm);
    }
    return true;
  }
}

export function noSuchVm(name: string): string {
  return `there is no VM "${name}": lockstep vm list shows them`;
}

function now(): HostMilliseconds {
  return hostMilliseconds(performance.now());
}
