import { type HostMilliseconds, hostMilliseconds } from '../src/base/units.ts';
import { NO_COPY } from '../src/ft/copy-name.ts';
import { instanceId } from '../src/ft/identity.ts';
import type { Link } from '../src/ft/link.ts';
import type { Message } from '../src/ft/message.ts';
import { Driver, type Role } from '../src/hypervisor/driver.ts';
import type {
  ArbiterEvents,
  ChannelEvents,
  ClockEvents,
  ClockPort,
  HeartbeatEvents,
  HostsEvents,
  NetworkEvents,
  Ports,
  StatusReport,
} from '../src/hypervisor/ports.ts';
import { SimDiskPort } from './disk-server.ts';
import type { SimLink } from './link.ts';
import { SimOwnDiskPort } from './own-disk.ts';
import { SimVcpu } from './vcpu.ts';
import type { World } from './world.ts';

/** Which program an instance runs. */
export interface Make {
  readonly build: number;
  readonly snapshotFormat: number;
}

/** One VM process: the production driver and core over simulated ports. It may be killed or stopped at any step. */
export class Instance {
  readonly world: World;
  readonly name: string;
  readonly host: number;
  /** Of the program that it runs. */
  readonly build: number;
  readonly driver: Driver;
  readonly vcpu: SimVcpu;
  readonly disks: SimDiskPort | SimOwnDiskPort;
  readonly clock: SimClock;
  readonly links = new Map<Link, SimLink>();
  readonly peers = new Set<Instance>();
  alive = true;
  /** Why it ended by itself. */
  halted: string | undefined;
  /** A fault ended it or its vCPU. */
  forced = false;
  state = '';
  /** When it was last stopped, and the last output that left it. */
  stoppedAt = Number.NEGATIVE_INFINITY;
  lastLeft = 0;
  /** When its guest was last seen standing still for a move. */
  stoodStillAt = Number.NEGATIVE_INFINITY;
  /** When the copy that it has, or waits for, began. */
  loadingSince = 0;
  networkOpen = false;
  networkEpoch = 0;
  replayMs = 0.2;
  replayBatch = 32;
  /** Until a guest that is moved here is loaded. */
  loadMs = 0;
  channel!: ChannelEvents;
  heartbeats!: HeartbeatEvents;
  hosts!: HostsEvents;
  #network!: NetworkEvents;
  #arbiter!: ArbiterEvents;
  #paused = false;
  /** What it was just doing when it was stopped, and what came meanwhile, in order. */
  #unfinished: (() => void)[] = [];
  #parked: (() => void)[] = [];
  /** So many actions from now something happens to it, in the middle of whatever it does then. */
  #actionsLeft = 0;
  #then: () => void = () => {};

  constructor(world: World, name: string, host: number, role: Role, { build, snapshotFormat }: Make) {
    this.world = world;
    this.name = name;
    this.host = host;
    this.build = build;
    world.instances.set(name, this);
    this.clock = new SimClock(this, world.random.between(0, 1e6), 1 + world.random.between(-1e-4, 1e-4));
    this.vcpu = new SimVcpu(this, world.clients.length, role.kind === 'primary' ? ++world.lives : undefined);
    const { vm, profile } = world;
    const copy = world.copies[host];
    this.disks = copy ? new SimOwnDiskPort(this, copy) : new SimDiskPort(this);
    const program = { machine: 'toy', build: String(build), logFormat: build, snapshotFormat };
    const side = {
      vm,
      instance: instanceId(name),
      host: `h${host}`,
      program,
      timing: profile.timing,
      disks: profile.disks,
      copy: copy?.name ?? NO_COPY,
      limits: profile.limits,
    };
    this.driver = new Driver(this.#ports(), { side, role, macs: [new Uint8Array(6)] }, world.cores(this));
    this.driver.start();
  }

  get running(): boolean {
    return this.alive && this.halted === undefined;
  }

  /** It goes on as the VM, for all that can be seen from outside. */
  get live(): boolean {
    return this.running && this.driver.role === 'primary' && this.networkOpen;
  }

  /** Something accepts connections there: also in a process that is stopped. */
  get listening(): boolean {
    return this.running;
  }

  get paused(): boolean {
    return this.#paused;
  }

  // ------------------------------------------------------------------------------------------ the process

  /** Runs later in this process, unless it has died by then. */
  later(delay: number, run: () => void): void {
    this.world.schedule(delay, () => {
      if (this.#paused || this.#unfinished.length > 0 || this.#parked.length > 0) this.#parked.push(run);
      else if (this.running) run();
    });
  }

  /** Something that this process does to the world. It may not get there, or much later. */
  act(run: () => void): void {
    if (this.#actionsLeft > 0 && --this.#actionsLeft === 0) this.#then();
    if (this.#paused) this.#unfinished.push(run);
    else if (this.running) run();
  }

  /** Several things that happen to this process one after the other: it may die or stop between two of them. */
  each(runs: readonly (() => void)[]): void {
    for (const run of runs) {
      if (this.#paused) this.#unfinished.push(run);
      else if (this.running) run();
    }
  }

  /** `then` happens in the middle of what it does: after so many actions. */
  afterActions(actions: number, then: () => void): void {
    this.#actionsLeft = actions;
    this.#then = then;
  }

  /** SIGKILL, or the host's power is gone: then nobody closes its connections. */
  kill(silently: boolean): void {
    if (!this.running) return;
    this.world.note(this.name, silently ? 'loses its power' : 'is killed');
    this.alive = false;
    this.disks.close();
    if (silently) this.world.copies[this.host]?.losePower();
    this.#unfinished = [];
    this.#parked = [];
    for (const link of [...this.links.values()]) link.died(silently);
  }

  stop(): void {
    if (!this.running || this.#paused) return;
    this.world.note(this.name, 'is stopped');
    this.#paused = true;
    this.stoppedAt = this.world.now;
  }

  goOn(): void {
    if (!this.#paused) return;
    this.world.note(this.name, 'goes on');
    if (this.world.clocksStop) this.clock.stoodStill(this.world.now - this.stoppedAt);
    this.#paused = false;
    this.world.schedule(0, () => {
      while (!this.#paused && this.running) {
        const run = this.#unfinished.shift() ?? this.#parked.shift();
        if (!run) break;
        // Stopped again in the middle of this one, the rest of it comes before what was to follow it.
        const rest = this.#unfinished;
        this.#unfinished = [];
        run();
        this.#unfinished.push(...rest);
      }
      if (!this.running) this.#parked = this.#unfinished = [];
    });
  }

  // ------------------------------------------------------------------------------------------ what arrives

  receiveFrame(frame: Uint8Array): void {
    if (this.networkOpen) this.#network.frame(0, { frame });
  }

  received(link: SimLink, messages: readonly Message[]): void {
    this.world.oracles.received(link, messages);
    this.channel.received(link.link, messages);
  }

  // ------------------------------------------------------------------------------------------ ports

  #ports(): Ports {
    const { world } = this;
    return {
      vcpu: this.vcpu,
      disks: this.disks,
      clock: this.clock,
      network: {
        listen: (events) => {
          this.#network = events;
        },
        open: (epoch) =>
          this.act(() => {
            this.networkOpen = true;
            this.networkEpoch = epoch;
            world.oracles.wentLive(this);
          }),
        send: (_nic, { frame }) =>
          this.act(() => {
            world.oracles.left(this, frame);
            world.network.fromGuest(this, frame);
          }),
        replayed: () => {},
        announce: () => {},
        close: () => {
          this.networkOpen = false;
        },
      },
      console: {
        listen: () => {},
        write: (_port, bytes) => this.act(() => world.oracles.left(this, bytes)),
      },
      arbiter: {
        listen: (events) => {
          this.#arbiter = events;
        },
        request: (request) =>
          this.act(() => world.arbiter.request(this, request, (answer) => this.#arbiter.answered(answer))),
      },
      channel: {
        listen: (events) => {
          this.channel = events;
        },
        connect: (address) => this.act(() => world.network.connect(this, address)),
        send: (target, message) => this.act(() => this.links.get(target)?.send(message)),
        sendSnapshot: (target, snapshot) =>
          this.act(() => this.links.get(target)?.send({ kind: 'snapshot-part', bytes: snapshot })),
        flush: (target) => this.act(() => this.links.get(target)?.flush()),
        pauseReading: (target) => this.act(() => this.links.get(target)?.pause(true)),
        resumeReading: (target) => this.act(() => this.links.get(target)?.pause(false)),
        close: (target) => this.act(() => this.links.get(target)?.close()),
      },
      heartbeats: {
        listen: (events) => {
          this.heartbeats = events;
        },
        send: (heartbeat, to) => this.act(() => world.network.heartbeat(this, heartbeat, to)),
      },
      hosts: {
        listen: (events) => {
          this.hosts = events;
        },
        find: (except) => this.act(() => world.findHost(this, except)),
      },
      entropy: { bytes: (length) => new Uint8Array(length).fill(world.random.below(256)) },
      status: { report: (status) => this.act(() => this.#report(status)) },
    };
  }

  #report(status: StatusReport): void {
    if (status.kind === 'state') {
      this.state = status.state;
      if (status.state === 'LOAD') this.loadingSince = this.world.now;
      if (status.state === 'GATE') this.#gates(status.detail);
      if (status.state === 'OPEN') {
        const then = this.world.whenOpening;
        this.world.whenOpening = undefined;
        then?.(this);
      }
      this.world.note(this.name, `${status.state}: ${status.detail}`);
    } else if (status.kind === 'moved') {
      this.world.note(
        this.name,
        `the guest has moved here; it stood still for ${status.stoodMs.toFixed(1)} ms`,
      );
      this.world.moved(this, status.stoodMs);
    } else if (status.kind === 'power') {
      this.world.note(this.name, 'the guest is off');
      this.world.poweredOff = true;
    } else if (status.kind === 'halted') {
      this.world.note(this.name, `halts: ${status.reason}`);
      this.#end(status.reason);
    }
  }

  /** A copy is there: of a new backup, or of a guest that is moved. */
  #gates(detail: string): void {
    const { world } = this;
    if (detail.startsWith('gate')) {
      const then = world.whenGating;
      world.whenGating = undefined;
      then?.(this);
    } else if (world.random.chance(0.2)) {
      this.afterActions(1 + world.random.below(40), () => {
        if (!world.healed && world.mayDie(this)) world.crash(this, world.random.chance(0.4));
      });
    }
  }

  /** The process exits: what it had given to its kernel still leaves. */
  #end(reason: string): void {
    this.halted = reason;
    for (const link of [...this.links.values()]) link.close();
  }
}

/** A host's monotonic clock: it begins anywhere and runs a little fast or slow. */
class SimClock implements ClockPort {
  readonly #instance: Instance;
  #offset: number;
  readonly #rate: number;
  readonly #timers = new Map<string, number>();
  #events!: ClockEvents;
  #order = 0;

  constructor(instance: Instance, offset: number, rate: number) {
    this.#instance = instance;
    this.#offset = offset;
    this.#rate = rate;
  }

  listen(events: ClockEvents): void {
    this.#events = events;
  }

  stoodStill(milliseconds: number): void {
    this.#offset -= milliseconds * this.#rate;
  }

  now(): HostMilliseconds {
    return hostMilliseconds(this.#offset + this.#instance.world.now * this.#rate);
  }

  setTimer(name: string, at: HostMilliseconds): void {
    const order = ++this.#order;
    this.#timers.set(name, order);
    this.#instance.later(Math.max(0, (at - this.now()) / this.#rate), () => {
      if (this.#timers.get(name) === order) this.#events.timer(name);
    });
  }

  clearTimer(name: string): void {
    this.#timers.delete(name);
  }
}
