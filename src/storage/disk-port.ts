import type { Epoch, InstanceId } from '../ft/identity.ts';
import type { DiskEvents, DiskPort } from '../hypervisor/ports.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { NBD_OPERATION_LENGTH_MAX } from './nbd-client-connection.ts';

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

const EMPTY = new Uint8Array(0);

/** The disks of one VM [hypervisor/ports.ts DiskPort]. */
export class ServedDiskPort implements DiskPort {
  readonly #disks: readonly PortDisk[];
  readonly #issued: Map<number, Issued>[];
  #events: DiskEvents | undefined;
  #closed = false;
  #fenced = false;

  constructor(disks: readonly PortDisk[]) {
    this.#disks = disks;
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
    if (issued === undefined || request.length > NBD_OPERATION_LENGTH_MAX) {
      queueMicrotask(() => this.#complete(request, { status: 'error' }));
      return;
    }
    if (issued.has(request.request)) return;
    const after = new Set([...issued.values()].filter((earlier) => overlap(earlier.request, request)));
    const entry = { request, after };
    issued.set(request.request, entry);
    if (after.size === 0) this.#start(entry);
  }

  close(): void {
    this.#closed = true;
    for (const disk of this.#disks) disk.close();
  }

  #start(entry: Issued): void {
    const { request } = entry;
    const disk = this.#disks[request.disk];
    const issued = this.#issued[request.disk];
    if (disk === undefined || issued === undefined || this.#closed) return;
    disk.execute(operationOf(request)).then((answer) => {
      issued.delete(request.request);
      if (answer.status === 'fenced') return this.#fence();
      this.#complete(request, answer);
      for (const later of issued.values()) {
        if (later.after.delete(entry) && later.after.size === 0) this.#start(later);
      }
    });
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

function operationOf({ operation, offset, length, data }: DiskRequestOutput): DiskOperation {
  switch (operation) {
    case 'read':
      return { kind: 'read', offset, length };
    case 'write':
      return { kind: 'write', offset, data, durable: false };
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
