import type { Following } from '../ft/copy-name.ts';
import type { Extent } from '../ft/extent.ts';
import type { Epoch, InstanceId } from '../ft/identity.ts';
import type { DiskCopies, DiskEvents, DiskPort } from '../hypervisor/ports.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import { ChangedSectors } from './changed-sectors.ts';
import type { CopyIdentity } from './copy-identity.ts';
import { operationOf, type PortDisk } from './disk-port.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { type OperationEffect, OrderedOperations } from './ordered-operations.ts';

export interface OwnDisk extends PortDisk {
  readonly size: number;
}

export interface OwnDiskPortOptions {
  readonly identity: CopyIdentity;
  /** Makes it durable. */
  readonly save: (identity: CopyIdentity) => Promise<void>;
  /** Told when storage is full or fails, and when it does no longer. */
  readonly say: (line: string) => void;
}

const EMPTY = new Uint8Array(0);
/** Longer than any block. */
const ZEROES = new Uint8Array(1024 * 1024);
const AGAIN_MS = 500;
/** A change that this side owes its copy is tried so often; then the copy is none any more. */
const TRIES_MAX = 10;

/** One side's own copies of its VM's disks [hypervisor/ports.ts DiskPort, DiskCopies]. */
export class OwnDiskPort implements DiskPort {
  readonly copies: DiskCopies;
  readonly #disks: readonly OwnDisk[];
  readonly #options: OwnDiskPortOptions;
  readonly #operations = new OrderedOperations();
  #identity: CopyIdentity;
  /** What is saved of the identity; operations that depend on it wait. */
  #saved: Promise<boolean> = Promise.resolve(true);
  #changed: readonly ChangedSectors[] = [];
  /** Requests under way that a live guest waits for: by disk and number. */
  readonly #issued = new Set<string>();
  /** Requests that the guest of a backup made again and that have not ended. */
  readonly #replayed = new Map<string, { live: boolean }>();
  #events: DiskEvents | undefined;
  /** A copy has come here, and this side has not gone live since. */
  #followed = false;
  #closed = false;
  #full = false;

  constructor(disks: readonly OwnDisk[], options: OwnDiskPortOptions) {
    this.#disks = disks;
    this.#options = options;
    this.#identity = options.identity;
    this.copies = {
      read: (copy, extent) => this.#readBlock(copy, extent),
      begin: (whole) => this.#begin(whole),
      store: (extent, data) => this.#store(extent, data),
      secure: (number, follows) => this.#secure(number, follows),
      live: () => this.#live(),
    };
  }

  listen(events: DiskEvents): void {
    this.#events = events;
  }

  /**
   * From now on this copy follows nobody. One that was a backup's lacks what its guest has not replayed: should this side be
   * lost before it goes live, the copy is none to start the VM from.
   */
  open(epoch: Epoch, _instance: InstanceId): void {
    this.#save({ ...this.#identity, whole: this.#identity.whole && !this.#followed, follows: undefined });
    // What an earlier process wrote and nobody has flushed is read by this one: it must not be gone afterwards.
    this.#add('barrier', NOWHERE, async () => {
      await this.#flushAll();
      if ((await this.#saved) && !this.#closed) this.#events?.opened(epoch, 'ok');
    });
  }

  /** Issuing a request again that has no completion yet changes nothing: it is on its way. */
  issue(request: DiskRequestOutput): void {
    const key = keyOf(request);
    const replayed = this.#replayed.get(key);
    if (replayed) replayed.live = true;
    if (replayed || this.#issued.has(key)) return;
    this.#issued.add(key);
    this.#add(effectOf(request), request, async () => {
      const answer = await this.#withRoom(request);
      this.#issued.delete(key);
      this.#complete(request, answer);
    });
  }

  replay(request: DiskRequestOutput): void {
    if (request.operation === 'read') this.#replayRead(request);
    else this.#replayChange(request);
  }

  close(): void {
    this.#closed = true;
    for (const disk of this.#disks) disk.close();
  }

  // ------------------------------------------------------------------------------------------ a backup's guest

  #replayRead(request: DiskRequestOutput): void {
    this.#add('read', request, async () => {
      const answer = await this.#execute(request.disk, operationOf(request));
      const data = answer.status === 'ok' ? answer.data : undefined;
      if (!this.#closed) this.#events?.read?.(request.disk, request.request, data);
    });
  }

  /** The log says how it ended for the guest; here it has to succeed. */
  #replayChange(request: DiskRequestOutput): void {
    const state = { live: false };
    this.#replayed.set(keyOf(request), state);
    if (request.operation !== 'flush') this.#changed[request.disk]?.add(request);
    this.#add(effectOf(request), request, async () => {
      await this.#owed(request.disk, operationOf(request));
      this.#replayed.delete(keyOf(request));
      // Its completion was in no log: the guest that goes on here waits for it.
      if (state.live) this.#complete(request, { status: 'ok', data: EMPTY });
    });
  }

  // ------------------------------------------------------------------------------------------ copies

  #readBlock(copy: number, extent: Extent): void {
    const { disk, offset, length } = extent;
    this.#add('read', extent, async () => {
      const answer = await this.#execute(disk, { kind: 'read', offset, length });
      if (this.#closed) return;
      if (answer.status !== 'ok') this.#events?.blockRead?.(copy, extent, undefined, true);
      else this.#events?.blockRead?.(copy, extent, isZero(answer.data) ? undefined : answer.data, false);
    });
  }

  #live(): void {
    this.#followed = false;
    this.#add('barrier', NOWHERE, async () => {
      await this.#flushAll();
      this.#save({ ...this.#identity, whole: true, follows: undefined });
    });
  }

  #begin(whole: boolean): void {
    this.#followed = true;
    const { follows } = this.#identity;
    this.#changed = this.#disks.map(({ size }) => new ChangedSectors(size));
    this.#save({ ...this.#identity, whole: false, follows: whole ? undefined : follows });
  }

  #store(extent: Extent, data: Uint8Array | undefined): void {
    const { disk } = extent;
    const kept = data?.slice();
    // What has been changed by now: what is changed later waits for this to end.
    const others = this.#changed[disk]?.others(extent) ?? [extent];
    this.#add('change', extent, async () => {
      for (const { offset, length } of others) {
        const from = offset - extent.offset;
        await this.#owed(
          disk,
          kept
            ? { kind: 'write', offset, data: kept.subarray(from, from + length), durable: false }
            : { kind: 'discard', offset, length, durable: false },
        );
      }
      if (!this.#closed) this.#events?.blockStored?.();
    });
  }

  #secure(number: number, follows: Following | undefined): void {
    this.#add('barrier', NOWHERE, async () => {
      await this.#flushAll();
      if (follows) this.#save({ ...this.#identity, whole: true, follows });
      if ((await this.#saved) && !this.#closed) this.#events?.secured?.(number);
    });
  }

  /** One after the other; whatever changes the disks waits until it is durable. */
  #save(identity: CopyIdentity): void {
    this.#identity = identity;
    this.#saved = this.#saved.then(async (before) => {
      try {
        await this.#options.save(identity);
        return before;
      } catch (error) {
        this.#fail(`what this copy is cannot be written beside it: ${(error as Error).message}`);
        return false;
      }
    });
  }

  // ------------------------------------------------------------------------------------------ operations

  /** `run` must not reject. */
  #add(effect: OperationEffect, extent: Extent, run: () => Promise<void>): void {
    this.#operations.add(effect, extent, (done) => void run().then(done));
  }

  async #execute(disk: number, operation: DiskOperation): Promise<DiskAnswer> {
    if (!(await this.#saved)) return { status: 'error' };
    return (await this.#disks[disk]?.execute(operation)) ?? { status: 'error' };
  }

  /** A change that finds no room waits until there is some, and the guest with it. */
  async #withRoom(request: DiskRequestOutput): Promise<DiskAnswer> {
    for (;;) {
      const answer = await this.#execute(request.disk, operationOf(request));
      const full = answer.status === 'no-space' && request.operation !== 'flush';
      this.#tellFull(request.disk, full);
      if (!full || this.#closed) return answer;
      await pause();
    }
  }

  async #flushAll(): Promise<void> {
    for (const disk of this.#disks.keys()) await this.#owed(disk, { kind: 'flush' });
  }

  /** Without it this is no copy: it is tried again for a while, for as long as room is missing. */
  async #owed(disk: number, operation: DiskOperation): Promise<void> {
    for (let tries = 1; !this.#closed; tries++) {
      const { status } = await this.#execute(disk, operation);
      this.#tellFull(disk, status === 'no-space');
      if (status === 'ok') return;
      if (tries >= TRIES_MAX && status !== 'no-space') {
        this.#fail(`this host's copy of disk ${disk} cannot be written`);
        return;
      }
      await pause();
    }
  }

  #tellFull(disk: number, full: boolean): void {
    if (full === this.#full) return;
    this.#full = full;
    const { say } = this.#options;
    say(
      full
        ? `disk ${disk}: its storage is full; waiting until there is room`
        : `disk ${disk}: its storage has room again`,
    );
  }

  #complete({ disk, request, operation }: DiskRequestOutput, answer: DiskAnswer): void {
    if (this.#closed) return;
    const data = operation === 'read' && answer.status === 'ok' ? answer.data : EMPTY;
    const status = answer.status === 'ok' ? 'ok' : 'error';
    this.#events?.completed({ kind: 'disk-completed', disk, request, status, data });
  }

  #fail(reason: string): void {
    if (!this.#closed) this.#events?.copyFailed?.(reason);
  }
}

/** A barrier is nowhere. */
const NOWHERE: Extent = { disk: 0, offset: 0, length: 0 };

function keyOf({ disk, request }: DiskRequestOutput): string {
  return `${disk}/${request}`;
}

function effectOf({ operation }: DiskRequestOutput): OperationEffect {
  if (operation === 'flush') return 'barrier';
  return operation === 'read' ? 'read' : 'change';
}

function isZero(data: Uint8Array): boolean {
  return data.length <= ZEROES.length && Buffer.compare(data, ZEROES.subarray(0, data.length)) === 0;
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
}
