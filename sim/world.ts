import { epoch, type InstanceId, vmId } from '../src/ft/identity.ts';
import type { Cores } from '../src/hypervisor/driver.ts';
import { Arbiter } from './arbiter.ts';
import { Client } from './client.ts';
import { countingCores } from './counting-cores.ts';
import { DiskServer } from './disk-server.ts';
import { EventQueue } from './event-queue.ts';
import type { FaultName } from './faults.ts';
import { HostCopy } from './host-copy.ts';
import { Instance } from './instance.ts';
import { Network } from './network.ts';
import { Oracles } from './oracles/oracles.ts';
import { type Profile, profileOf } from './profile.ts';
import { Random } from './random.ts';
import { Trace } from './trace.ts';

/** What was wrong: which property, and what was seen. */
export interface Violation {
  readonly property: string;
  readonly what: string;
  readonly at: number;
}

export interface WorldOptions {
  /** Keep every line for the timeline. */
  readonly traced?: boolean;
  /** Breaks something on purpose, before anything has happened. */
  readonly mutate?: (world: World) => void;
}

/** Hosts, a network, a disk server, an arbiter, clients, and one clock over all of them. */
export class World {
  readonly random: Random;
  readonly profile: Profile;
  readonly trace: Trace;
  readonly vm = vmId('toy');
  readonly instances = new Map<string, Instance>();
  readonly network: Network;
  readonly disk: DiskServer;
  /** Of each host, where hosts have disks of their own. */
  readonly copies: readonly HostCopy[];
  readonly arbiter: Arbiter;
  readonly clients: Client[] = [];
  readonly oracles: Oracles;
  readonly #queue = new EventQueue();
  now = 0;
  /** Events taken from the queue, and steps of the protocol's core. */
  events = 0;
  steps = 0;
  takeovers = 0;
  /** Guests that went on elsewhere, moved there by order. */
  moves = 0;
  /** The newest build of the program that anybody runs. */
  #build = 1;
  /** Switched by a mutant: a stopped process has a clock that stands still. */
  clocksStop = false;
  /** Guests booted. */
  lives = 0;
  connections = 0;
  readonly faults = new Map<FaultName, number>();
  violation: Violation | undefined;
  /** A guest that was switched off has said so. */
  poweredOff = false;
  /** Switched by a mutant: whatever copy of the disks a host has, the VM is started from it. */
  anyCopy = false;
  /** Clients ask nothing more. */
  silent = false;
  /** Faults have stopped. */
  healed = false;
  cores: (instance: Instance) => Cores;
  readonly #hostsDown = new Set<number>();
  /** A host that comes back after an outage: often the next backup is there. */
  #returns: number | undefined;
  /** Fault tolerance was turned off by order, and has to be turned on by one. */
  #restarting = false;
  unprotected = false;
  #toldToProtect: Instance | undefined;
  /** Called once, by a primary that begins to gate on a new backup. */
  whenGating: ((primary: Instance) => void) | undefined;
  /** Called once, by a backup that has won and opens its disks. */
  whenOpening: ((winner: Instance) => void) | undefined;
  #names = 0;

  constructor(seed: number, options: WorldOptions = {}) {
    this.random = new Random(seed);
    this.profile = profileOf(this.random, new Random(seed ^ 0x2f6e2b1));
    this.trace = new Trace(options.traced === true);
    this.network = new Network(this, this.profile.hosts);
    this.disk = new DiskServer(this);
    const { disks, hosts } = this.profile;
    this.copies = disks.own ? Array.from({ length: hosts }, (_, host) => new HostCopy(this, host)) : [];
    this.copies[0]?.clear();
    this.arbiter = new Arbiter(this);
    this.oracles = new Oracles(this);
    this.cores = () => countingCores(this);
    for (let number = 0; number < this.profile.clients; number++) this.clients.push(new Client(this, number));
    options.mutate?.(this);
  }

  schedule(delay: number, run: () => void): void {
    this.#queue.push(this.now + delay, run);
  }

  /** One event. False when there is none. */
  step(): boolean {
    const event = this.#queue.pop();
    if (!event) return false;
    this.now = event.at;
    this.events += 1;
    this.trace.tick(event.at);
    event.run();
    return true;
  }

  note(who: string, what: string): void {
    this.trace.note(this.now, who, what);
  }

  /** The first one counts: what follows may be its consequence. */
  violated(property: string, what: string): void {
    if (this.violation) return;
    this.violation = { property, what, at: this.now };
    this.note('VIOLATION', `${property}: ${what}`);
  }

  struck(fault: FaultName): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
    this.note('fault', fault);
  }

  // ------------------------------------------------------------------------------------------ the VM

  powerOn(): void {
    const start = { kind: 'power-on', expected: epoch(0), waitForBackup: this.random.chance(0.5) } as const;
    const primary = this.#start(0, { kind: 'primary', start }, this.#build);
    const backup = this.backupFor(primary);
    if (backup) primary.driver.protect(backup.name);
    for (const client of this.clients) client.start();
    if (this.profile.restarts) this.#restartWhenLost();
  }

  /** The cluster: whoever finds the lease run out starts the VM from its disk; sometimes two do. */
  #restartWhenLost(): void {
    this.schedule(this.random.between(5, 30), () => this.#restartWhenLost());
    const { arbiter } = this;
    // Who was switched off stays off: the cluster was told.
    if (!arbiter.leaseExpired || arbiter.down || this.poweredOff || this.#restarting) return;
    for (const { running, driver } of this.instances.values())
      if (running && driver.role === 'primary' && driver.state === 'START') return;
    const rivals = this.random.chance(0.25) ? 2 : 1;
    for (let count = 0; count < rivals; count++) {
      const host = this.#hostToRestart();
      if (host === undefined || this.#hostsDown.has(host)) return;
      const start = {
        kind: 'power-on',
        expected: arbiter.record.epoch,
        waitForBackup: false,
        faultTolerance: true,
      } as const;
      // Between the look at the lease and the question lies the start of a process.
      this.#restarting = true;
      this.schedule(this.random.between(0, 40), () => {
        this.#restarting = false;
        if (!this.#hostsDown.has(host) && this.#mayStart(host))
          this.#start(host, { kind: 'primary', start }, this.#build);
      });
    }
  }

  /** Where disks are of one host alone: where the VM ran last, once nothing runs there. */
  #hostToRestart(): number | undefined {
    if (this.copies.length === 0 || this.anyCopy)
      return this.#freeHost() ?? this.random.below(this.profile.hosts);
    const host = this.processOf(this.arbiter.record.primary)?.host;
    if (host === undefined || !this.copies[host]?.usable) return undefined;
    // A backup that waits there for nobody has the copy's lock until its daemon ends it.
    for (const instance of [...this.instances.values()])
      if (instance.running && instance.host === host && instance.driver.state === 'WAIT')
        this.crash(instance, false);
    return this.#mayStart(host) ? host : undefined;
  }

  /** A copy of the disks is locked by the process that has it. */
  #mayStart(host: number): boolean {
    if (this.copies.length === 0) return true;
    for (const instance of this.instances.values())
      if (instance.running && instance.host === host) return false;
    return true;
  }

  #freeHost(besides?: number): number | undefined {
    const taken = new Set(this.#hostsDown);
    if (besides !== undefined) taken.add(besides);
    for (const instance of this.instances.values()) if (instance.running) taken.add(instance.host);
    const free: number[] = [];
    for (let host = 0; host < this.profile.hosts; host++) if (!taken.has(host)) free.push(host);
    const returns = this.#returns;
    if (returns !== undefined && free.includes(returns) && this.random.chance(0.7)) {
      this.#returns = undefined;
      return returns;
    }
    return free.length === 0 ? undefined : this.random.pick(free);
  }

  /** Whose name this is: a backup that has given up a question to the arbiter has one more. */
  processOf(name: InstanceId | undefined): Instance | undefined {
    return this.instances.get(String(name).split('.')[0]!);
  }

  /** The newest that goes on as the VM; a stopped one counts as long as nobody newer does. */
  get primary(): Instance | undefined {
    let newest: Instance | undefined;
    for (const instance of this.instances.values()) if (instance.live) newest = instance;
    return newest;
  }

  /** The backup that follows the log or is about to. */
  get partner(): Instance | undefined {
    let newest: Instance | undefined;
    for (const instance of this.instances.values())
      if (instance.running && instance.driver.role === 'backup') newest = instance;
    return newest;
  }

  /** A backup on another host than that of `besides`: one that waits there already, or a new instance. */
  backupFor(besides: Instance, except: readonly string[] = []): Instance | undefined {
    for (const instance of this.instances.values())
      if (
        instance.running &&
        instance.driver.state === 'WAIT' &&
        instance.host !== besides.host &&
        instance.build === besides.build &&
        !except.includes(instance.name)
      )
        return instance;
    // One that asks in vain, since its pair was never committed, can be copied to again.
    const { record } = this.arbiter;
    const forsaken = [...this.instances.values()].find(
      (instance) =>
        instance.running &&
        instance.driver.role === 'backup' &&
        instance.driver.state === 'ASK' &&
        instance.host !== besides.host &&
        instance.build === besides.build &&
        !except.includes(instance.name) &&
        this.processOf(record.backup) !== instance,
    );
    const free = this.#freeHost(besides.host) ?? this.#hostOfStranger(besides);
    if (!forsaken || (free !== undefined && this.random.chance(0.5)))
      return free === undefined ? undefined : this.#start(free, { kind: 'backup' }, besides.build);
    this.arbiter.claimIsLate(forsaken);
    return forsaken;
  }

  /** A host where only an instance of another build waits, of no use to this primary: it is ended. */
  #hostOfStranger(primary: Instance): number | undefined {
    for (const instance of this.instances.values()) {
      const { running, driver, build, host } = instance;
      if (!running || driver.state !== 'WAIT' || build === primary.build || host === primary.host) continue;
      if (!this.mayDie(instance)) continue;
      this.crash(instance, false);
      return this.#freeHost(primary.host);
    }
    return undefined;
  }

  /** The cluster's placement: it takes a while, may have no host, and now and then offers a wrong one. */
  findHost(asking: Instance, except: readonly string[]): void {
    asking.later(this.random.between(1, 25), () => {
      const wrong = this.random.chance(0.03);
      if (wrong && this.copies.length > 0) return;
      const elsewhere = wrong && this.random.chance(0.3) ? this.#freeHost(asking.host) : undefined;
      // On its own host, or of a build that cannot follow its log.
      const backup = wrong
        ? this.#start(
            elsewhere ?? asking.host,
            { kind: 'backup' },
            asking.build + (elsewhere === undefined ? 0 : 1),
          )
        : this.backupFor(asking, except);
      if (backup) asking.hosts.candidate(backup.name, `h${backup.host}`);
    });
  }

  #start(
    host: number,
    role: ConstructorParameters<typeof Instance>[3],
    build: number,
    snapshotFormat = 1,
  ): Instance {
    const name = `${String.fromCharCode(97 + (this.#names % 26))}${this.#names >= 26 ? Math.floor(this.#names / 26) : ''}@h${host}`;
    this.#names += 1;
    this.note(name, `starts as ${role.kind}`);
    return new Instance(this, name, host, role, { build, snapshotFormat });
  }

  /** An operator moves the guest to another host; what fault tolerance it has is turned off before, and on afterwards. */
  moveGuest(): void {
    const { primary, random } = this;
    if (!primary) return;
    const alone = primary.driver.state === 'SOLE' && random.chance(0.7);
    if (!alone) this.endProtection(primary);
    this.schedule(alone ? 0 : random.between(5, 60), () => {
      const delay = this.#lapseMs();
      this.schedule(delay, () => this.#orderMove(this.primary));
      if (!alone) this.schedule(delay + random.between(50, 350), () => this.wantProtection());
    });
  }

  /** Now and then a guest is moved when its lease has just run out, with what it made since: after so long. */
  #lapseMs(): number {
    const { profile, random, arbiter } = this;
    if (!profile.restarts || this.healed || random.chance(0.6)) return 0;
    const lapseMs = random.between(0.85, 1) * profile.timing.leaseMs;
    this.note('arbiter', 'is out of reach');
    arbiter.down = true;
    this.schedule(lapseMs + random.between(5, 30), () => {
      arbiter.down = false;
    });
    return lapseMs;
  }

  /** The target may run a newer build, be slow, die, or be of no use. */
  #orderMove(primary: Instance | undefined): void {
    const host = primary && this.#freeHost(primary.host);
    if (!primary || host === undefined || this.healed) return;
    const { random } = this;
    const build = random.chance(0.5) ? primary.build : primary.build + 1;
    const fate = random.pick(['sound', 'sound', 'sound', 'slow', 'dies', 'of no use'] as const);
    const target = this.#start(host, { kind: 'backup' }, build, fate === 'of no use' ? 2 : 1);
    this.#build = Math.max(this.#build, build);
    if (fate === 'slow') target.loadMs = random.between(10, 2 * this.profile.timing.stillMs);
    if (fate === 'dies')
      target.afterActions(1 + random.below(60), () => {
        if (!this.healed && this.mayDie(target)) this.crash(target, random.chance(0.4));
      });
    this.note(primary.name, `is told to move the guest to ${target.name}, build ${build}, which is ${fate}`);
    primary.later(0, () => primary.driver.move(target.name));
    this.#endIdle(target);
  }

  moved(instance: Instance, stoodMs: number): void {
    this.moves += 1;
    if (stoodMs < 0) this.violated('the pause is told', `${instance.name} says ${stoodMs} ms`);
  }

  /** An operator ends a target that waits in vain, of a build that nobody needs. */
  #endIdle(target: Instance): void {
    this.schedule(150, () => {
      if (!target.running || target.driver.role === 'primary') return;
      const idle = target.driver.state === 'WAIT' || target.driver.state === 'ASK';
      const stranger = target.build !== this.primary?.build && this.mayDie(target);
      if (idle && stranger && this.primary?.driver.state !== 'COMMIT') this.crash(target, false);
      else this.#endIdle(target);
    });
  }

  /** An operator turns fault tolerance off. */
  endProtection(primary: Instance): void {
    this.note(primary.name, 'is told to end fault tolerance');
    primary.later(0, () => primary.driver.unprotect());
    this.unprotected = true;
    this.#toldToProtect = undefined;
  }

  /**
   * An operator turns fault tolerance on again, wherever the VM is now; and once more where it has been taken over by a
   * side that heard nothing of it.
   */
  wantProtection(): void {
    const { primary } = this;
    const backup = primary && this.backupFor(primary);
    if (!primary || !backup || !this.unprotected) return;
    const told = this.#toldToProtect;
    if (told === primary || (told && primary.driver.state !== 'SOLE')) return;
    this.#toldToProtect = primary;
    this.note(primary.name, `is told to be protected by ${backup.name}`);
    primary.later(0, () => primary.driver.protect(backup.name));
  }

  // ------------------------------------------------------------------------------------------ faults

  /** Whether the VM outlives the loss of this instance, as far as an outsider can tell. */
  mayDie(victim: Instance): boolean {
    if (this.random.chance(this.profile.reckless)) return true;
    const { record } = this.arbiter;
    const [primary, backup] = [this.processOf(record.primary), this.processOf(record.backup)];
    if (primary !== victim && backup !== victim) return victim !== this.primary;
    if (record.mode !== 'pair') return false;
    const other = primary === victim ? backup : primary;
    if (!other?.running || other.forced) return false;
    return primary === victim ? other.state === 'BACK' : other.state === 'PAIR';
  }

  crash(victim: Instance, power: boolean): void {
    victim.forced = true;
    victim.kill(power);
    if (!power) return;
    this.#hostsDown.add(victim.host);
    this.schedule(this.random.between(30, 200), () => this.#hostsDown.delete(victim.host));
  }

  restartDisk(): void {
    if (this.copies.length > 0) {
      this.#outage();
      return;
    }
    this.disk.restart();
    for (const instance of this.instances.values()) if (instance.running) instance.disks.reconnect();
  }

  /** A backup's host is without power for a moment, often with much of what it wrote still under way; then it is there again. */
  #outage(): void {
    const { partner, random, disk } = this;
    if (!partner) return;
    if (random.chance(0.7)) disk.slowMs = random.between(5, 60);
    this.schedule(random.between(5, 40), () => {
      disk.slowMs = 0;
      if (this.healed || !partner.running || !this.mayDie(partner)) return;
      this.crash(partner, true);
      this.schedule(random.between(5, 30), () => this.#hostsDown.delete(partner.host));
      this.#returns = partner.host;
    });
  }

  /** Faults stop: everything that is there works. */
  heal(): void {
    this.note('world', 'heals');
    this.healed = true;
    const { network, arbiter, disk } = this;
    network.healAll();
    network.loss = 0;
    network.jitterMs = 0.1;
    network.spoilt = 0;
    arbiter.down = false;
    arbiter.loss = 0;
    arbiter.slowMs = 0;
    disk.slowMs = 0;
    disk.stalled = false;
    disk.failing = 0;
    this.#hostsDown.clear();
    for (let delay = 50; delay < 600; delay += 50) this.schedule(delay, () => this.wantProtection());
    for (const instance of this.instances.values()) {
      instance.goOn();
      instance.replayMs = 0.2;
      instance.replayBatch = 32;
    }
  }

  endName(end: number): string {
    const { network } = this;
    if (end < network.disk) return `h${end}`;
    return end === network.disk ? 'disk' : end === network.arbiter ? 'arbiter' : 'clients';
  }
}
