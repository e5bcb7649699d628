import { type ByteReader, type ByteWriter, TruncatedError } from '../../../base/bytes.ts';
import type { GuestMemory } from '../../device.ts';
import { gather, scatter } from '../chain.ts';
import { VirtioDevice } from '../virtio-device.ts';

const RECEIVE_QUEUE = 0;
const TRANSMIT_QUEUE = 1;

const FEATURE_MTU = 1n << 3n;
const FEATURE_MAC = 1n << 5n;
const FEATURE_STATUS = 1n << 16n;

const STATUS_LINK_UP = 1;
/** struct virtio_net_hdr with num_buffers, which VERSION_1 always has [virtio 5.1.6]. */
const HEADER_BYTES = 12;
const ETHERNET_HEADER_BYTES = 14;
/** The largest frame of an IPv4 packet, with one VLAN tag. */
export const FRAME_BYTES_MAX = 65_535 + ETHERNET_HEADER_BYTES + 4;
/** Frames that wait for receive buffers; what comes beyond is dropped, as on a wire. */
export const WAITING_FRAMES_MAX = 256;

export interface NetOptions {
  readonly name: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Advice to the driver [virtio 5.1.3.1]; not offered when left out. */
  readonly mtu?: number;
  readonly onFrame: (frame: Uint8Array) => void;
}

/** The network device: one pair of queues, no offloads [virtio 5.1]. */
export class NetDevice extends VirtioDevice {
  readonly #mac: Uint8Array;
  readonly #mtu: number | undefined;
  readonly #onFrame: (frame: Uint8Array) => void;
  #linkUp = true;
  #waiting: Uint8Array[] = [];

  constructor(options: NetOptions, memory: GuestMemory) {
    if (options.mac.length !== 6) throw new RangeError('a MAC address has six bytes');
    super(
      {
        name: options.name,
        type: 1,
        pciClass: 0x02_00_00,
        queueSizes: [256, 256],
        features: FEATURE_MAC | FEATURE_STATUS | (options.mtu === undefined ? 0n : FEATURE_MTU),
      },
      memory,
    );
    this.#mac = options.mac.slice();
    this.#mtu = options.mtu;
    this.#onFrame = options.onFrame;
  }

  /** [virtio 5.1.4]: mac, status, max_virtqueue_pairs, mtu. */
  configuration(): Uint8Array {
    const bytes = new Uint8Array(12);
    const view = new DataView(bytes.buffer);
    bytes.set(this.#mac);
    view.setUint16(6, this.#linkUp ? STATUS_LINK_UP : 0, true);
    view.setUint16(8, 1, true);
    view.setUint16(10, this.#mtu ?? 0, true);
    return bytes;
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.configurationChanged();
  }

  /** A frame from the wire, without frame check sequence. False when it is dropped. */
  receive(frame: Uint8Array): boolean {
    if (!this.live || !this.#linkUp || !isFrameLength(frame.length)) return false;
    if (this.#waiting.length >= WAITING_FRAMES_MAX) return false;
    this.#waiting.push(frame.slice());
    this.#deliver();
    return true;
  }

  protected rung(queue: number): void {
    if (queue === RECEIVE_QUEUE) this.#deliver();
    else this.#transmit();
  }

  protected override stopped(): void {
    this.#waiting = [];
  }

  protected override saveKind(writer: ByteWriter): void {
    writer.bool(this.#linkUp).u32(this.#waiting.length);
    for (const frame of this.#waiting) writer.bytes(frame);
  }

  protected override loadKind(reader: ByteReader): void {
    this.#linkUp = reader.bool();
    const count = reader.u32();
    if (count > WAITING_FRAMES_MAX) throw new TruncatedError('too many frames wait');
    this.#waiting = Array.from({ length: count }, () => reader.bytes());
  }

  #transmit(): void {
    for (;;) {
      const chain = this.take(TRANSMIT_QUEUE);
      if (chain === undefined) break;
      const length = chain.readableLength - HEADER_BYTES;
      // Without offloads the header says nothing [virtio 5.1.6.2]. A frame no wire carries is dropped.
      if (isFrameLength(length)) {
        const frame = gather(this.memory, chain.readable, HEADER_BYTES, length);
        if (frame === undefined) {
          this.fail('transmit buffer is not in RAM');
          return;
        }
        if (this.#linkUp) this.#onFrame(frame);
      }
      this.give(TRANSMIT_QUEUE, chain.head, 0);
    }
    this.signal(TRANSMIT_QUEUE);
  }

  #deliver(): void {
    let delivered = 0;
    for (const frame of this.#waiting) {
      const chain = this.take(RECEIVE_QUEUE);
      if (chain === undefined) break;
      delivered += 1;
      const length = HEADER_BYTES + frame.length;
      if (length > chain.writableLength) {
        // The frame is lost, the buffer waits for a frame that fits.
        this.queues[RECEIVE_QUEUE]!.untake();
        continue;
      }
      const packet = new Uint8Array(length);
      packet.set(frame, HEADER_BYTES);
      packet[10] = 1; // num_buffers, also without merged buffers [virtio 5.1.6.4.1]
      if (!scatter(this.memory, chain.writable, 0, packet)) {
        this.fail('receive buffer is not in RAM');
        break;
      }
      this.give(RECEIVE_QUEUE, chain.head, length);
    }
    if (delivered > 0) this.#waiting.splice(0, delivered);
    this.signal(RECEIVE_QUEUE);
  }
}

function isFrameLength(length: number): boolean {
  return length >= ETHERNET_HEADER_BYTES && length <= FRAME_BYTES_MAX;
}
