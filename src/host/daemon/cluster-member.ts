import { randomBytes } from 'node:crypto';
import { failed, ok, type Result } from '../../base/result.ts';
import { type HostMilliseconds, hostMilliseconds } from '../../base/units.ts';
import type { HostPresence, Instance } from '../../cluster/content.ts';
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

  /** Makes this host known, with what guests may take of it. */
  async join(memoryBytes: number, cores: number): Promise<Result<void>> {
    const first = await this.read();
    if (!first.ok) return first;
    const token = await this.#store.token(randomBytes(32).toString('hex'));
    if (!token.ok) return token;
    this.#token = token.value;
    return this.changeHost((before) => ({ maintenance: before?.maintenance ?? false, memoryBytes, cores }));
  }

  /** From now on changes are seen; what is read from the store is newer than all that this host told before. */
  watch(): void {
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
      if (before === undefined) return failed(noSuchVm(name));
      const after = change(before.value);
      return after.ok
        ? ok({ after: after.value, write: (store) => store.writeVm(after.value, before.version) })
        : after;
    });
  }

  switchVm(name: string, power: 'on' | 'off'): Promise<Result<VmDocument>> {
    return this.changeVm(name, (document) => ok({ ...document, vm: { ...document.vm, power } }));
  }

  async createVm(document: VmDocument): Promise<Result<void>> {
    return this.#written(
      await this.#store.writeVm(document, undefined),
      `there is a VM "${document.vm.name}" already`,
    );
  }

  async removeVm(name: string): Promise<Result<void>> {
    const found = this.reading.vms.get(name);
    if (found === undefined) return failed(noSuchVm(name));
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
    if (this.#untold && !this.#telling) void this.#tell();
  }

  /** Resolves when the store knows of this host's VM processes. One after the other: the last word is the newest. */
  tell(): Promise<Result<unknown>> {
    const report = () => this.#store.reportInstances(this.name, this.#instances());
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
      const off = await this.switchVm(vm, 'off');
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
