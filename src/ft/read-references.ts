import { hash128 } from '../base/hash.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import { changesDisk, type Extent, overlaps } from './extent.ts';

/** A read whose completion goes to the backup without its data. */
export interface ReferredRead {
  readonly extent: Extent;
  readonly payload: LogPayload & { readonly kind: 'read-reference' };
}

/**
 * The primary's half of reads that the backup executes itself [FT 4.2]: the completion of a read that succeeded goes to
 * the pair's backup by reference. One that failed is told as it ended.
 */
export class ReadReferences {
  /** Completed, and on their way through the vCPU into the log. */
  readonly #completed = new Map<string, Extent>();

  completed({ disk, request, operation, offset, length }: DiskRequestOutput): void {
    if (operation === 'read') this.#completed.set(`${disk}/${request}`, { disk, offset, length });
  }

  /** What stands for this entry; undefined: the entry goes as it is. */
  of(payload: LogPayload): ReferredRead | undefined {
    if (payload.kind !== 'input' || payload.input.kind !== 'disk-completed') return undefined;
    const { disk, request, status, data } = payload.input;
    const key = `${disk}/${request}`;
    const extent = this.#completed.get(key);
    this.#completed.delete(key);
    if (extent === undefined || status !== 'ok' || data.length === 0) return undefined;
    const reference = { kind: 'read-reference', disk, request, length: data.length } as const;
    return { extent, payload: { ...reference, hash: hash128(data) } };
  }
}

/**
 * Reads that a backup has been told of by reference and has not replayed. It reads them from the shared disk when its
 * guest comes there: a write to such a place waits [FT 4.2].
 */
export class UnreplayedReads {
  #reads: { readonly position: bigint; readonly extent: Extent }[] = [];

  told(position: bigint, extent: Extent): void {
    this.#reads.push({ position, extent });
  }

  replayed(position: bigint): void {
    if (this.#reads.length === 0 || this.#reads[0]!.position > position) return;
    this.#reads = this.#reads.filter((read) => read.position > position);
  }

  holdBack(request: DiskRequestOutput): boolean {
    return changesDisk(request) && this.#reads.some((read) => overlaps(read.extent, request));
  }
}
