import type { GuestMemory } from '../../device.ts';
import { scatter } from '../chain.ts';
import { VirtioDevice } from '../virtio-device.ts';

/** The bytes come from the machine's generator, which is saved by the machine [design 3]. */
export interface EntropySource {
  next(length: number): Uint8Array;
}

const REQUEST_QUEUE = 0;
/** A larger buffer is filled in part, as [virtio 5.4.6] allows: one bell must not cost seconds. */
const BYTES_PER_BUFFER = 4096;

/** The entropy device [virtio 5.4]. */
export class RngDevice extends VirtioDevice {
  readonly #entropy: EntropySource;

  constructor(options: { readonly name: string; readonly entropy: EntropySource }, memory: GuestMemory) {
    super({ name: options.name, type: 4, pciClass: 0x10_80_00, queueSizes: [64], features: 0n }, memory);
    this.#entropy = options.entropy;
  }

  configuration(): Uint8Array {
    return new Uint8Array(0);
  }

  protected rung(): void {
    for (;;) {
      const chain = this.take(REQUEST_QUEUE);
      if (chain === undefined) break;
      const bytes = this.#entropy.next(Math.min(chain.writableLength, BYTES_PER_BUFFER));
      if (!scatter(this.memory, chain.writable, 0, bytes)) {
        this.fail('entropy buffer is not in RAM');
        return;
      }
      this.give(REQUEST_QUEUE, chain.head, bytes.length);
    }
    this.signal(REQUEST_QUEUE);
  }
}
