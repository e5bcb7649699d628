import type { ByteReader, ByteWriter } from '../../base/bytes.ts';
import type { MmioHandler } from '../device.ts';
import type { VirtioDevice, VirtioInterrupts } from './virtio-device.ts';

/** Where the structures stand in the BAR [virtio 4.1.4]; the capabilities tell the driver. */
export const REGION_BYTES = 0x1000;
export const COMMON_OFFSET = 0x0000;
export const ISR_OFFSET = 0x1000;
export const DEVICE_OFFSET = 0x2000;
export const NOTIFY_OFFSET = 0x3000;
export const REGISTERS_BYTES = 0x4000;

/** Distance between the bells of two queues [virtio 4.1.4.4]. */
export const NOTIFY_MULTIPLIER = 4;
/** Up to and with queue_device: what VERSION_1 alone has [virtio 4.1.4.3]. */
export const COMMON_BYTES = 56;

export const NO_VECTOR = 0xffff;
const ISR_QUEUE = 1;
const ISR_CONFIGURATION = 2;

/** Fields of the common configuration [virtio 4.1.4.3]. */
const COMMON = {
  deviceFeatureSelect: 0,
  deviceFeature: 4,
  driverFeatureSelect: 8,
  driverFeature: 12,
  configurationVector: 16,
  queueCount: 18,
  status: 20,
  generation: 21,
  queueSelect: 22,
  queueSize: 24,
  queueVector: 26,
  queueEnable: 28,
  queueNotifyOffset: 30,
  descriptorArea: 32,
  driverArea: 40,
  deviceArea: 48,
} as const;

/** How interrupts leave: the PCI function implements it. */
export interface VirtioSignals {
  readonly messagesEnabled: boolean;
  readonly vectorCount: number;
  message(vector: number): void;
  line(level: boolean): void;
}

/** The registers of a virtio device on PCI [virtio 4.1.4], in one BAR. Whatever is not a register reads 0. */
export class VirtioRegisters implements MmioHandler, VirtioInterrupts {
  readonly #device: VirtioDevice;
  readonly #signals: VirtioSignals;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;
  #configurationVector = NO_VECTOR;
  readonly #queueVectors: number[];
  #isr = 0;

  constructor(device: VirtioDevice, signals: VirtioSignals) {
    this.#device = device;
    this.#signals = signals;
    this.#queueVectors = device.queues.map(() => NO_VECTOR);
    device.connect(this);
  }

  readMmio(offset: number, size: number): bigint {
    const inRegion = offset % REGION_BYTES;
    switch (offset - inRegion) {
      case COMMON_OFFSET:
        return extract(this.#common(), inRegion, size);
      case ISR_OFFSET:
        return inRegion === 0 ? BigInt(this.#acknowledge()) : 0n;
      case DEVICE_OFFSET:
        return extract(this.#device.configuration(), inRegion, size);
      default:
        return 0n;
    }
  }

  writeMmio(offset: number, size: number, value: bigint): void {
    const inRegion = offset % REGION_BYTES;
    switch (offset - inRegion) {
      case COMMON_OFFSET:
        this.#writeCommon(inRegion, size, value);
        break;
      case DEVICE_OFFSET:
        if (size <= 4) this.#device.writeConfiguration(inRegion, size, Number(value));
        break;
      case NOTIFY_OFFSET:
        if (inRegion % NOTIFY_MULTIPLIER === 0) this.#device.ring(inRegion / NOTIFY_MULTIPLIER);
        break;
    }
  }

  queue(index: number): void {
    this.#interrupt(this.#queueVectors[index]!, ISR_QUEUE);
  }

  configuration(): void {
    this.#interrupt(this.#configurationVector, ISR_CONFIGURATION);
  }

  /** What a reset of the device, by driver or machine, does to its registers. */
  reset(): void {
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
    this.#queueSelect = 0;
    this.#configurationVector = NO_VECTOR;
    this.#queueVectors.fill(NO_VECTOR);
    this.#acknowledge();
  }

  save(writer: ByteWriter): void {
    writer.u32(this.#deviceFeatureSelect).u32(this.#driverFeatureSelect).u16(this.#queueSelect);
    writer.u16(this.#configurationVector).u8(this.#isr);
    for (const vector of this.#queueVectors) writer.u16(vector);
  }

  load(reader: ByteReader): void {
    this.#deviceFeatureSelect = reader.u32();
    this.#driverFeatureSelect = reader.u32();
    this.#queueSelect = reader.u16();
    this.#configurationVector = reader.u16();
    this.#isr = reader.u8();
    for (let index = 0; index < this.#queueVectors.length; index += 1) {
      this.#queueVectors[index] = reader.u16();
    }
  }

  #interrupt(vector: number, cause: number): void {
    if (this.#signals.messagesEnabled) {
      // Not mapped to a vector: no interrupt [virtio 4.1.5.1.2].
      if (vector < this.#signals.vectorCount) this.#signals.message(vector);
      return;
    }
    this.#isr |= cause;
    this.#signals.line(true);
  }

  /** Reading the ISR status clears it and lowers the line [virtio 4.1.4.5]. */
  #acknowledge(): number {
    const isr = this.#isr;
    this.#isr = 0;
    if (isr !== 0) this.#signals.line(false);
    return isr;
  }

  #common(): Uint8Array {
    const bytes = new Uint8Array(COMMON_BYTES);
    const view = new DataView(bytes.buffer);
    const device = this.#device;
    view.setUint32(COMMON.deviceFeatureSelect, this.#deviceFeatureSelect, true);
    view.setUint32(COMMON.deviceFeature, half(device.offeredFeatures, this.#deviceFeatureSelect), true);
    view.setUint32(COMMON.driverFeatureSelect, this.#driverFeatureSelect, true);
    view.setUint32(COMMON.driverFeature, half(device.driverFeatures, this.#driverFeatureSelect), true);
    view.setUint16(COMMON.configurationVector, this.#configurationVector, true);
    view.setUint16(COMMON.queueCount, device.queues.length, true);
    view.setUint8(COMMON.status, device.status);
    view.setUint8(COMMON.generation, device.configurationGeneration);
    view.setUint16(COMMON.queueSelect, this.#queueSelect, true);
    const queue = device.queues[this.#queueSelect];
    // A queue that does not exist has size 0 [virtio 4.1.5.1.3].
    if (queue === undefined) return bytes;
    view.setUint16(COMMON.queueSize, queue.size, true);
    view.setUint16(COMMON.queueVector, this.#queueVectors[this.#queueSelect]!, true);
    view.setUint16(COMMON.queueEnable, queue.enabled ? 1 : 0, true);
    view.setUint16(COMMON.queueNotifyOffset, this.#queueSelect, true);
    view.setBigUint64(COMMON.descriptorArea, queue.descriptorArea, true);
    view.setBigUint64(COMMON.driverArea, queue.driverArea, true);
    view.setBigUint64(COMMON.deviceArea, queue.deviceArea, true);
    return bytes;
  }

  /** Each field takes writes of its own width; the 64-bit ones also in halves [virtio 4.1.3.1]. */
  #writeCommon(offset: number, size: number, wide: bigint): void {
    const value = Number(BigInt.asUintN(32, wide));
    switch (offset) {
      case COMMON.deviceFeatureSelect:
        if (size === 4) this.#deviceFeatureSelect = value;
        break;
      case COMMON.driverFeatureSelect:
        if (size === 4) this.#driverFeatureSelect = value;
        break;
      case COMMON.driverFeature:
        if (size === 4) this.#device.writeDriverFeatures(this.#driverFeatureSelect, value);
        break;
      case COMMON.configurationVector:
        if (size === 2) this.#configurationVector = this.#vector(value & 0xffff);
        break;
      case COMMON.status:
        if (size === 1) this.#writeStatus(value & 0xff);
        break;
      case COMMON.queueSelect:
        if (size === 2) this.#queueSelect = value & 0xffff;
        break;
      default:
        this.#writeQueue(offset, size, wide);
    }
  }

  #writeStatus(value: number): void {
    this.#device.writeStatus(value);
    if (value === 0) this.reset();
  }

  /** Registers of the selected queue. Its size and place are fixed once it is enabled. */
  #writeQueue(offset: number, size: number, value: bigint): void {
    const queue = this.#device.queues[this.#queueSelect];
    if (queue === undefined) return;
    if (size === 2 && offset === COMMON.queueVector) {
      this.#queueVectors[this.#queueSelect] = this.#vector(Number(value & 0xffffn));
      return;
    }
    if (queue.enabled) return;
    if (size === 2) {
      if (offset === COMMON.queueSize) queue.size = Number(value & 0xffffn);
      else if (offset === COMMON.queueEnable && value === 1n) this.#device.enableQueue(this.#queueSelect);
      return;
    }
    if (size !== 4 && size !== 8) return;
    const field = offset & ~7;
    const shift = offset - field;
    if (shift !== 0 && (shift !== 4 || size !== 4)) return;
    if (field === COMMON.descriptorArea)
      queue.descriptorArea = replace(queue.descriptorArea, shift, size, value);
    else if (field === COMMON.driverArea) queue.driverArea = replace(queue.driverArea, shift, size, value);
    else if (field === COMMON.deviceArea) queue.deviceArea = replace(queue.deviceArea, shift, size, value);
  }

  /** A vector that the function does not have reads back as none [virtio 4.1.5.1.2]. */
  #vector(value: number): number {
    return value < this.#signals.vectorCount ? value : NO_VECTOR;
  }
}

function half(features: bigint, select: number): number {
  return select > 1 ? 0 : Number((features >> BigInt(32 * select)) & 0xffff_ffffn);
}

function extract(bytes: Uint8Array, offset: number, size: number): bigint {
  let value = 0n;
  for (let index = size - 1; index >= 0; index -= 1) {
    value = (value << 8n) | BigInt(bytes[offset + index] ?? 0);
  }
  return value;
}

function replace(before: bigint, shift: number, size: number, value: bigint): bigint {
  if (size === 8) return BigInt.asUintN(64, value);
  const bits = BigInt(8 * shift);
  return (before & ~(0xffff_ffffn << bits)) | (BigInt.asUintN(32, value) << bits);
}
