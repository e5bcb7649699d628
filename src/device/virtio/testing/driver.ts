import {
  FEATURE_EVENT_INDEX,
  FEATURE_INDIRECT,
  FEATURE_VERSION_1,
  STATUS,
  type VirtioDevice,
} from '../virtio-device.ts';
import type { GuestRam } from './guest-ram.ts';

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export const TRANSPORT_FEATURES = FEATURE_VERSION_1 | FEATURE_EVENT_INDEX | FEATURE_INDIRECT;

/** One buffer of a chain: bytes for the device to read, or a number of bytes for it to write. */
export type Buffer = Uint8Array | number;

export interface Used {
  readonly head: number;
  readonly written: number;
}

/** The driver's side of one split virtqueue, laid out in test RAM. */
export class DriverQueue {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly size: number;
  readonly #ram: GuestRam;
  #freeDescriptor = 0;
  availableIndex = 0;
  #seenUsed = 0;

  constructor(ram: GuestRam, base: number, size: number) {
    this.#ram = ram;
    this.size = size;
    this.descriptors = base;
    this.available = base + 16 * size;
    this.used = (this.available + 6 + 2 * size + 3) & ~3;
  }

  get end(): number {
    return this.used + 6 + 8 * this.size;
  }

  describe(index: number, address: number | bigint, length: number, flags: number, next = 0): void {
    writeDescriptor(this.#ram, this.descriptors + 16 * index, address, length, flags, next);
  }

  /** Publishes a head that is already described. */
  offer(head: number): void {
    this.#ram.writeU16(this.available + 4 + 2 * (this.availableIndex % this.size), head);
    this.setAvailableIndex(this.availableIndex + 1);
  }

  setAvailableIndex(index: number): void {
    this.availableIndex = index & 0xffff;
    this.#ram.writeU16(this.available + 2, this.availableIndex);
  }

  /** Describes and publishes a chain of buffers at the given addresses; returns its head. */
  add(buffers: readonly { address: number; length: number; write: boolean }[]): number {
    const head = this.#freeDescriptor;
    for (const [position, { address, length, write }] of buffers.entries()) {
      const index = this.#freeDescriptor;
      this.#freeDescriptor = (this.#freeDescriptor + 1) % this.size;
      const last = position === buffers.length - 1;
      this.describe(
        index,
        address,
        length,
        (write ? WRITE : 0) | (last ? 0 : NEXT),
        last ? 0 : this.#freeDescriptor,
      );
    }
    this.offer(head);
    return head;
  }

  /** As before the first use. */
  reset(): void {
    this.#ram.bytes.fill(0, this.available, this.end);
    this.#freeDescriptor = 0;
    this.availableIndex = 0;
    this.#seenUsed = 0;
  }

  /** What the device gave back since the last call. */
  takeUsed(): Used[] {
    const index = this.#ram.readU16(this.used + 2)!;
    const used: Used[] = [];
    for (; this.#seenUsed !== index; this.#seenUsed = (this.#seenUsed + 1) & 0xffff) {
      const element = this.used + 4 + 8 * (this.#seenUsed % this.size);
      used.push({ head: this.#ram.readU32(element)!, written: this.#ram.readU32(element + 4)! });
    }
    return used;
  }

  get availableEvent(): number {
    return this.#ram.readU16(this.used + 4 + 8 * this.size)!;
  }

  set usedEvent(index: number) {
    this.#ram.writeU16(this.available + 4 + 2 * this.size, index & 0xffff);
  }

  set availableFlags(flags: number) {
    this.#ram.writeU16(this.available, flags);
  }
}

export function writeDescriptor(
  ram: GuestRam,
  at: number,
  address: number | bigint,
  length: number,
  flags: number,
  next: number,
): void {
  const wide = BigInt(address);
  ram.writeU32(at, Number(wide & 0xffff_ffffn));
  ram.writeU32(at + 4, Number(wide >> 32n));
  ram.writeU32(at + 8, length);
  ram.writeU16(at + 12, flags);
  ram.writeU16(at + 14, next);
}

/** A driver that works a device through its registers, as a transport would. */
export class Driver {
  readonly ram: GuestRam;
  readonly device: VirtioDevice;
  readonly queues: DriverQueue[];
  /** Queue numbers of the interrupts received; 'configuration' for the other kind. */
  readonly interrupts: (number | 'configuration')[] = [];
  #heap: number;
  readonly #heapStart: number;

  constructor(ram: GuestRam, device: VirtioDevice, queueSize = 16, base = 0x1000) {
    this.ram = ram;
    this.device = device;
    device.connect({
      queue: (index) => this.interrupts.push(index),
      configuration: () => this.interrupts.push('configuration'),
    });
    let at = base;
    this.queues = device.queues.map((queue) => {
      const driverQueue = new DriverQueue(ram, at, Math.min(queueSize, queue.sizeMax));
      at = (driverQueue.end + 15) & ~15;
      return driverQueue;
    });
    this.#heap = at;
    this.#heapStart = at;
  }

  /** [virtio 3.1.1]: from reset to DRIVER_OK. */
  start(features: bigint = this.device.offeredFeatures): this {
    const { device } = this;
    if (device.status !== 0) for (const queue of this.queues) queue.reset();
    device.writeStatus(0);
    device.writeStatus(STATUS.acknowledge);
    device.writeStatus(STATUS.acknowledge | STATUS.driver);
    device.writeDriverFeatures(0, Number(features & 0xffff_ffffn));
    device.writeDriverFeatures(1, Number(features >> 32n));
    device.writeStatus(device.status | STATUS.featuresOk);
    for (const [index, queue] of this.queues.entries()) {
      const target = device.queues[index]!;
      target.size = queue.size;
      target.descriptorArea = BigInt(queue.descriptors);
      target.driverArea = BigInt(queue.available);
      target.deviceArea = BigInt(queue.used);
      device.enableQueue(index);
    }
    device.writeStatus(device.status | STATUS.driverOk);
    return this;
  }

  get needsReset(): boolean {
    return (this.device.status & STATUS.needsReset) !== 0;
  }

  allocate(length: number): number {
    if (this.#heap + length > this.ram.bytes.length) this.#heap = this.#heapStart;
    const address = this.#heap;
    this.#heap += (length + 15) & ~15;
    return address;
  }

  /** Places the buffers in RAM, publishes them as one chain; returns where they are. */
  add(queue: number, buffers: readonly Buffer[]): { head: number; addresses: number[] } {
    const addresses: number[] = [];
    const placed = buffers.map((buffer) => {
      const length = typeof buffer === 'number' ? buffer : buffer.length;
      const address = this.allocate(length);
      addresses.push(address);
      if (typeof buffer !== 'number') this.ram.write(address, buffer);
      return { address, length, write: typeof buffer === 'number' };
    });
    return { head: this.queues[queue]!.add(placed), addresses };
  }

  /** Adds a chain and rings the bell. */
  send(queue: number, buffers: readonly Buffer[]): { head: number; addresses: number[] } {
    const added = this.add(queue, buffers);
    this.device.ring(queue);
    return added;
  }

  at(address: number, length: number): Uint8Array {
    return this.ram.bytes.slice(address, address + length);
  }
}
