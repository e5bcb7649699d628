import { closeSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { OFFLOAD_BYTES, type Packet, readOffload } from '../base/packet/offload.ts';
import { bell } from './tap-calls.ts';

/** What crosses to the thread that reads. */
export interface TapReaderData {
  readonly fd: number;
  /** Rung when it is to end. */
  readonly bell: number;
  /** Frames that have been read and not been looked at yet. */
  readonly underWay: Int32Array;
}

export type TapReaderNews =
  /** Each behind the bytes of its offload. */
  | { readonly kind: 'frames'; readonly frames: readonly Uint8Array[] }
  /** The interface has been removed. */
  | { readonly kind: 'gone' };

export interface TapReaderEvents {
  readonly packet: (packet: Packet) => void;
  /** Nothing is read any more. */
  readonly ended: (reason: string) => void;
}

const RING = new Uint8Array(8).fill(1);

/** Who leaves waits for its threads, and a thread that stands in a system call hears nothing but its bell. */
const bells = new Set<number>();
process.on('exit', () => {
  for (const each of bells) writeSync(each, RING);
});

/**
 * Reads a TAP in a thread of its own, blocking: no event loop of Node takes a TAP. A bounded number of frames is under way
 * to this thread; beyond it the kernel's queue fills, and the kernel drops.
 */
export class TapReader {
  readonly #bell = bell();
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  #events: TapReaderEvents | undefined;

  constructor(fd: number, events: TapReaderEvents) {
    this.#events = events;
    const underWay = new Int32Array(new SharedArrayBuffer(4));
    const workerData: TapReaderData = { fd, bell: this.#bell, underWay };
    bells.add(this.#bell);
    this.#worker = new Worker(new URL('./tap-reader-worker.js', import.meta.url), { workerData });
    this.#worker.on('message', (news: TapReaderNews) => {
      if (news.kind === 'gone') this.#events?.ended('it was removed');
      else {
        Atomics.sub(underWay, 0, news.frames.length);
        for (const bytes of news.frames) this.#received(bytes);
      }
    });
    this.#worker.on('error', (error) => this.#events?.ended(`its thread died: ${error.message}`));
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    this.#worker.unref();
  }

  #received(bytes: Uint8Array): void {
    const frame = bytes.subarray(OFFLOAD_BYTES);
    // What is no offload of ours was not asked for.
    const reading = readOffload(bytes, frame);
    if (reading.fits) this.#events?.packet({ frame, offload: reading.offload });
  }

  /** No event follows. Resolves when the thread has let the file go. */
  async stop(): Promise<void> {
    this.#events = undefined;
    writeSync(this.#bell, RING);
    this.#worker.ref();
    await this.#ended;
    bells.delete(this.#bell);
    closeSync(this.#bell);
  }
}
