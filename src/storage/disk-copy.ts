import type { PortDisk } from './disk-port.ts';

/** So much is read, and kept from the guest's writes, at a time. */
export const COPY_CHUNK_BYTES = 1024 * 1024;
const UNDER_WAY_MAX = 4;

/** Where the copy goes. What is never stored is zeroes. */
export type StoreChunk = (offset: number, data: Uint8Array) => Promise<void>;

/**
 * A copy of a disk as it was at one instant, while its guest goes on writing: what the guest is about to change is copied
 * first, and only that change waits for it.
 */
export class DiskCopy {
  readonly #disk: PortDisk;
  readonly #size: number;
  readonly #store: StoreChunk;
  readonly #chunks: (Promise<void> | undefined)[];
  #problem: Error | undefined;

  constructor(disk: PortDisk, size: number, store: StoreChunk) {
    this.#disk = disk;
    this.#size = size;
    this.#store = store;
    this.#chunks = new Array(Math.ceil(size / COPY_CHUNK_BYTES));
  }

  /** Resolves when this range may change. A copy that has failed holds nobody up. */
  async before(offset: number, length: number): Promise<void> {
    const first = Math.floor(offset / COPY_CHUNK_BYTES);
    const end = Math.min(this.#chunks.length, Math.ceil((offset + length) / COPY_CHUNK_BYTES));
    const chunks: Promise<void>[] = [];
    for (let chunk = first; chunk < end; chunk++) chunks.push(this.#copy(chunk));
    await Promise.allSettled(chunks);
  }

  /** Resolves when all of it is copied; rejects when that cannot be. */
  async whole(): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < this.#chunks.length) await this.#copy(next++);
    };
    await Promise.all(Array.from({ length: UNDER_WAY_MAX }, worker));
  }

  #copy(chunk: number): Promise<void> {
    if (this.#problem !== undefined) return Promise.reject(this.#problem);
    const copied = this.#chunks[chunk] ?? this.#copyNow(chunk);
    this.#chunks[chunk] = copied;
    return copied;
  }

  async #copyNow(chunk: number): Promise<void> {
    const offset = chunk * COPY_CHUNK_BYTES;
    const length = Math.min(COPY_CHUNK_BYTES, this.#size - offset);
    const answer = await this.#disk.execute({ kind: 'read', offset, length });
    try {
      if (answer.status !== 'ok') throw new Error(`reading the disk at ${offset}: ${answer.status}`);
      if (!Buffer.from(answer.data.buffer, answer.data.byteOffset, length).equals(ZEROES.subarray(0, length)))
        await this.#store(offset, answer.data);
    } catch (error) {
      this.#problem = error as Error;
      throw error;
    }
  }
}

const ZEROES = Buffer.alloc(COPY_CHUNK_BYTES);
