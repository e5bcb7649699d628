import { type ByteReader, type ByteWriter, TruncatedError } from '../../base/bytes.ts';
import type { Device, GuestMemory } from '../device.ts';
import type { Chain } from './chain.ts';
import { Virtqueue } from './queue.ts';

/** Device status [virtio 2.1]. */
export const STATUS = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const;

/** Feature bits of the queue and transport [virtio 6]. */
export const FEATURE_INDIRECT = 1n << 28n;
export const FEATURE_EVENT_INDEX = 1n << 29n;
export const FEATURE_VERSION_1 = 1n << 32n;

const TRANSPORT_FEATURES = FEATURE_VERSION_1 | FEATURE_EVENT_INDEX | FEATURE_INDIRECT;

/** What a kind of device is, fixed before it starts. */
export interface VirtioKind {
  readonly name: string;
  /** Virtio device type [virtio 5]: 1 net, 2 block, 3 console, 4 entropy. */
  readonly type: number;
  /** PCI class code: base class, subclass and interface, 24 bits. */
  readonly pciClass: number;
  /** Largest size of each queue, in the order of the specification. */
  readonly queueSizes: readonly number[];
  /** Device-specific feature bits offered. */
  readonly features: bigint;
}

/** How a device reaches its driver; the transport implements it. */
export interface VirtioInterrupts {
  queue(index: number): void;
  configuration(): void;
}

/**
 * What all virtio devices share, whatever the transport: status, features, queues. A kind of device extends
 * it. Whatever a driver does wrong ends in DEVICE_NEEDS_RESET [virtio 2.1.2], never in an exception.
 */
export abstract class VirtioDevice implements Device {
  readonly kind: VirtioKind;
  readonly queues: readonly Virtqueue[];
  protected readonly memory: GuestMemory;
  #interrupts: VirtioInterrupts | undefined;

  #status = 0;
  #driverFeatures = 0n;
  #configurationGeneration = 0;
  #faultReason: string | undefined;

  constructor(kind: VirtioKind, memory: GuestMemory) {
    this.kind = kind;
    this.memory = memory;
    this.queues = kind.queueSizes.map((size) => new Virtqueue(memory, size));
  }

  get name(): string {
    return this.kind.name;
  }

  connect(interrupts: VirtioInterrupts): void {
    this.#interrupts = interrupts;
  }

  get status(): number {
    return this.#status;
  }

  /** The driver runs the device and neither has failed: queues may be used. */
  get live(): boolean {
    return (this.#status & (STATUS.driverOk | STATUS.needsReset)) === STATUS.driverOk;
  }

  /** Why the device asked for a reset, for people. Not part of the state. */
  get faultReason(): string | undefined {
    return this.#faultReason;
  }

  get offeredFeatures(): bigint {
    return this.kind.features | TRANSPORT_FEATURES;
  }

  get driverFeatures(): bigint {
    return this.#driverFeatures;
  }

  get configurationGeneration(): number {
    return this.#configurationGeneration;
  }

  /** Writes one 32-bit half of the driver's features; they are fixed from FEATURES_OK on [virtio 3.1.1]. */
  writeDriverFeatures(select: number, value: number): void {
    if (select > 1 || this.#status & STATUS.featuresOk) return;
    const shift = BigInt(32 * select);
    const kept = this.#driverFeatures & ~(0xffff_ffffn << shift);
    this.#driverFeatures = kept | (BigInt(value >>> 0) << shift);
  }

  /** The driver writes the status register [virtio 2.1.1]: zero resets, anything else only adds bits. */
  writeStatus(value: number): void {
    if (value === 0) {
      this.resetByDriver();
      return;
    }
    let added = value & ~this.#status & ~STATUS.needsReset;
    if (added & STATUS.featuresOk && !this.#acceptFeatures()) added &= ~STATUS.featuresOk;
    // Driver and device have not agreed on features: the device does not start [virtio 3.1.1].
    if (!((this.#status | added) & STATUS.featuresOk)) added &= ~STATUS.driverOk;
    this.#status |= added & 0xff;
    if (added & STATUS.driverOk) this.#start();
  }

  /** The driver enables the queue it has set up [virtio 4.1.5.1.3]. */
  enableQueue(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined || queue.enabled) return;
    const fault = queue.enable();
    if (fault !== undefined) this.fail(fault.reason);
  }

  /** The driver rang the bell of a queue. */
  ring(index: number): void {
    if (this.live && this.queues[index]?.enabled) this.rung(index);
  }

  resetByDriver(): void {
    this.#status = 0;
    this.#driverFeatures = 0n;
    this.#configurationGeneration = 0;
    this.#faultReason = undefined;
    for (const queue of this.queues) queue.reset();
    this.stopped();
  }

  reset(): void {
    this.resetByDriver();
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#status).u64(this.#driverFeatures).u8(this.#configurationGeneration);
    for (const queue of this.queues) queue.save(writer);
    this.saveKind(writer);
  }

  load(reader: ByteReader): void {
    this.#status = reader.u8();
    this.#driverFeatures = reader.u64();
    this.#configurationGeneration = reader.u8();
    if (this.#driverFeatures & ~this.offeredFeatures && this.#status & STATUS.featuresOk) {
      throw new TruncatedError(`${this.name}: the state uses features that this device does not offer`);
    }
    for (const queue of this.queues) queue.load(reader);
    this.loadKind(reader);
  }

  /** The device-specific configuration as bytes [virtio 2.5]. */
  abstract configuration(): Uint8Array;

  /** The driver writes device-specific configuration; most devices have nothing writable. */
  writeConfiguration(_offset: number, _size: number, _value: number): void {}

  /** A queue has something for the device, or may have. Called for live devices and enabled queues only. */
  protected abstract rung(queue: number): void;

  /** The driver has reset the device: chains taken before must not be given back. */
  protected stopped(): void {}

  protected saveKind(_writer: ByteWriter): void {}

  protected loadKind(_reader: ByteReader): void {}

  /** Whether features of this kind may be negotiated together, where some need others. */
  protected fits(_features: bigint): boolean {
    return true;
  }

  protected hasFeature(feature: bigint): boolean {
    return (this.#driverFeatures & feature) !== 0n;
  }

  /** Takes the next chain of a queue. A queue out of order fails the device and gives nothing. */
  protected take(index: number): Chain | undefined {
    if (!this.live) return undefined;
    const taken = this.queues[index]!.take();
    if (taken?.kind !== 'fault') return taken;
    this.fail(taken.reason);
    return undefined;
  }

  /** Gives a chain back; `signal` tells the driver, once for any number of chains. */
  protected give(index: number, head: number, written: number): void {
    if (!this.live) return;
    const fault = this.queues[index]!.give(head, written);
    if (fault !== undefined) this.fail(fault.reason);
  }

  protected signal(index: number): void {
    if (this.live && this.queues[index]!.decideInterrupt()) this.#interrupts?.queue(index);
  }

  protected configurationChanged(): void {
    this.#configurationGeneration = (this.#configurationGeneration + 1) & 0xff;
    if (this.#status & STATUS.driverOk) this.#interrupts?.configuration();
  }

  /** The driver broke a rule: nothing works until it resets the device [virtio 2.1.2]. */
  protected fail(reason: string): void {
    if (this.#status & STATUS.needsReset) return;
    this.#faultReason = reason;
    this.#status |= STATUS.needsReset;
    if (this.#status & STATUS.driverOk) this.#interrupts?.configuration();
  }

  /** [virtio 3.1.1, 6.1]: a subset of what is offered, and VERSION_1, as there is no legacy interface. */
  #acceptFeatures(): boolean {
    const features = this.#driverFeatures;
    const subset = (features & ~this.offeredFeatures) === 0n && (features & FEATURE_VERSION_1) !== 0n;
    return subset && this.fits(features);
  }

  #start(): void {
    for (const queue of this.queues) {
      queue.configure({
        eventIndex: this.hasFeature(FEATURE_EVENT_INDEX),
        indirect: this.hasFeature(FEATURE_INDIRECT),
      });
    }
    // Bells rung before DRIVER_OK were not heard.
    for (let index = 0; index < this.queues.length; index += 1) this.ring(index);
  }
}
