import type { Epoch, InstanceId } from '../ft/identity.ts';
import { type DiskBackend, isOnDisk } from './disk-backend.ts';

/** The newest generation that opened the disk. */
export interface Fence {
  readonly epoch: Epoch;
  readonly instance: InstanceId | undefined;
}

export type DiskAnswer =
  | { readonly status: 'ok'; readonly data: Uint8Array }
  | { readonly status: DiskRefusal };

/** `no-space`: nothing is wrong but that the storage is full; the same operation may succeed later. */
export type DiskRefusal = 'error' | 'read-only' | 'out-of-range' | 'no-space' | 'fenced';

export type DiskOperation =
  | { readonly kind: 'read'; readonly offset: number; readonly length: number }
  | { readonly kind: 'write'; readonly offset: number; readonly data: Uint8Array; readonly durable: boolean }
  /** Both leave zeroes; a discard need not keep room for them. */
  | {
      readonly kind: 'discard' | 'write-zeroes';
      readonly offset: number;
      readonly length: number;
      readonly durable: boolean;
    }
  | { readonly kind: 'flush' };

/** One opening of the disk. Older sessions are refused from the moment a newer one is admitted. */
export interface DiskSession {
  execute(operation: DiskOperation): Promise<DiskAnswer>;
  readonly fenced: boolean;
}

const EMPTY = new Uint8Array(0);

/**
 * A disk with generations (protocol 6). Opening a newer generation fences all older sessions: their further
 * operations are refused, and the opening is answered only after those that were executing have ended. The check
 * and the start of an operation are one step as seen by an opening, because nothing runs between them.
 */
export class FencedDisk {
  readonly backend: DiskBackend;
  readonly #persist: (fence: Fence) => Promise<void>;
  #fence: Fence;
  /** Sessions below this serial number are fenced. */
  #admitted = 0;
  #nextSession = 1;
  readonly #executing = new Set<{ readonly session: number; readonly done: Promise<unknown> }>();
  #openings: Promise<unknown> = Promise.resolve();

  /** `persist` makes a new fence durable; it is awaited before the fence is in force. */
  constructor(backend: DiskBackend, fence: Fence, persist: (fence: Fence) => Promise<void>) {
    this.backend = backend;
    this.#fence = fence;
    this.#persist = persist;
  }

  get fence(): Fence {
    return this.#fence;
  }

  /**
   * The test-and-set. The same instance may open its epoch again, which replaces its earlier session (after a
   * broken connection). Undefined: refused, and nothing has changed.
   */
  open(epoch: Epoch, instance: InstanceId): Promise<DiskSession | undefined> {
    const opening = this.#openings.then(() => this.#open(epoch, instance));
    this.#openings = opening.catch(() => undefined);
    return opening;
  }

  /** A client that knows no generations: served until the first generation opens the disk. */
  openWithoutGeneration(): DiskSession | undefined {
    return this.#fence.epoch > 0 ? undefined : this.#session();
  }

  /**
   * A session that reads, at any time and beside any generation: a backup's, whose primary keeps what it reads from being
   * written over [FT 4.2], or of who has the disk read-only.
   */
  openForReading(): DiskSession {
    return {
      fenced: false,
      execute: (operation) => {
        if (operation.kind === 'read') return this.#execute(operation);
        // A guest flushes what it has read-only, too: it has changed nothing.
        if (operation.kind === 'flush') return Promise.resolve({ status: 'ok', data: EMPTY } as const);
        return Promise.resolve({ status: 'read-only' } as const);
      },
    };
  }

  async #open(epoch: Epoch, instance: InstanceId): Promise<DiskSession | undefined> {
    const repeated = epoch === this.#fence.epoch && instance === this.#fence.instance;
    if (!repeated && epoch <= this.#fence.epoch) return undefined;
    if (!repeated) {
      const fence = { epoch, instance };
      await this.#persist(fence);
      this.#fence = fence;
    }
    const session = this.#session();
    this.#admitted = session.serial;
    const older = [...this.#executing].filter((operation) => operation.session < session.serial);
    await Promise.all(older.map((operation) => operation.done));
    return session;
  }

  #session(): DiskSession & { readonly serial: number } {
    const serial = this.#nextSession++;
    const isFenced = () => serial < this.#admitted;
    return {
      serial,
      get fenced() {
        return isFenced();
      },
      execute: (operation) => {
        if (isFenced()) return Promise.resolve({ status: 'fenced' } as const);
        const done = this.#execute(operation);
        const entry = { session: serial, done };
        this.#executing.add(entry);
        return done.finally(() => this.#executing.delete(entry));
      },
    };
  }

  async #execute(operation: DiskOperation): Promise<DiskAnswer> {
    const { backend } = this;
    try {
      switch (operation.kind) {
        case 'read':
          if (!isOnDisk(backend.size, operation.offset, operation.length)) return { status: 'out-of-range' };
          return { status: 'ok', data: await backend.read(operation.offset, operation.length) };
        case 'write':
          if (!isOnDisk(backend.size, operation.offset, operation.data.length))
            return { status: 'out-of-range' };
          if (backend.readOnly) return { status: 'read-only' };
          await backend.write(operation.offset, operation.data);
          if (operation.durable) await backend.flush();
          return { status: 'ok', data: EMPTY };
        case 'discard':
        case 'write-zeroes':
          if (!isOnDisk(backend.size, operation.offset, operation.length)) return { status: 'out-of-range' };
          if (backend.readOnly) return { status: 'read-only' };
          await backend.clear(operation.offset, operation.length, operation.kind === 'write-zeroes');
          if (operation.durable) await backend.flush();
          return { status: 'ok', data: EMPTY };
        case 'flush':
          await backend.flush();
          return { status: 'ok', data: EMPTY };
      }
    } catch (error) {
      // What a flush has lost, a later flush does not bring back: only a change may be tried again.
      const full = operation.kind !== 'flush' && isFull((error as NodeJS.ErrnoException).code);
      return { status: full ? 'no-space' : 'error' };
    }
  }
}

function isFull(code: string | undefined): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT';
}
