import { type ByteReader, type ByteWriter, TruncatedError } from '../../../base/bytes.ts';
import {
  OFFLOAD_BYTES,
  type Offload,
  type OffloadReading,
  offloadHeader,
  type Packet,
  readOffload,
  writeOffload,
} from '../../../base/packet/offload.ts';
import { wireFrames } from '../../../base/packet/segmentation.ts';
import type { GuestMemory } from '../../device.ts';
import { type Chain, gather, type Segment, scatter } from '../chain.ts';
import { VirtioDevice } from '../virtio-device.ts';
import { fitTogether, NET_FEATURE, OFFLOAD_FEATURES } from './features.ts';

const RECEIVE_QUEUE = 0;
const TRANSMIT_QUEUE = 1;
/** Linux fills merged buffers of a frame's size: a long packet takes 43 of them. */
const RECEIVE_QUEUE_SIZE = 1024;
const TRANSMIT_QUEUE_SIZE = 256;

const STATUS_LINK_UP = 1;
/** struct virtio_net_hdr with num_buffers, which VERSION_1 always has [virtio 5.1.6]. */
const HEADER_BYTES = 12;
const BUFFERS_AT = OFFLOAD_BYTES;
const ETHERNET_HEADER_BYTES = 14;
/** The largest frame: an IPv6 header and what its 16 bits of length can say, with one VLAN tag. */
export const FRAME_BYTES_MAX = 65_535 + 40 + ETHERNET_HEADER_BYTES + 4;
/** Frames that wait for receive buffers; what comes beyond is dropped, as on a wire. */
export const WAITING_FRAMES_MAX = 1024;
export const WAITING_BYTES_MAX = 8 * 1024 * 1024;
/** Of the buffers of one packet, together. Twice what a driver without indirect tables can offer in a whole ring. */
export const PACKET_DESCRIPTORS_MAX = 2 * RECEIVE_QUEUE_SIZE;

/** What a packet meets in the receive queue. `room`: the bytes that all of it holds, header included. */
type Buffers =
  | { readonly kind: 'chains'; readonly chains: readonly Chain[] }
  | { readonly kind: 'wait' }
  | { readonly kind: 'lost'; readonly room: number };

const WAIT: Buffers = { kind: 'wait' };
const LOST: Buffers = { kind: 'lost', room: Number.POSITIVE_INFINITY };

export interface NetOptions {
  readonly name: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** Advice to the driver [virtio 5.1.3.1]; not offered when left out. */
  readonly mtu?: number;
  readonly onPacket: (packet: Packet) => void;
}

/**
 * The network device: one pair of queues [virtio 5.1]. What a guest leaves to its device, checksums and cutting into
 * segments, is left to whoever needs it done: the packet leaves as it is, one output, and says what is missing. What the
 * network left undone is passed on to a driver that agreed to it, and done here for any other.
 */
export class NetDevice extends VirtioDevice {
  readonly #mac: Uint8Array;
  readonly #mtu: number | undefined;
  readonly #onPacket: (packet: Packet) => void;
  #linkUp = true;
  #waiting: Packet[] = [];
  #waitingBytes = 0;

  constructor(options: NetOptions, memory: GuestMemory) {
    if (options.mac.length !== 6) throw new RangeError('a MAC address has six bytes');
    const { mac, status, mtu } = NET_FEATURE;
    super(
      {
        name: options.name,
        type: 1,
        pciClass: 0x02_00_00,
        queueSizes: [RECEIVE_QUEUE_SIZE, TRANSMIT_QUEUE_SIZE],
        features: mac | status | OFFLOAD_FEATURES | (options.mtu === undefined ? 0n : mtu),
      },
      memory,
    );
    this.#mac = options.mac.slice();
    this.#mtu = options.mtu;
    this.#onPacket = options.onPacket;
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

  /** A packet from the network. False when it is dropped. */
  receive(packet: Packet): boolean {
    if (!this.live || !this.#linkUp || !isFrameLength(packet.frame.length)) return false;
    const taken = this.#asTaken(packet);
    if (this.#waiting.length + taken.length > WAITING_FRAMES_MAX) return false;
    const bytes = bytesOf(taken);
    if (this.#waitingBytes + bytes > WAITING_BYTES_MAX) return false;
    for (const { frame, offload } of taken) this.#waiting.push({ frame: frame.slice(), offload });
    this.#waitingBytes += bytes;
    this.#deliver();
    return true;
  }

  protected override fits(features: bigint): boolean {
    return fitTogether(features);
  }

  protected rung(queue: number): void {
    if (queue === RECEIVE_QUEUE) this.#deliver();
    else this.#transmit();
  }

  protected override stopped(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  protected override saveKind(writer: ByteWriter): void {
    writer.bool(this.#linkUp).u32(this.#waiting.length);
    for (const packet of this.#waiting) writer.bytes(packet.frame).raw(offloadHeader(packet));
  }

  protected override loadKind(reader: ByteReader): void {
    this.#linkUp = reader.bool();
    const count = reader.u32();
    if (count > WAITING_FRAMES_MAX) throw new TruncatedError('too many frames wait');
    this.#waiting = Array.from({ length: count }, () => {
      const frame = reader.bytes();
      const reading = readOffload(reader.raw(OFFLOAD_BYTES), frame);
      if (!reading.fits) throw new TruncatedError('a waiting frame has an offload that does not fit it');
      return { frame, offload: reading.offload };
    });
    this.#waitingBytes = bytesOf(this.#waiting);
  }

  #transmit(): void {
    for (;;) {
      const chain = this.take(TRANSMIT_QUEUE);
      if (chain === undefined) break;
      const length = chain.readableLength - HEADER_BYTES;
      // A frame no wire carries is dropped.
      if (isFrameLength(length)) {
        const bytes = gather(this.memory, chain.readable, 0, HEADER_BYTES + length);
        if (bytes === undefined) {
          this.fail('transmit buffer is not in RAM');
          return;
        }
        const frame = bytes.subarray(HEADER_BYTES);
        const reading = this.#offloadOf(bytes, frame);
        if (reading.fits && this.#linkUp) this.#onPacket({ frame, offload: reading.offload });
      }
      this.give(TRANSMIT_QUEUE, chain.head, 0);
    }
    this.signal(TRANSMIT_QUEUE);
  }

  /**
   * Without the first of the features the header says nothing [virtio 5.1.6.2]. One that asks for what was not agreed on, or
   * that does not fit its frame, is no good, and the frame is dropped.
   */
  #offloadOf(header: Uint8Array, frame: Uint8Array): OffloadReading {
    if (!this.hasFeature(NET_FEATURE.checksum)) return { fits: true, offload: undefined };
    const reading = readOffload(header, frame);
    return reading.fits && this.#mayAskFor(reading.offload) ? reading : { fits: false };
  }

  #mayAskFor(offload: Offload | undefined): boolean {
    if (offload === undefined) return true;
    if (offload.ecn && !this.hasFeature(NET_FEATURE.hostEcn)) return false;
    switch (offload.segments) {
      case 'none':
        return this.hasFeature(NET_FEATURE.checksum);
      case 'tcp4':
        return this.hasFeature(NET_FEATURE.hostTso4);
      case 'tcp6':
        return this.hasFeature(NET_FEATURE.hostTso6);
    }
  }

  /** The packet itself where the driver takes it so; otherwise what a wire would have carried. */
  #asTaken(packet: Packet): readonly Packet[] {
    const { offload } = packet;
    if (offload === undefined) return [packet];
    const { guestChecksum, guestEcn, guestTso4, guestTso6 } = NET_FEATURE;
    const feature = { none: guestChecksum, tcp4: guestTso4, tcp6: guestTso6 }[offload.segments];
    const takes = this.hasFeature(feature) && (!offload.ecn || this.hasFeature(guestEcn));
    return takes ? [packet] : wireFrames(packet).map((frame) => ({ frame }));
  }

  #deliver(): void {
    let delivered = 0;
    // What the buffers have room for, once a packet was lost because of it: the next one meets the same buffers.
    let room = Number.POSITIVE_INFINITY;
    for (const packet of this.#waiting) {
      const length = HEADER_BYTES + packet.frame.length;
      const buffers = length > room ? LOST : this.#buffersFor(length);
      if (buffers.kind === 'wait') break;
      delivered += 1;
      if (buffers.kind === 'lost') room = Math.min(room, buffers.room);
      else if (!this.#fill(buffers.chains, packet, length)) break;
      else room = Number.POSITIVE_INFINITY;
    }
    if (delivered > 0) this.#waitingBytes -= bytesOf(this.#waiting.splice(0, delivered));
    this.signal(RECEIVE_QUEUE);
  }

  /**
   * As many chains as a packet of this length needs; one unless buffers may be merged. `wait`: the driver has to add some.
   * `lost`: it will never fit, and the buffers wait for one that does.
   */
  #buffersFor(length: number): Buffers {
    const queue = this.queues[RECEIVE_QUEUE]!;
    const merged = this.hasFeature(NET_FEATURE.mergedBuffers);
    const chains: Chain[] = [];
    let room = 0;
    let descriptors = 0;
    do {
      const chain = chains.length < queue.size ? this.take(RECEIVE_QUEUE) : undefined;
      if (chain === undefined) {
        const full = chains.length === queue.size;
        if (this.live) queue.untake(chains.length);
        return full ? { kind: 'lost', room } : WAIT;
      }
      chains.push(chain);
      room += chain.writableLength;
      if (merged && chain.writableLength < HEADER_BYTES) {
        this.fail('receive buffer is shorter than its header');
        return WAIT;
      }
      descriptors += chain.readable.length + chain.writable.length;
      // Every packet that waits would walk them all, with the vCPU standing.
      if (descriptors > PACKET_DESCRIPTORS_MAX) {
        this.fail('receive buffers have too many descriptors for one packet');
        return WAIT;
      }
    } while (merged && room < length);
    if (room >= length) return { kind: 'chains', chains };
    queue.untake();
    return { kind: 'lost', room };
  }

  /** False when the device has failed. */
  #fill(chains: readonly Chain[], packet: Packet, length: number): boolean {
    const bytes = new Uint8Array(length);
    writeOffload(bytes, 0, packet);
    // How many, also without merged buffers [virtio 5.1.6.4.1].
    bytes[BUFFERS_AT] = chains.length & 0xff;
    bytes[BUFFERS_AT + 1] = chains.length >>> 8;
    bytes.set(packet.frame, HEADER_BYTES);
    let at = 0;
    for (const chain of chains) {
      const count = Math.min(chain.writableLength, length - at);
      if (!this.#write(chain.writable, bytes.subarray(at, at + count))) return false;
      this.give(RECEIVE_QUEUE, chain.head, count);
      at += count;
    }
    return true;
  }

  #write(segments: readonly Segment[], bytes: Uint8Array): boolean {
    if (scatter(this.memory, segments, 0, bytes)) return true;
    this.fail('receive buffer is not in RAM');
    return false;
  }
}

function bytesOf(packets: readonly Packet[]): number {
  return packets.reduce((sum, { frame }) => sum + frame.length, 0);
}

function isFrameLength(length: number): boolean {
  return length >= ETHERNET_HEADER_BYTES && length <= FRAME_BYTES_MAX;
}
