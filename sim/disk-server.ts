import type { Epoch } from '../src/ft/identity.ts';
import type { DiskEvents, DiskPort } from '../src/hypervisor/ports.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../src/machine/door.ts';
import { BLOCK_BYTES, HEAD_WORDS } from './guest.ts';
import type { Instance } from './instance.ts';
import { bytesOf, wordsOf } from './words.ts';
import type { World } from './world.ts';

type Done = 'fenced' | Pick<DiskCompletedInput, 'status' | 'data'>;

interface Operation {
  readonly session: number;
  readonly request: DiskRequestOutput;
  readonly done: (done: Done) => void;
}

/** Of operations that no fence refuses. */
const READING = Number.MAX_SAFE_INTEGER;
const NO_DATA = new Uint8Array(0);
/** What a read of a block finds whose write was torn. */
const TORN_VALUE = -1;
const TORN = bytesOf(new Int32Array(HEAD_WORDS + 3).fill(TORN_VALUE));

/** Holds the blocks and the fence (protocol 6). It may be slow, stand still, fail operations, and restart. */
export class DiskServer {
  readonly #world: World;
  readonly #blocks = new Map<number, Uint8Array>();
  /** What a block held before a write to it was torn: a file system that boots has it in its journal. */
  readonly #journal = new Map<number, Uint8Array>();
  readonly #queues = new Map<number, Operation[]>();
  readonly #executing = new Set<Operation>();
  #opening: (() => void)[] = [];
  fence = 0;
  #owner = '';
  /** Counts restarts: what was under way before the last one is gone. */
  life = 0;
  slowMs = 0;
  stalled = false;
  failing = 0;
  /** Switched by mutants. */
  fences = true;
  drains = true;

  constructor(world: World) {
    this.#world = world;
  }

  open(epoch: Epoch, instance: string, answered: (verdict: 'ok' | 'refused') => void): void {
    if (epoch < this.fence || (epoch === this.fence && this.#owner !== instance && this.#owner !== '')) {
      answered('refused');
      return;
    }
    if (epoch > this.fence) this.#world.note('disk', `fence at ${epoch}`);
    this.fence = epoch;
    this.#owner = instance;
    // Accepted and not begun: refused now. Begun: the answer waits for its end.
    if (this.fences) for (const queue of this.#queues.values()) this.#refuseOld(queue);
    this.#opening.push(() => {
      this.#world.oracles.diskOpened(epoch);
      answered('ok');
    });
    this.#admit();
  }

  submit(operation: Operation): void {
    if (this.fences && operation.session < this.fence) {
      operation.done('fenced');
      return;
    }
    const block = operation.request.operation === 'flush' ? -1 : operation.request.offset;
    const queue = this.#queues.get(block);
    if (queue) queue.push(operation);
    else {
      this.#queues.set(block, [operation]);
      this.#begin(block);
    }
  }

  /** A crash of the server: operations under way are done, undone or half done, and nobody is told. */
  restart(): void {
    const { random } = this.#world;
    this.life += 1;
    for (const operation of this.#executing) {
      if (operation.request.operation !== 'write') continue;
      const fate = random.below(3);
      if (fate === 0) this.#apply(operation);
      else if (fate === 1) this.#tear(operation);
    }
    this.#executing.clear();
    this.#queues.clear();
    this.#opening = [];
    this.#world.note('disk', 'restarts');
  }

  /** What a guest finds that boots now, by client: torn writes are undone first. */
  bootValues(): number[] {
    for (const [offset, data] of this.#blocks)
      if (data === TORN) this.#blocks.set(offset, this.#journal.get(offset) ?? NO_DATA);
    return this.#world.clients.map((_, client) => {
      const data = this.#blocks.get(client * BLOCK_BYTES);
      return data && data.length > 0 ? wordsOf(data)[HEAD_WORDS]! : 0;
    });
  }

  #refuseOld(queue: Operation[]): void {
    for (let index = queue.length - 1; index >= 0; index--) {
      const operation = queue[index]!;
      if (operation.session >= this.fence || this.#executing.has(operation)) continue;
      queue.splice(index, 1);
      operation.done('fenced');
    }
  }

  #begin(block: number): void {
    const operation = this.#queues.get(block)?.[0];
    if (!operation) {
      this.#queues.delete(block);
      return;
    }
    this.#executing.add(operation);
    const { life } = this;
    const end = (): void => {
      if (life !== this.life) return;
      if (this.stalled) {
        this.#world.schedule(3, end);
        return;
      }
      this.#executing.delete(operation);
      operation.done(this.#execute(operation));
      const queue = this.#queues.get(block);
      queue?.shift();
      this.#begin(block);
      this.#admit();
    };
    this.#world.schedule(this.#world.random.between(0.3, 1.5) + this.#world.random.unit() * this.slowMs, end);
  }

  #execute(operation: Operation): Done {
    const { request } = operation;
    this.#world.note(
      'disk',
      `${request.operation} ${request.request} of epoch ${operation.session} at ${request.offset}`,
    );
    if (this.#world.random.chance(this.failing)) return { status: 'error', data: NO_DATA };
    if (request.operation === 'write') this.#apply(operation);
    const data = request.operation === 'read' ? (this.#blocks.get(request.offset) ?? NO_DATA) : NO_DATA;
    return { status: 'ok', data };
  }

  #apply({ session, request }: Operation): void {
    this.#world.oracles.written(session, request);
    this.#blocks.set(request.offset, request.data);
    this.#journal.delete(request.offset);
  }

  #tear({ session, request }: Operation): void {
    this.#world.note('disk', `write ${request.request} of epoch ${session} is torn`);
    const before = this.#blocks.get(request.offset);
    if (before && before !== TORN) this.#journal.set(request.offset, before);
    this.#blocks.set(request.offset, TORN);
  }

  #admit(): void {
    if (this.drains) for (const { session } of this.#executing) if (session < this.fence) return;
    for (const answer of this.#opening.splice(0)) answer();
  }
}

/**
 * One instance's connection to the disk server. What has no answer is kept and sent again, once, on the next
 * connection: after a break, and after every opening, as the production port does.
 */
export class SimDiskPort implements DiskPort {
  readonly #instance: Instance;
  #events!: DiskEvents;
  #session = 0;
  #ready = false;
  #reconnecting = false;
  readonly #outstanding: DiskRequestOutput[] = [];
  /** Counts connections: answers of an earlier one are not read. */
  #connection = 0;
  #arrival = 0;
  /** What is on its way to the server on this connection, in order. */
  #way: object[] = [];
  #closed = false;
  /** A backup's own reads that have no answer. */
  readonly #reading = new Set<(done: Done) => void>();

  constructor(instance: Instance) {
    this.#instance = instance;
  }

  listen(events: DiskEvents): void {
    this.#events = events;
  }

  open(epoch: Epoch): void {
    const { world, name, host } = this.#instance;
    this.#instance.act(() => {
      this.#ready = false;
      this.#reconnecting = false;
      const connection = ++this.#connection;
      this.#way = [];
      world.schedule(this.#transit(), () => {
        if (world.network.isCut(host, world.network.disk)) return;
        world.disk.open(epoch, name, (verdict) => {
          this.#answer(connection, () => {
            this.#session = epoch;
            this.#events.opened(epoch, verdict);
            this.#ready = verdict === 'ok';
            if (this.#ready) for (const request of this.#outstanding) this.#send(request);
          });
        });
      });
    });
  }

  issue(request: DiskRequestOutput): void {
    this.#instance.act(() => {
      this.#instance.world.oracles.issued(this.#instance, request);
      if (this.#outstanding.some((earlier) => earlier.request === request.request)) return;
      this.#outstanding.push(request);
      if (this.#ready) this.#send(request);
    });
  }

  /** A backup's own read, on a connection of its own; it may fail, and get no answer when the server restarts. */
  replay(request: DiskRequestOutput): void {
    if (request.operation !== 'read') return;
    const { world, host } = this.#instance;
    this.#instance.act(() => {
      const answer = (done: Done): void => {
        if (!this.#reading.delete(answer)) return;
        let data = done !== 'fenced' && done.status === 'ok' ? done.data : undefined;
        // A cache on the way, or a bad cable: what was read is not what is there.
        if (data && world.random.chance(0.1)) data = data.map((byte) => byte ^ 1);
        this.#instance.later(this.#transit(), () => {
          if (!this.#closed) this.#events.read?.(request.disk, request.request, data);
        });
      };
      const { life } = world.disk;
      this.#reading.add(answer);
      world.schedule(this.#transit(), () => {
        const away = life !== world.disk.life || world.network.isCut(host, world.network.disk);
        if (away) answer({ status: 'error', data: NO_DATA });
        else world.disk.submit({ session: READING, request, done: answer });
      });
    });
  }

  close(): void {
    this.#closed = true;
  }

  bootValues(): number[] {
    return this.#instance.world.disk.bootValues();
  }

  /** The server was away; what it was told before is lost, and once that is noticed it is told again. */
  reconnect(): void {
    const connection = ++this.#connection;
    this.#way = [];
    for (const answer of this.#reading) answer({ status: 'error', data: NO_DATA });
    // An opening that was on its way is asked for again by the core.
    const opened = this.#ready || this.#reconnecting;
    this.#ready = false;
    this.#reconnecting = opened;
    this.#instance.later(this.#instance.world.random.between(1, 15), () => {
      if (this.#closed || connection !== this.#connection || !opened) return;
      this.#reconnecting = false;
      this.#ready = true;
      for (const request of this.#outstanding) this.#send(request);
    });
  }

  #send(request: DiskRequestOutput): void {
    const { world, host } = this.#instance;
    const session = this.#session;
    const connection = this.#connection;
    const { life } = world.disk;
    const way = this.#way;
    way.push(request);
    const arrive = (): void => {
      // A connection ends with its server; until then TCP sends again until the way is open.
      if (life !== world.disk.life) return;
      if (world.network.isCut(host, world.network.disk) || way[0] !== request) {
        // What follows waits behind it, also when the way is open again meanwhile.
        this.#arrival = Math.max(this.#arrival, world.now + 4);
        world.schedule(4, arrive);
        return;
      }
      way.shift();
      const done = (result: Done): void => this.#answer(connection, () => this.#done(request, result));
      world.disk.submit({ session, request, done });
    };
    // One connection: nothing overtakes.
    this.#arrival = Math.max(this.#arrival, world.now + this.#transit());
    world.schedule(this.#arrival - world.now, arrive);
  }

  #done(request: DiskRequestOutput, done: Done): void {
    if (done === 'fenced') {
      this.#events.fenced();
      return;
    }
    const at = this.#outstanding.indexOf(request);
    if (at < 0) return;
    this.#outstanding.splice(at, 1);
    this.#events.completed({ kind: 'disk-completed', disk: 0, request: request.request, ...done });
  }

  #answer(connection: number, run: () => void): void {
    const { world, host } = this.#instance;
    const arrive = (): void => {
      if (world.network.isCut(world.network.disk, host)) world.schedule(4, arrive);
      else
        this.#instance.later(0, () => {
          if (connection === this.#connection && !this.#closed) run();
        });
    };
    world.schedule(this.#transit(), arrive);
  }

  #transit(): number {
    const { random } = this.#instance.world;
    return random.chance(0.02) ? random.between(1, 60) : random.between(0.1, 0.6);
  }
}
