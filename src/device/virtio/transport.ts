import type { ByteReader, ByteWriter } from '../../base/bytes.ts';
import { PciFunction } from '../pci-function.ts';
import {
  COMMON_BYTES,
  COMMON_OFFSET,
  DEVICE_OFFSET,
  ISR_OFFSET,
  NOTIFY_MULTIPLIER,
  NOTIFY_OFFSET,
  REGION_BYTES,
  REGISTERS_BYTES,
  VirtioRegisters,
} from './registers.ts';
import type { VirtioDevice } from './virtio-device.ts';

const VENDOR = 0x1af4;
const DEVICE_BASE = 0x1040;
/** 1 or more: a device without the legacy interface [virtio 4.1.2.1]. */
const REVISION = 1;

const REGISTERS_BAR = 0;
const MSIX_BAR = 1;

const CAPABILITY_VENDOR = 0x09;
/** cfg_type of a capability [virtio 4.1.4]. */
const STRUCTURE = { common: 1, notify: 2, isr: 3, device: 4, access: 5 } as const;

/** Offsets inside a virtio capability, counted from its start. */
const CAPABILITY_BAR = 4;
const CAPABILITY_OFFSET = 8;
const CAPABILITY_LENGTH = 12;
const CAPABILITY_EXTRA = 16;

/** A virtio device as a PCI function, modern interface only [virtio 4.1]. */
export class VirtioPci extends PciFunction {
  readonly device: VirtioDevice;
  readonly #registers: VirtioRegisters;
  readonly #access: number;

  constructor(device: VirtioDevice) {
    super({
      name: device.name,
      vendor: VENDOR,
      device: DEVICE_BASE + device.kind.type,
      revision: REVISION,
      classCode: device.kind.pciClass,
      interrupts: true,
    });
    this.device = device;
    const vectorCount = device.queues.length + 1;
    const fn = this;
    this.#registers = new VirtioRegisters(device, {
      get messagesEnabled() {
        return fn.msixEnabled;
      },
      vectorCount,
      message: (vector) => this.notify(vector),
      line: (level) => this.setInterrupt(level),
    });
    this.addBar({
      index: REGISTERS_BAR,
      kind: 'memory32',
      size: REGISTERS_BYTES,
      handler: this.#registers,
    });
    this.addMsix(MSIX_BAR, vectorCount);
    this.#access = this.#addStructures();
  }

  override readConfiguration(offset: number, size: number): number {
    if (offset !== this.#access + CAPABILITY_EXTRA) return super.readConfiguration(offset, size);
    const window = this.#accessWindow();
    if (window === undefined) return 0;
    return Number(BigInt.asUintN(8 * size, this.#registers.readMmio(window.offset, window.size)));
  }

  override writeConfiguration(offset: number, size: number, value: number): void {
    if (offset !== this.#access + CAPABILITY_EXTRA) {
      super.writeConfiguration(offset, size, value);
      return;
    }
    const window = this.#accessWindow();
    if (window === undefined) return;
    const width = 8 * Math.min(size, window.size);
    this.#registers.writeMmio(window.offset, window.size, BigInt.asUintN(width, BigInt(value)));
  }

  override reset(): void {
    super.reset();
    this.device.reset();
    this.#registers.reset();
  }

  override save(writer: ByteWriter): void {
    super.save(writer);
    this.device.save(writer);
    this.#registers.save(writer);
  }

  override load(reader: ByteReader): void {
    super.load(reader);
    this.device.load(reader);
    this.#registers.load(reader);
  }

  /** Tells the driver where everything is [virtio 4.1.4]; returns where the access capability stands. */
  #addStructures(): number {
    const queues = this.device.queues.length;
    this.#addStructure(STRUCTURE.common, COMMON_OFFSET, COMMON_BYTES);
    this.#addStructure(STRUCTURE.isr, ISR_OFFSET, 1);
    if (this.device.configuration().length > 0) {
      this.#addStructure(STRUCTURE.device, DEVICE_OFFSET, REGION_BYTES);
    }
    const multiplier = new Uint8Array(4);
    new DataView(multiplier.buffer).setUint32(0, NOTIFY_MULTIPLIER, true);
    this.#addStructure(STRUCTURE.notify, NOTIFY_OFFSET, NOTIFY_MULTIPLIER * queues, multiplier);
    const writable = new Uint8Array(CAPABILITY_EXTRA - 2);
    writable[CAPABILITY_BAR - 2] = 0xff;
    writable.fill(0xff, CAPABILITY_OFFSET - 2);
    return this.#addStructure(STRUCTURE.access, 0, 0, new Uint8Array(4), writable);
  }

  #addStructure(
    type: number,
    offset: number,
    length: number,
    extra = new Uint8Array(0),
    writable?: Uint8Array,
  ): number {
    // Without the capability's ID and next pointer, its first two bytes.
    const body = new Uint8Array(CAPABILITY_EXTRA - 2 + extra.length);
    const view = new DataView(body.buffer);
    body[0] = CAPABILITY_EXTRA + extra.length;
    body[1] = type;
    body[CAPABILITY_BAR - 2] = REGISTERS_BAR;
    view.setUint32(CAPABILITY_OFFSET - 2, offset, true);
    view.setUint32(CAPABILITY_LENGTH - 2, length, true);
    body.set(extra, CAPABILITY_EXTRA - 2);
    return this.addCapability(CAPABILITY_VENDOR, body, writable);
  }

  /** What the access capability points at: for firmware that cannot map the BAR [virtio 4.1.4.9]. */
  #accessWindow(): { readonly offset: number; readonly size: number } | undefined {
    const bar = super.readConfiguration(this.#access + CAPABILITY_BAR, 1);
    const offset = super.readConfiguration(this.#access + CAPABILITY_OFFSET, 4);
    const size = super.readConfiguration(this.#access + CAPABILITY_LENGTH, 4);
    const valid = size === 1 || size === 2 || size === 4;
    if (bar !== REGISTERS_BAR || !valid || offset % size !== 0 || offset + size > REGISTERS_BYTES) {
      return undefined;
    }
    return { offset, size };
  }
}
