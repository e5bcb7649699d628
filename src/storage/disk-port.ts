import { type Epoch, epoch, type InstanceId, instanceId } from '../ft/identity.ts';
import type { DiskEvents, DiskPort } from '../hypervisor/ports.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { DiskCopy, type StoreChunk } from './disk-copy.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { NBD_PAYLOAD_LENGTH_MAX } from './nbd-wire.ts';

/** What the port needs of a disk: DiskClient is one, LocalDisk another. */
export interface PortDisk {
  open(epoch: Epoch, instance: InstanceId): Promise<'ok' | 'refused'>;
  execute(operation: DiskOperation): Promise<DiskAnswer>;
  close(): void;
}

interface Issued {
  readonly request: DiskRequestOutput;
  /** Earlier operations that must end first, because they overlap. */
  readonly after: Set<Issued>;
}

/** A reading session names nobody. */
const READER = instanceId('reader');
const EMPTY = new Uint8Array(0);
/** A change that found no room is tried again so often. */
const FULL_AGAIN_MS = 500;

/**
 * The disks of one VM [hypervisor/ports.ts DiskPort]. What finds the storage full is tried again until there is room: the
 * guest waits meanwhile, and loses nothing.
 */
export class ServedDiskPort implements DiskPort {
  readonly #disks: readonly PortDisk[];
  readonly #issued: Map<number, Issued>[];
  #events: DiskEvents | undefined;
  #closed = false;
  #fenced = false;
  readonly #say: (line: string) => void;
  /** Operations that wait for room, per disk. */
  readonly #full: Set<Issued>[];

  readonly #readers: readonly PortDisk[];
  #reading = false;
  /** Copies under way, per disk: what they lack is copied before it changes. */
  readonly #copies: (DiskCopy | undefined)[] = [];

  /** `say` is told when storage is full, and when it is no longer. `readers`: the same disks, for a backup's own reads. */
  constructor(
    disks: readonly PortDisk[],
    say: (line: string) => void = () => {},
    readers: readonly PortDisk[] = [],
  ) {
    this.#disks = disks;
    this.#say = say;
    this.#readers = readers;
    this.#full = disks.map(() => new Set());
    this.#issued = disks.map(() => new Map());
  }

  listen(events: DiskEvents): void {
    this.#events = events;
  }

  open(epoch: Epoch, instance: InstanceId): void {
    Promise.all(this.#disks.map((disk) => disk.open(epoch, instance))).then((verdicts) => {
      const refused = verdicts.includes('refused');
      if (!this.#closed) this.#events?.opened(epoch, refused ? 'refused' : 'ok');
    });
  }

  /** Issuing a request again that has no completion yet changes nothing: it is on its way. */
  issue(request: DiskRequestOutput): void {
    const issued = this.#issued[request.disk];
    const carries = request.operation === 'read' || request.operation === 'write';
    if (issued === undefined || (carries && request.length > NBD_PAYLOAD_LENGTH_MAX)) {
      queueMicrotask(() => this.#complete(request, { status: 'error' }));
      return;
    }
    if (issued.has(request.request)) return;
    this.#endReading();
    const after = new Set([...issued.values()].filter((earlier) => overlap(earlier.request, request)));
    const entry = { request, after };
    issued.set(request.request, entry);
    if (after.size === 0) this.#start(entry);
  }

  replay(request: DiskRequestOutput): void {
    const { disk, request: number, operation, offset, length } = request;
    const reader = this.#readers[disk];
    if (reader === undefined || operation !== 'read') return;
    if (!this.#reading) for (const each of this.#readers) void each.open(epoch(0), READER);
    this.#reading = true;
    reader.execute({ kind: 'read', offset, length }).then((answer) => {
      if (!this.#closed) this.#events?.read?.(disk, number, answer.status === 'ok' ? answer.data : undefined);
    });
  }

  /**
   * Copies all disks as they are now: what is issued from now on is not in the copy, what is under way may be or not. The
   * sizes are those of the disks, in bytes.
   */
  async copy(sizes: readonly number[], store: (disk: number) => StoreChunk): Promise<void> {
    if (this.#copies.length > 0) throw new Error('another snapshot is being taken');
    const copies = this.#disks.map((disk, index) => new DiskCopy(disk, sizes[index] ?? 0, store(index)));
    this.#copies.push(...copies);
    try {
      for (const copy of copies) await copy.whole();
    } finally {
      this.#copies.length = 0;
    }
  }

  close(): void {
    for (const reader of this.#readers) reader.close();
    this.#closed = true;
    for (const disk of this.#disks) disk.close();
  }

  /** Live from now on. */
  #endReading(): void {
    if (!this.#reading) return;
    this.#reading = false;
    for (const reader of this.#readers) reader.close();
  }

  #start(entry: Issued): void {
    const { request } = entry;
    const disk = this.#disks[request.disk];
    const issued = this.#issued[request.disk];
    if (disk === undefined || issued === undefined || this.#closed) return;
    const copy = this.#copies[request.disk];
    const copied =
      copy === undefined || request.operation === 'read' || request.operation === 'flush'
        ? undefined
        : copy.before(request.offset, request.length);
    const execute = () => disk.execute(operationOf(request));
    (copied === undefined ? execute() : copied.then(execute)).then((answer) => {
      if (this.#waitsForRoom(entry, answer)) return;
      issued.delete(request.request);
      if (answer.status === 'fenced') return this.#fence();
      this.#complete(request, answer);
      for (const later of issued.values()) {
        if (later.after.delete(entry) && later.after.size === 0) this.#start(later);
      }
    });
  }

  #waitsForRoom(entry: Issued, { status }: DiskAnswer): boolean {
    const { disk, operation } = entry.request;
    const full = this.#full[disk];
    if (full === undefined) return false;
    // What a flush has lost, another flush does not bring back.
    if (status === 'no-space' && operation !== 'flush' && operation !== 'read') {
      if (full.size === 0)
        this.#say(`disk ${disk}: its storage is full; the guest waits until there is room`);
      full.add(entry);
      setTimeout(() => this.#start(entry), FULL_AGAIN_MS).unref();
      return true;
    }
    if (full.delete(entry) && full.size === 0) this.#say(`disk ${disk}: its storage has room again`);
    return false;
  }

  #complete({ disk, request, operation }: DiskRequestOutput, answer: DiskAnswer): void {
    if (this.#closed || this.#fenced) return;
    const data = operation === 'read' && answer.status === 'ok' ? answer.data : EMPTY;
    const status = answer.status === 'ok' ? 'ok' : 'error';
    this.#events?.completed({ kind: 'disk-completed', disk, request, status, data });
  }

  #fence(): void {
    if (this.#closed || this.#fenced) return;
    this.#fenced = true;
    this.#events?.fenced();
  }
}

/** A guest's request as an operation of storage. */
export function operationOf({ operation, offset, length, data }: DiskRequestOutput): DiskOperation {
  switch (operation) {
    case 'read':
      return { kind: 'read', offset, length };
    case 'write':
      return { kind: 'write', offset, data, durable: false };
    case 'discard':
    case 'write-zeroes':
      return { kind: operation, offset, length, durable: false };
    case 'flush':
      return { kind: 'flush' };
  }
}

/** Two reads may pass each other, anything else on common bytes may not (design 6). */
function overlap(a: DiskRequestOutput, b: DiskRequestOutput): boolean {
  if (a.operation === 'flush' || b.operation === 'flush') return false;
  if (a.operation === 'read' && b.operation === 'read') return false;
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
