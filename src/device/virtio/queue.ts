import { type ByteReader, type ByteWriter, TruncatedError } from '../../base/bytes.ts';
import type { GuestMemory } from '../device.ts';
import { type Chain, type ChainRules, type QueueFault, queueFault, readChain } from './chain.ts';

const RING_HEADER_BYTES = 4;
const USED_ELEMENT_BYTES = 8;
const AVAILABLE_NO_INTERRUPT = 1;

export interface QueueFeatures {
  readonly eventIndex: boolean;
  readonly indirect: boolean;
}

/** A split virtqueue [virtio 2.7]: the driver offers descriptor chains, the device takes and returns them. */
export class Virtqueue {
  readonly sizeMax: number;
  readonly #memory: GuestMemory;

  /** What the driver writes before it enables the queue [virtio 4.1.5.1.3]. */
  size: number;
  descriptorArea = 0n;
  driverArea = 0n;
  deviceArea = 0n;
  #enabled = false;

  #eventIndex = false;
  #indirect = false;
  /** Next entry of the available ring to take, modulo 2^16. */
  #nextAvailable = 0;
  /** Our copy of the used index: the guest's memory holds it, but only this one is trusted. */
  #nextUsed = 0;
  /** The used index at the last decision about an interrupt [virtio 2.7.10]. */
  #decidedUsed = 0;

  constructor(memory: GuestMemory, sizeMax: number) {
    this.#memory = memory;
    this.sizeMax = sizeMax;
    this.size = sizeMax;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  /** Undefined when the queue is ready, or why it cannot be used as the driver set it up. */
  enable(): QueueFault | undefined {
    if (!isQueueSize(this.size, this.sizeMax)) return queueFault(`bad queue size ${this.size}`);
    // [virtio 2.7]: alignments of the three areas.
    if (this.descriptorArea & 15n || this.driverArea & 1n || this.deviceArea & 3n) {
      return queueFault('queue area is not aligned');
    }
    const end = 1n << 52n;
    if (this.descriptorArea >= end || this.driverArea >= end || this.deviceArea >= end) {
      return queueFault('queue area is out of range');
    }
    this.#enabled = true;
    return undefined;
  }

  /** Features are fixed before queues are used [virtio 3.1.1]. */
  configure(features: QueueFeatures): void {
    this.#eventIndex = features.eventIndex;
    this.#indirect = features.indirect;
  }

  reset(): void {
    this.size = this.sizeMax;
    this.descriptorArea = 0n;
    this.driverArea = 0n;
    this.deviceArea = 0n;
    this.#enabled = false;
    this.#eventIndex = false;
    this.#indirect = false;
    this.#nextAvailable = 0;
    this.#nextUsed = 0;
    this.#decidedUsed = 0;
  }

  /** Takes the next available chain; undefined when there is none. */
  take(): Chain | QueueFault | undefined {
    if (!this.#enabled) return undefined;
    const ring = Number(this.driverArea);
    const available = this.#memory.readU16(ring + 2);
    if (available === undefined) return queueFault('available ring is not in RAM');
    const waiting = (available - this.#nextAvailable) & 0xffff;
    if (waiting > this.size) return queueFault('available index moved by more than the queue size');
    if (waiting === 0) return this.#askForNotification();
    const slot = this.#nextAvailable % this.size;
    const head = this.#memory.readU16(ring + RING_HEADER_BYTES + 2 * slot);
    if (head === undefined) return queueFault('available ring is not in RAM');
    const chain = readChain(
      this.#memory,
      { address: Number(this.descriptorArea), size: this.size },
      head,
      this.#rules(),
    );
    if (chain.kind === 'chain') this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
    return chain;
  }

  /** Puts the chains taken last back, as if they had not been taken. */
  untake(count = 1): void {
    this.#nextAvailable = (this.#nextAvailable - count) & 0xffff;
  }

  /** Returns a chain to the driver with the number of bytes written into it [virtio 2.7.8]. */
  give(head: number, written: number): QueueFault | undefined {
    const ring = Number(this.deviceArea);
    const element = ring + RING_HEADER_BYTES + USED_ELEMENT_BYTES * (this.#nextUsed % this.size);
    const next = (this.#nextUsed + 1) & 0xffff;
    // The element first, then the index that publishes it [virtio 2.7.8.2].
    const stored =
      this.#memory.writeU32(element, head) &&
      this.#memory.writeU32(element + 4, written) &&
      this.#memory.writeU16(ring + 2, next);
    if (!stored) return queueFault('used ring is not in RAM');
    this.#nextUsed = next;
    return undefined;
  }

  /** Whether the driver wants an interrupt for what was given since the last call [virtio 2.7.7, 2.7.10]. */
  decideInterrupt(): boolean {
    const before = this.#decidedUsed;
    const after = this.#nextUsed;
    this.#decidedUsed = after;
    if (before === after || !this.#enabled) return false;
    const ring = Number(this.driverArea);
    if (!this.#eventIndex) {
      const flags = this.#memory.readU16(ring) ?? 0;
      return !(flags & AVAILABLE_NO_INTERRUPT);
    }
    const event = this.#memory.readU16(ring + RING_HEADER_BYTES + 2 * this.size);
    if (event === undefined) return true;
    // True when `event` is one of the entries from `before` up to but without `after`.
    return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
  }

  save(writer: ByteWriter): void {
    writer.u16(this.size).u64(this.descriptorArea).u64(this.driverArea).u64(this.deviceArea);
    writer.bool(this.#enabled).bool(this.#eventIndex).bool(this.#indirect);
    writer.u16(this.#nextAvailable).u16(this.#nextUsed).u16(this.#decidedUsed);
  }

  load(reader: ByteReader): void {
    this.size = reader.u16();
    this.descriptorArea = reader.u64();
    this.driverArea = reader.u64();
    this.deviceArea = reader.u64();
    this.#enabled = false;
    if (reader.bool() && this.enable() !== undefined)
      throw new TruncatedError('virtqueue state is not valid');
    this.#eventIndex = reader.bool();
    this.#indirect = reader.bool();
    this.#nextAvailable = reader.u16();
    this.#nextUsed = reader.u16();
    this.#decidedUsed = reader.u16();
  }

  /**
   * The ring is empty: with event indices the driver must be told which entry to ring the bell for
   * [virtio 2.7.10]. No look again afterwards: the one vCPU is not running while a device does.
   */
  #askForNotification(): QueueFault | undefined {
    if (!this.#eventIndex) return undefined;
    const event = Number(this.deviceArea) + RING_HEADER_BYTES + USED_ELEMENT_BYTES * this.size;
    const stored = this.#memory.writeU16(event, this.#nextAvailable);
    return stored ? undefined : queueFault('used ring is not in RAM');
  }

  #rules(): ChainRules {
    return { indirect: this.#indirect, lengthMax: this.sizeMax };
  }
}

function isQueueSize(size: number, sizeMax: number): boolean {
  return size > 0 && size <= sizeMax && (size & (size - 1)) === 0;
}
