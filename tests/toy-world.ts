import { type HostMilliseconds, hostMilliseconds } from '../src/base/units.ts';
import type { ArbiterRequest } from '../src/ft/arbiter.ts';
import { NO_COPY } from '../src/ft/copy-name.ts';
import { SHARED_DISKS } from '../src/ft/disk-mode.ts';
import { epoch, instanceId, type VmId, vmId } from '../src/ft/identity.ts';
import { type Link, link } from '../src/ft/link.ts';
import type { Heartbeat, Message } from '../src/ft/message.ts';
import { decodeMessage, encodeMessage } from '../src/ft/message-codec.ts';
import { DEFAULT_LIMITS, DEFAULT_TIMING, type Limits, type Timing } from '../src/ft/timing.ts';
import { Driver, type Role } from '../src/hypervisor/driver.ts';
import type {
  ArbiterEvents,
  ChannelEvents,
  ClockEvents,
  DiskEvents,
  HeartbeatEvents,
  HostsEvents,
  NetworkEvents,
  Ports,
  StatusReport,
  VcpuEvents,
} from '../src/hypervisor/ports.ts';
import { VcpuLoop } from '../src/hypervisor/vcpu.ts';
import type { DiskRequestOutput } from '../src/machine/door.ts';
import { FrameReader } from '../src/replay/frame.ts';
import { decide, NO_RECORD, type VmRecord } from '../src/storage/vm-record.ts';
import { PROGRAM } from './greetings.ts';
import { ToyMachine } from './toy-machine.ts';

/**
 * Two instances of one VM in a world of virtual time: the real driver, core, vCPU loop and codecs over fake
 * network, disk and arbiter. The same calls give the same history. Faults are functions that a test sets.
 */

export const QUICK: Timing = {
  ...DEFAULT_TIMING,
  heartbeatMs: 10,
  suspicionMs: 100,
  suspicionMinMs: 100,
  requestMs: 30,
  requestMaxMs: 60,
  commitMs: 200,
  reconnectMs: 5,
  findMs: 50,
  reachMs: 100,
  copyMs: 2000,
  stillMs: 400,
  lagHighMs: 50,
  lagLowMs: 20,
};

export class World {
  now = 0;
  events = 0;
  readonly vm: VmId = vmId('toy');
  readonly nodes = new Map<string, Node>();
  readonly problems: string[] = [];
  /** Content by output number: one history, whoever tells it. */
  readonly seen = new Map<bigint, string>();
  record: VmRecord = NO_RECORD;
  fence = 0;
  disk = new Map<number, number>();
  replies: { id: number; key: number; value: number; at: number }[] = [];
  onReply: (id: number) => void = () => {};
  /** Called before every event. */
  beforeEvent: () => void = () => {};
  loseArbiterRequest: (request: ArbiterRequest) => boolean = () => false;
  loseArbiterAnswer: () => boolean = () => false;
  arbiterDown = false;
  cut = (_from: string, _to: string): boolean => false;
  /** The logging channel alone: heartbeats go through. */
  cutChannel = (_from: string, _to: string): boolean => false;
  #queue: { at: number; order: number; run: () => void }[] = [];
  #order = 0;

  schedule(delay: number, run: () => void): void {
    const item = { at: this.now + delay, order: this.#order++, run };
    let low = 0;
    let high = this.#queue.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#queue[middle]!;
      if (other.at < item.at || (other.at === item.at && other.order < item.order)) low = middle + 1;
      else high = middle;
    }
    this.#queue.splice(low, 0, item);
  }

  runUntil(time: number): void {
    for (let next = this.#queue[0]; next && next.at <= time; next = this.#queue[0]) {
      this.#queue.shift();
      this.now = next.at;
      this.events++;
      this.beforeEvent();
      next.run();
    }
    this.now = time;
  }

  cutsChannel(from: string, to: string): boolean {
    return this.cut(from, to) || this.cutChannel(from, to);
  }

  /** A client's frame: it reaches whoever has the network open. */
  request(id: number, key: number): void {
    for (const node of this.nodes.values()) {
      this.schedule(0.1, () => node.receiveFrame(Uint8Array.of(id, key)));
    }
  }

  reply(frame: Uint8Array): void {
    const [id = 0, key = 0, value = 0] = frame;
    this.schedule(0.1, () => {
      const other = this.replies.find(
        (reply) => reply.key === key && reply.value === value && reply.id !== id,
      );
      if (other) this.problems.push(`value ${value} of key ${key} was given to ${other.id} and to ${id}`);
      if ((this.disk.get(key) ?? 0) < value)
        this.problems.push(`value ${value} was acknowledged and not written`);
      this.replies.push({ id, key, value, at: this.now });
      this.onReply(id);
    });
  }

  leaves(node: string, number: bigint, content: string): void {
    const before = this.seen.get(number);
    if (before !== undefined && before !== content) {
      this.problems.push(`${node} contradicts output ${number}: ${content} after ${before}`);
    }
    this.seen.set(number, content);
  }
}

export interface NodeOptions {
  readonly role: Role;
  readonly timing?: Timing;
  readonly limits?: Partial<Limits>;
  /** Host milliseconds that one step of a replaying vCPU takes; a large value is a slow backup. */
  readonly stepMs?: number;
}

export class Node {
  readonly name: string;
  readonly world: World;
  readonly driver: Driver;
  readonly loop: VcpuLoop;
  readonly statuses: StatusReport[] = [];
  /** Frames that it was told of as a backup. */
  readonly replayed: Uint8Array[] = [];
  machine: ToyMachine | undefined;
  alive = true;
  stepMs: number;
  #paused = false;
  /** What came while it was stopped, in order. */
  #parked: (() => void)[] = [];
  readonly links = new Map<Link, FakeLink>();
  channel!: ChannelEvents;
  hosts!: HostsEvents;
  #heartbeats!: HeartbeatEvents;
  #network!: NetworkEvents;
  #disks!: DiskEvents;
  #arbiter!: ArbiterEvents;
  #session = 0;
  #networkOpen = false;
  #stepping = false;
  #stepOrder = 0;

  constructor(world: World, name: string, options: NodeOptions) {
    this.world = world;
    this.name = name;
    this.stepMs = options.stepMs ?? 0.3;
    world.nodes.set(name, this);
    this.loop = new VcpuLoop(
      {
        create: (sink) => ({ ok: true, value: (this.machine = new ToyMachine(sink)) }),
        restore: (snapshot, sink) => ({ ok: true, value: (this.machine = new ToyMachine(sink, snapshot)) }),
      },
      { digestEveryMs: 20 },
    );
    const side = {
      vm: world.vm,
      instance: instanceId(name),
      host: name,
      program: PROGRAM,
      disks: SHARED_DISKS,
      copy: NO_COPY,
      timing: options.timing ?? QUICK,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
    };
    this.driver = new Driver(this.#ports(), { side, role: options.role, macs: [new Uint8Array(6)] });
    if (options.role.kind === 'primary') this.loop.create();
    this.driver.start();
  }

  get halted(): string | undefined {
    const last = this.statuses.findLast((status) => status.kind === 'halted');
    return last?.kind === 'halted' ? last.reason : undefined;
  }

  get live(): boolean {
    return this.alive && this.driver.role === 'primary' && this.halted === undefined;
  }

  /** SIGKILL: what it was about to do never happens; its connections break. */
  kill(): void {
    this.alive = false;
    this.breakLinks('the process is gone');
  }

  breakLinks(reason: string): void {
    for (const fake of [...this.links.values()]) fake.break(reason);
  }

  receiveFrame(frame: Uint8Array): void {
    if (this.alive && this.#networkOpen) this.#network.frame(0, { frame });
  }

  receiveHeartbeat(heartbeat: Heartbeat): void {
    if (this.alive) this.#heartbeats.heartbeat(heartbeat);
  }

  /** Runs later in this instance, unless it has died by then. */
  later(delay: number, run: () => void): void {
    this.world.schedule(delay, () => {
      if (this.#paused || this.#parked.length > 0) this.#parked.push(run);
      else if (this.alive) run();
    });
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** SIGSTOP and SIGCONT. */
  set paused(paused: boolean) {
    this.#paused = paused;
    if (paused) return;
    this.world.schedule(0, () => {
      while (!this.#paused && this.#parked.length > 0) {
        if (this.alive) this.#parked[0]?.();
        this.#parked.shift();
      }
    });
  }

  #ports(): Ports {
    const { world } = this;
    const later = (delay: number, run: () => void): void => this.later(delay, run);
    const timers = new Map<string, number>();
    let clockEvents: ClockEvents;
    return {
      vcpu: this.#vcpu(),
      disks: {
        listen: (events) => {
          this.#disks = events;
        },
        open: (opened, _instance) => {
          later(0.2, () => {
            if (world.arbiterDown) return;
            const admitted = opened >= world.fence;
            if (admitted) {
              world.fence = opened;
              this.#session = opened;
            }
            later(0.2, () => this.#disks.opened(opened, admitted ? 'ok' : 'refused'));
          });
        },
        issue: (request) => this.#issue(request),
        replay: () => {},
        close: () => {
          this.#session = -1;
        },
      },
      network: {
        listen: (events) => {
          this.#network = events;
        },
        open: () => {
          this.#networkOpen = true;
        },
        send: (_nic, { frame }, output) => {
          world.leaves(this.name, output, `frame ${frame.join()}`);
          world.reply(frame);
        },
        replayed: (_nic, { frame }) => this.replayed.push(frame),
        announce: () => {},
        close: () => {
          this.#networkOpen = false;
        },
      },
      console: {
        listen: () => {},
        write: (_port, bytes, output) => world.leaves(this.name, output, `console ${bytes.join()}`),
      },
      arbiter: {
        listen: (events) => {
          this.#arbiter = events;
        },
        request: (request) => {
          if (world.arbiterDown || world.loseArbiterRequest(request)) return;
          world.schedule(0.5, () => {
            const decision = decide(world.record, request, false);
            world.record = decision.record;
            if (!world.loseArbiterAnswer()) later(0.5, () => this.#arbiter.answered(decision.answer));
          });
        },
      },
      channel: {
        listen: (events) => {
          this.channel = events;
        },
        connect: (address) => {
          later(0.1, () => {
            const peer = world.nodes.get(address);
            if (!peer?.alive || peer.halted !== undefined || world.cutsChannel(this.name, address)) {
              this.channel.broken(undefined, 'connection refused');
              return;
            }
            const ours = new FakeLink(this, peer);
            const theirs = new FakeLink(peer, this);
            ours.other = theirs;
            theirs.other = ours;
            this.channel.connected(ours.link, address);
          });
        },
        send: (target, message) => this.links.get(target)?.send(message),
        sendSnapshot: (target, snapshot) => {
          for (let at = 0; at < snapshot.length; at += 500) {
            this.links.get(target)?.send({ kind: 'snapshot-part', bytes: snapshot.slice(at, at + 500) });
          }
        },
        flush: (target) => this.links.get(target)?.flush(),
        pauseReading: (target) => this.links.get(target)?.pause(true),
        resumeReading: (target) => this.links.get(target)?.pause(false),
        close: (target) => this.links.get(target)?.close(),
      },
      heartbeats: {
        listen: (events) => {
          this.#heartbeats = events;
        },
        send: (heartbeat) => {
          for (const peer of world.nodes.values()) {
            if (peer === this || world.cut(this.name, peer.name)) continue;
            peer.later(0.1, () => peer.receiveHeartbeat(heartbeat));
          }
        },
      },
      clock: {
        listen: (events) => {
          clockEvents = events;
        },
        now: () => hostMilliseconds(world.now),
        setTimer: (name, at: HostMilliseconds) => {
          const token = (timers.get(name) ?? 0) + 1;
          timers.set(name, token);
          later(Math.max(0, at - world.now), () => {
            if (timers.get(name) === token) clockEvents.timer(name);
          });
        },
        clearTimer: (name) => {
          timers.set(name, (timers.get(name) ?? 0) + 1);
        },
      },

      // Orders alone say where a backup may be.
      hosts: {
        listen: (events) => {
          this.hosts = events;
        },
        find: () => {},
      },
      entropy: { bytes: (length) => new Uint8Array(length).fill(this.name.charCodeAt(0)) },
      status: {
        report: (status) => {
          this.statuses.push(status);
        },
      },
    };
  }

  #issue(request: DiskRequestOutput): void {
    const { world } = this;
    const session = this.#session;
    // The server executes it after a while, also when the sender has died meanwhile.
    world.schedule(0.7, () => {
      if (session < world.fence || session < 0) {
        this.later(0.1, () => this.#disks.fenced());
        return;
      }
      if (request.operation === 'write') world.disk.set(request.offset / 512, request.data[0] ?? 0);
      const completion = { kind: 'disk-completed', disk: request.disk, request: request.request } as const;
      this.later(0.3, () => {
        if (session === this.#session)
          this.#disks.completed({ ...completion, status: 'ok', data: new Uint8Array(0) });
      });
    });
  }

  /** The vCPU "thread": orders and events cross with a small delay, in order. */
  #vcpu(): Ports['vcpu'] {
    const order = (run: () => void): void => {
      this.later(0.02, () => {
        run();
        this.#poke(0);
      });
    };
    const { loop } = this;
    return {
      listen: (events: VcpuEvents) => {
        const tell = (run: () => void): void => this.later(0.02, run);
        loop.listen({
          entry: (at, payload) => tell(() => events.entry(at, payload)),
          output: (output) => tell(() => events.output(output)),
          flush: () => tell(() => events.flush()),
          pages: (copy, bytes) => tell(() => events.pages(copy, bytes)),
          snapshot: (snapshot, copy) => tell(() => events.snapshot(snapshot, copy)),
          loaded: (digest, pending) => tell(() => events.loaded(digest, pending)),
          replayed: (sequence, at) => tell(() => events.replayed(sequence, at)),
          replayedToEnd: (at, pending) => tell(() => events.replayedToEnd(at, pending)),
          diverged: (reason) => tell(() => events.diverged(reason)),
          stopped: (reason, failed) => tell(() => events.stopped(reason, failed)),
        });
      },
      run: () => order(() => loop.run()),
      pause: () => order(() => loop.pause()),
      input: (input) => order(() => loop.input(input)),
      replay: (entries) => order(() => loop.replay(entries)),
      endReplay: () => order(() => loop.endReplay()),
      setShare: (share) => order(() => loop.setShare(share)),
      snapshot: () => order(() => loop.snapshot()),
      copy: (number, standStill) => order(() => loop.copy(number, standStill)),
      letGo: () => order(() => loop.letGo()),
      copied: (parts) => order(() => loop.copied(parts)),
      forgetStaged: () => order(() => loop.forgetStaged()),
      stage: (pages) => order(() => loop.stage(pages)),
      load: (snapshot) => order(() => loop.load(snapshot)),
      stop: () => order(() => loop.stop()),
    };
  }

  #poke(delay: number): void {
    if (this.#stepping) return;
    this.#stepping = delay === 0;
    const mine = ++this.#stepOrder;
    this.later(delay, () => {
      if (mine !== this.#stepOrder) return;
      this.#stepping = false;
      const step = this.loop.step(hostMilliseconds(this.world.now));
      if (step.kind === 'busy') {
        // The slice took its time; only then comes the next one.
        this.#stepping = true;
        const next = ++this.#stepOrder;
        this.later(this.stepMs, () => {
          if (next !== this.#stepOrder) return;
          this.#stepping = false;
          this.#poke(0);
        });
      } else if (step.until !== undefined) {
        this.#poke(Math.max(0.001, step.until - this.world.now));
      }
    });
  }
}

let links = 0;

/** What nobody flushes, as in src/transport/tcp-channel.ts. */
const KEPT_BACK_MS = 20;

/** One end of a connection. Bytes cross with a delay, in order, through the real codecs. */
class FakeLink {
  readonly link = link(++links);
  readonly node: Node;
  readonly peer: Node;
  other!: FakeLink;
  #open = true;
  #paused = false;
  #outbox: Uint8Array[] = [];
  #inbox: Uint8Array[] = [];
  #reader = new FrameReader();

  constructor(node: Node, peer: Node) {
    this.node = node;
    this.peer = peer;
    node.links.set(this.link, this);
  }

  send(message: Message): void {
    this.#outbox.push(encodeMessage(message));
    if (this.#outbox.length === 1) this.node.later(KEPT_BACK_MS, () => this.flush());
  }

  flush(): void {
    if (this.#outbox.length === 0 || !this.#open) return;
    const chunk = Buffer.concat(this.#outbox);
    this.#outbox = [];
    if (this.node.world.cutsChannel(this.node.name, this.peer.name)) return;
    this.peer.later(0.1, () => this.other.arrive(chunk));
  }

  arrive(chunk: Uint8Array): void {
    if (!this.#open) return;
    this.#inbox.push(chunk);
    this.#read();
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    if (!paused) this.node.later(0.01, () => this.#read());
  }

  #read(): void {
    while (!this.#paused && this.#open) {
      const chunk = this.#inbox.shift();
      if (!chunk) return;
      this.#reader.push(chunk);
      const messages: Message[] = [];
      for (;;) {
        const frame = this.#reader.next();
        const message = frame.ok && frame.value ? decodeMessage(frame.value) : undefined;
        if (!frame.ok || (message && !message.ok)) throw new Error('the world damages nothing');
        if (!message?.ok) break;
        messages.push(message.value);
      }
      this.node.channel.received(this.link, messages);
    }
  }

  /** By our own side: no event for us, a break for the other. */
  close(): void {
    if (!this.#open) return;
    this.flush();
    this.#open = false;
    this.node.links.delete(this.link);
    this.peer.later(0.2, () => this.other.lost('closed by the other side'));
  }

  lost(reason: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.node.links.delete(this.link);
    if (this.node.alive) this.node.channel.broken(this.link, reason);
  }

  /** By the network: both sides see it. */
  break(reason: string): void {
    this.node.later(0.1, () => this.lost(reason));
    this.peer.later(0.1, () => this.other.lost(reason));
  }
}

/** A primary and a backup, as they start. */
export function startPair(world: World, options: Partial<NodeOptions> = {}): { a: Node; b: Node } {
  const b = new Node(world, 'b', { ...options, role: { kind: 'backup' } });
  const start = { kind: 'power-on', expected: epoch(0), waitForBackup: true } as const;
  const a = new Node(world, 'a', { ...options, role: { kind: 'primary', start } });
  a.driver.protect('b');
  return { a, b };
}

/** A client that sends one request after the other, and sends again what is not answered. */
export function client(world: World, count: number, retryMs = 60): { done: () => boolean } {
  let current = 0;
  let sentAt = 0;
  const send = (): void => {
    sentAt = world.now;
    world.request(current, current & 3);
  };
  const check = (): void => {
    if (current < count && world.now - sentAt >= retryMs) send();
    if (current < count) world.schedule(5, check);
  };
  world.onReply = (id) => {
    if (id !== current) return;
    current++;
    if (current < count) send();
  };
  world.schedule(5, () => {
    send();
    check();
  });
  return { done: () => current >= count };
}
