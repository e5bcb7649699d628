import { type ByteReader, type ByteWriter, TruncatedError } from '../../../base/bytes.ts';
import type { GuestMemory } from '../../device.ts';
import { gather, scatter } from '../chain.ts';
import { VirtioDevice } from '../virtio-device.ts';

const RECEIVE_QUEUE = 0;
const TRANSMIT_QUEUE = 1;
const FEATURE_EMERGENCY_WRITE = 1n << 2n;
/** [virtio 5.3.4]: cols, rows, max_nr_ports, then emerg_wr. */
const CONFIGURATION_BYTES = 12;
const EMERGENCY_WRITE_OFFSET = 8;

/** Input that waits for receive buffers; what comes beyond is dropped, as on a serial line. */
export const WAITING_BYTES_MAX = 65_536;
/** The longest single transmit buffer taken. Drivers use pages. */
const TRANSMIT_BYTES_MAX = 1_048_576;

export interface ConsoleOptions {
  readonly name: string;
  readonly onBytes: (bytes: Uint8Array) => void;
}

/** The console device with one port [virtio 5.3]. */
export class ConsoleDevice extends VirtioDevice {
  readonly #onBytes: (bytes: Uint8Array) => void;
  #waiting = new Uint8Array(0);

  constructor(options: ConsoleOptions, memory: GuestMemory) {
    super(
      {
        name: options.name,
        type: 3,
        pciClass: 0x07_80_00,
        queueSizes: [64, 64],
        features: FEATURE_EMERGENCY_WRITE,
      },
      memory,
    );
    this.#onBytes = options.onBytes;
  }

  configuration(): Uint8Array {
    return new Uint8Array(CONFIGURATION_BYTES);
  }

  /** A dying driver writes characters without a queue, even before the device is set up [virtio 5.3.6.3]. */
  override writeConfiguration(offset: number, _size: number, value: number): void {
    if (offset === EMERGENCY_WRITE_OFFSET) this.#onBytes(Uint8Array.of(value & 0xff));
  }

  /** Input from the host. Returns the number of bytes taken; the rest is dropped. */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, WAITING_BYTES_MAX - this.#waiting.length);
    const waiting = new Uint8Array(this.#waiting.length + taken);
    waiting.set(this.#waiting);
    waiting.set(bytes.subarray(0, taken), this.#waiting.length);
    this.#waiting = waiting;
    this.#deliver();
    return taken;
  }

  /** Input typed before the driver came, or while it starts again, stays: only the machine's reset drops it. */
  override reset(): void {
    super.reset();
    this.#waiting = new Uint8Array(0);
  }

  protected rung(queue: number): void {
    if (queue === RECEIVE_QUEUE) this.#deliver();
    else this.#transmit();
  }

  protected override saveKind(writer: ByteWriter): void {
    writer.bytes(this.#waiting);
  }

  protected override loadKind(reader: ByteReader): void {
    const waiting = reader.bytes();
    if (waiting.length > WAITING_BYTES_MAX) throw new TruncatedError('too much console input waits');
    this.#waiting = new Uint8Array(waiting);
  }

  #transmit(): void {
    for (;;) {
      const chain = this.take(TRANSMIT_QUEUE);
      if (chain === undefined) break;
      if (chain.readableLength > TRANSMIT_BYTES_MAX) {
        this.fail('console buffer is too long');
        return;
      }
      const bytes = gather(this.memory, chain.readable, 0, chain.readableLength);
      if (bytes === undefined) {
        this.fail('console buffer is not in RAM');
        return;
      }
      if (bytes.length > 0) this.#onBytes(bytes);
      this.give(TRANSMIT_QUEUE, chain.head, 0);
    }
    this.signal(TRANSMIT_QUEUE);
  }

  #deliver(): void {
    while (this.#waiting.length > 0) {
      const chain = this.take(RECEIVE_QUEUE);
      if (chain === undefined) break;
      const count = Math.min(chain.writableLength, this.#waiting.length);
      if (!scatter(this.memory, chain.writable, 0, this.#waiting.subarray(0, count))) {
        this.fail('console buffer is not in RAM');
        return;
      }
      this.#waiting = this.#waiting.slice(count);
      this.give(RECEIVE_QUEUE, chain.head, count);
    }
    this.signal(RECEIVE_QUEUE);
  }
}
