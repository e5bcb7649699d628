import type { DiskRequestOutput, Input, Output } from '../src/machine/door.ts';
import type { Profile } from './profile.ts';
import { bytesOf, stirred, wordsOf } from './words.ts';

/**
 * The toy guest: a small database whose whole state hangs on every input and on the count at which it came. Each
 * client has a counter in memory, which only fault tolerance keeps, and a block on the disk.
 *
 * A request frame is [client, id, operation, argument]. Every output that has content begins with
 * [number, link before, link, life], where the link is a hash of all outputs so far and of the state that made them: a
 * reader of the outputs alone can tell whether one contradicts another. After that comes the life: a guest that is
 * booted again, from its disk, has another one.
 */
export const OPERATION = { count: 0, put: 1, get: 2, peek: 3 } as const;

/** Words of every output's head, and of a reply behind it: [client, id, value]. */
export const HEAD_WORDS = 4;

export const BLOCK_BYTES = 512;
/** Numbers of reads, which nobody counts among the outputs, lie above this. */
const READS = 0x4000_0000;
const CONSOLE_EVERY = 1500;
const FIXED_WORDS = 9;
const CLIENT_WORDS = 10;
const REQUEST_WORDS = 4;

const IDLE = 0;
const WRITING = 1;
const FLUSHING = 2;
const READING = 3;
/** What was written is on the disk, and the guest has not read it back yet. */
const WRITTEN = 4;
/** Nothing was read back so far. */
const NOTHING = -2;

interface Served {
  stage: number;
  /** The request under way, its value, and the disk operation that it waits for. */
  id: number;
  value: number;
  disk: number;
  /** A read of what is being written, asked for behind the write and before its end, and what it has brought; 0: none. */
  readBack: number;
  got: number;
  /** The last request that was answered, and its answer. */
  lastId: number;
  lastValue: number;
  counter: number;
  /** What the guest believes to be on the disk: read when it booted, written since. */
  cached: number;
}

export interface GuestOutputs {
  output(number: number, at: number, output: Output, link: number): void;
}

export type GuestWorld = Pick<Profile, 'readsBack'> & { readonly disks: { readonly own: boolean } };

export class Guest {
  count = 0;
  outputs = 0;
  #life: number;
  #off = false;
  /** Outputs that anybody sees: not reads of a disk, and no requests to disks of its own. */
  visible = 0;
  readonly #own: boolean;
  readonly #readsBack: boolean;
  #chain = 1;
  #link = 1;
  #guestTime = 0;
  #consoleAt = CONSOLE_EVERY;
  readonly #clients: Served[];
  #pending: DiskRequestOutput[] = [];
  readonly #sink: GuestOutputs;
  /** Two builds of the program do not treat a guest alike, to the last flag. */
  readonly #build: number;

  constructor(sink: GuestOutputs, clients: number, build: number, world: GuestWorld, life = 0) {
    this.#build = build;
    this.#own = world.disks.own;
    this.#readsBack = world.readsBack;
    this.#life = life;
    this.#sink = sink;
    this.#clients = Array.from({ length: clients }, newlyServed);
  }

  /** Switched off by order: nothing runs any more. */
  get off(): boolean {
    return this.#off;
  }

  get life(): number {
    return this.#life;
  }

  /** Before its first instruction it reads its disk. */
  boot(values: readonly number[]): void {
    values.forEach((value, client) => {
      this.#clients[client]!.cached = value;
    });
  }

  get pending(): readonly DiskRequestOutput[] {
    return this.#pending;
  }

  get digest(): string {
    return (stirred(this.#chain, this.#link) >>> 0).toString(16).padStart(32, '0');
  }

  /** Runs to exactly `until`, before any input there. */
  run(until: number): void {
    if (this.#off) return;
    while (this.#consoleAt < until) {
      this.count = this.#consoleAt;
      this.#consoleAt += CONSOLE_EVERY;
      this.#chain = stirred(this.#chain, this.count);
      // An instruction makes it: the mark lies at the instruction after it.
      this.#out('console', 0, 0, 0, this.count + 1);
    }
    this.count = until;
  }

  /** False when a completion answers nothing that this guest waits for. */
  apply(input: Input): boolean {
    this.#chain = stirred(this.#chain, this.count + this.#build);
    switch (input.kind) {
      case 'clock':
        this.#guestTime = Number(input.guestTime & 0x7fffffffn);
        this.#chain = stirred(this.#chain, this.#guestTime);
        return true;
      case 'frame':
        this.#serve(wordsOf(input.frame));
        return true;
      case 'disk-completed':
        return this.#completed(input.request, input.status, input.data);
      case 'control':
        if (input.action === 'power-off') this.#powerOff();
        return true;
      case 'entropy':
        for (const word of wordsOf(input.seed)) this.#chain = stirred(this.#chain, word);
        return true;
      default:
        return true;
    }
  }

  snapshot(): Uint8Array {
    const words = [this.count, this.outputs, this.#chain, this.#link, this.#guestTime, this.#consoleAt];
    words.push(this.#off ? -this.#life : this.#life, this.#pending.length, this.visible);
    for (const { stage, id, value, disk, lastId, lastValue, counter, cached, readBack, got } of this.#clients)
      words.push(stage, id, value, disk, lastId, lastValue, counter, cached, readBack, got);
    for (const { request, operation, offset, length, data } of this.#pending)
      words.push(
        request,
        operation === 'read' ? READING : operation === 'write' ? WRITING : FLUSHING,
        offset,
        length,
        data.length >> 2,
        ...wordsOf(data),
      );
    return bytesOf(Int32Array.from(words));
  }

  static restore(
    snapshot: Uint8Array,
    sink: GuestOutputs,
    clients: number,
    build: number,
    world: GuestWorld,
  ): Guest {
    const words = wordsOf(snapshot);
    const guest = new Guest(sink, clients, build, world);
    guest.visible = words[8]!;
    guest.count = words[0]!;
    guest.outputs = words[1]!;
    guest.#chain = words[2]!;
    guest.#link = words[3]!;
    guest.#guestTime = words[4]!;
    guest.#consoleAt = words[5]!;
    guest.#life = Math.abs(words[6]!);
    guest.#off = words[6]! < 0;
    let at = FIXED_WORDS;
    for (const served of guest.#clients) {
      served.stage = words[at]!;
      served.id = words[at + 1]!;
      served.value = words[at + 2]!;
      served.disk = words[at + 3]!;
      served.lastId = words[at + 4]!;
      served.lastValue = words[at + 5]!;
      served.readBack = words[at + 8]!;
      served.got = words[at + 9]!;
      served.counter = words[at + 6]!;
      served.cached = words[at + 7]!;
      at += CLIENT_WORDS;
    }
    for (let left = words[7]!; left > 0; left--) {
      const [request = 0, kind = 0, offset = 0, length = 0] = words.slice(at, at + REQUEST_WORDS);
      const size = words[at + REQUEST_WORDS]!;
      at += REQUEST_WORDS + 1;
      const operation = kind === READING ? 'read' : kind === WRITING ? 'write' : 'flush';
      const data = bytesOf(words.slice(at, at + size));
      guest.#pending.push({ kind: 'disk-request', disk: 0, request, operation, offset, length, data });
      at += size;
    }
    return guest;
  }

  #powerOff(): void {
    this.#off = true;
    const number = ++this.outputs;
    this.visible += 1;
    this.#link = stirred(this.#link, number);
    this.#sink.output(number, this.count, { kind: 'power', state: 'off', value: 0 }, this.#link);
  }

  #serve(request: Int32Array): void {
    const [client = 0, id = 0, operation = 0, argument = 0] = request;
    const served = this.#clients[client]!;
    this.#chain = stirred(stirred(this.#chain, id), this.#guestTime);
    if (id === served.lastId) {
      // The answer was lost on the way: the same again, and nothing is done twice.
      this.#out('frame', client, id, served.lastValue, this.count);
      return;
    }
    if (id < served.lastId || served.stage !== IDLE) return;
    served.id = id;
    if (operation === OPERATION.count) {
      served.counter += 1;
      this.#answer(client, served, served.counter);
    } else if (operation === OPERATION.peek) {
      this.#answer(client, served, served.cached);
    } else if (operation === OPERATION.put) {
      served.value = argument;
      this.#disk(client, served, WRITING);
      if (this.#readsBack && id % 2 === 1) this.#readBack(client, served);
    } else {
      this.#disk(client, served, READING);
    }
  }

  #completed(request: number, status: 'ok' | 'error', data: Uint8Array): boolean {
    const waiting = this.#pending.findIndex((candidate) => candidate.request === request);
    if (waiting < 0) return false;
    this.#pending.splice(waiting, 1);
    this.#chain = stirred(this.#chain, request);
    const client = this.#clients.findIndex(
      ({ stage, disk, readBack }) => stage !== IDLE && (disk === request || readBack === request),
    );
    const served = this.#clients[client];
    // Read back what was then not written after all.
    if (!served) return true;
    const back = served.readBack === request;
    // A failed operation is tried again, as a file system's journal would.
    if (status === 'error') {
      if (!back) this.#disk(client, served, served.stage);
      if (back || (served.stage === WRITING && served.readBack !== 0)) this.#readBack(client, served);
    } else if (back || served.stage === READING) {
      const value = data.length === 0 ? 0 : wordsOf(data)[HEAD_WORDS]!;
      this.#chain = stirred(this.#chain, value);
      served.got = value;
      if (!back || served.stage === WRITTEN) this.#answer(client, served, value);
    } else if (served.stage === WRITING) this.#disk(client, served, FLUSHING);
    else {
      served.cached = served.value;
      if (served.readBack === 0) this.#answer(client, served, served.value);
      else if (served.got !== NOTHING) this.#answer(client, served, served.got);
      else served.stage = WRITTEN;
    }
    return true;
  }

  #readBack(client: number, served: Served): void {
    served.got = NOTHING;
    served.readBack = this.#requestOf('read');
    this.#out('read', client, served.id, served.value, this.count);
  }

  #answer(client: number, served: Served, value: number): void {
    served.stage = IDLE;
    served.readBack = 0;
    served.lastId = served.id;
    served.lastValue = value;
    this.#out('frame', client, served.id, value, this.count);
  }

  #disk(client: number, served: Served, stage: number): void {
    served.stage = stage;
    const operation = stage === WRITING ? 'write' : stage === FLUSHING ? 'flush' : 'read';
    served.disk = this.#requestOf(operation);
    this.#out(operation, client, served.id, served.value, this.count);
  }

  /** The next one's: of what anybody sees the number of its output, so the disk sees the order of outputs too. */
  #requestOf(operation: DiskRequestOutput['operation']): number {
    if (this.#own) return this.outputs + 1;
    return operation === 'read' ? READS + this.outputs : this.visible + 1;
  }

  #out(
    kind: 'frame' | 'console' | DiskRequestOutput['operation'],
    client: number,
    id: number,
    value: number,
    at: number,
  ): void {
    const request = kind === 'frame' || kind === 'console' ? 0 : this.#requestOf(kind);
    const number = ++this.outputs;
    const before = this.#link;
    const link = stirred(stirred(stirred(before, this.#chain), client), stirred(id, value));
    // What a reader of the outputs sees hangs together by itself.
    const seen = kind === 'frame' || kind === 'console' || !(this.#own || kind === 'read');
    if (seen) {
      this.#link = link;
      this.visible += 1;
    }
    const full = kind === 'frame' || kind === 'write';
    const content = full
      ? Int32Array.of(this.visible, before, link, this.#life, kind === 'write' ? value : client, id, value)
      : Int32Array.of(this.visible, before, link, this.#life);
    let output: Output;
    if (kind === 'frame') output = { kind, nic: 0, frame: bytesOf(content) };
    else if (kind === 'console') output = { kind, port: 0, bytes: bytesOf(content) };
    else {
      const offset = kind === 'flush' ? 0 : client * BLOCK_BYTES;
      const length = kind === 'flush' ? 0 : BLOCK_BYTES;
      const data = kind === 'write' ? bytesOf(content) : new Uint8Array(0);
      output = { kind: 'disk-request', disk: 0, request, operation: kind, offset, length, data };
      this.#pending.push(output);
    }
    this.#sink.output(number, at, output, link);
  }
}

function newlyServed(): Served {
  return {
    stage: IDLE,
    id: 0,
    value: 0,
    disk: 0,
    lastId: 0,
    lastValue: 0,
    counter: 0,
    cached: 0,
    readBack: 0,
    got: NOTHING,
  };
}
