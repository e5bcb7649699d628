import { epoch as epochOf } from '../ft/identity.ts';
import type { DiskBackend } from './disk-backend.ts';
import type { PortDisk } from './disk-port.ts';
import { type DiskAnswer, type DiskOperation, type DiskSession, FencedDisk } from './fenced-disk.ts';

/** A disk of this process alone: `lockstep run --disk`, without fault tolerance and so without an arbiter. */
export class LocalDisk implements PortDisk {
  readonly #backend: DiskBackend;
  readonly #session: DiskSession | undefined;

  constructor(backend: DiskBackend) {
    this.#backend = backend;
    const unfenced = { epoch: epochOf(0), instance: undefined };
    this.#session = new FencedDisk(backend, unfenced, () => Promise.resolve()).openWithoutGeneration();
  }

  get size(): number {
    return this.#backend.size;
  }

  open(): Promise<'ok' | 'refused'> {
    return Promise.resolve('ok');
  }

  execute(operation: DiskOperation): Promise<DiskAnswer> {
    return this.#session?.execute(operation) ?? Promise.resolve({ status: 'error' });
  }

  close(): void {
    void this.#backend.close();
  }
}
