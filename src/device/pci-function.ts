import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Bus, Device, InterruptLine, MessageInterrupts, MmioHandler, MmioRange } from './device.ts';
import { MSIX_ENTRY_SIZE, Msix } from './msix.ts';

/** Offsets in the configuration header of type 0 [PCI 3.0 6.1]. */
export const PCI = {
  vendor: 0x00,
  device: 0x02,
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  class: 0x09,
  headerType: 0x0e,
  bar0: 0x10,
  subsystemVendor: 0x2c,
  subsystem: 0x2e,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
} as const;

export const COMMAND_MEMORY = 0x0002;
export const COMMAND_BUS_MASTER = 0x0004;
const COMMAND_INTERRUPT_OFF = 0x0400;
const STATUS_INTERRUPT = 0x08;
const STATUS_CAPABILITIES = 0x10;

const CAPABILITY_MSIX = 0x11;
const MSIX_ENABLE = 0x8000;
const MSIX_FUNCTION_MASK = 0x4000;
const MSIX_PENDING_OFFSET = 0x800;
const MSIX_VECTORS_MAX = 128;
const CONFIGURATION_SIZE = 256;

/** Where the guest may place BARs: below the I/O APIC, above all RAM. */
export const PCI_WINDOW_FIRST = 0xe0000000;
export const PCI_WINDOW_LAST = 0xfebfffff;

export interface PciIdentity {
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  readonly revision?: number;
  /** Base class, sub-class and programming interface, as 0x020000. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** Uses INTA. */
  readonly interrupts?: boolean;
}

export interface PciBar {
  readonly index: number;
  readonly kind: 'memory32' | 'memory64';
  /** A power of two, 16 at least. */
  readonly size: number;
  readonly prefetchable?: boolean;
  readonly handler: MmioHandler;
}

/** What a function is plugged into. */
export interface PciSlot {
  readonly bus: Bus;
  readonly line: InterruptLine;
  readonly messages: MessageInterrupts;
  /** The IRQ that INTA of this slot is wired to. */
  readonly irq: number;
}

interface PlacedBar extends PciBar {
  range: MmioRange | undefined;
}

/**
 * One PCI function: configuration space, BARs, INTA and MSI-X. A device describes itself before it is added to
 * the host; what it adds to the state it saves after `super.save`.
 */
export class PciFunction implements Device {
  readonly name: string;
  readonly #configuration = new Uint8Array(CONFIGURATION_SIZE);
  readonly #writable = new Uint8Array(CONFIGURATION_SIZE);
  /** The configuration after a reset: what the description made of it. */
  readonly #initial = new Uint8Array(CONFIGURATION_SIZE);
  readonly #bars: PlacedBar[] = [];
  #slot: PciSlot | undefined;
  #msix: Msix | undefined;
  #msixCapability = 0;
  #capabilityEnd = 0x40;
  #lastCapability = 0;
  #interrupt = false;

  constructor(identity: PciIdentity) {
    this.name = identity.name;
    this.#set(PCI.vendor, 2, identity.vendor);
    this.#set(PCI.device, 2, identity.device);
    this.#set(PCI.revision, 1, identity.revision ?? 0);
    this.#set(PCI.class, 3, identity.classCode);
    this.#set(PCI.subsystemVendor, 2, identity.subsystemVendor ?? identity.vendor);
    this.#set(PCI.subsystem, 2, identity.subsystem ?? identity.device);
    this.#set(PCI.interruptPin, 1, identity.interrupts ? 1 : 0);
    this.#mask(PCI.command, 2, COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTERRUPT_OFF);
    this.#mask(PCI.interruptLine, 1, 0xff);
  }

  get bars(): readonly PciBar[] {
    return this.#bars;
  }

  get usesInterruptPin(): boolean {
    return this.#configuration[PCI.interruptPin] !== 0;
  }

  get slot(): PciSlot | undefined {
    return this.#slot;
  }

  /** Whether the guest lets the device read and write memory. */
  get busMaster(): boolean {
    return (this.readConfiguration(PCI.command, 2) & COMMAND_BUS_MASTER) !== 0;
  }

  get msixEnabled(): boolean {
    return this.#msix?.enabled ?? false;
  }

  addBar(bar: PciBar): void {
    const words = bar.kind === 'memory64' ? 2 : 1;
    if (bar.size < 16 || (bar.size & (bar.size - 1)) !== 0 || bar.index + words > 6) {
      throw new RangeError(`BAR ${bar.index} of ${this.name} cannot be`);
    }
    this.#bars.push({ ...bar, range: undefined });
    const at = PCI.bar0 + 4 * bar.index;
    this.#set(at, 4, (bar.kind === 'memory64' ? 4 : 0) | (bar.prefetchable ? 8 : 0));
    this.#mask(at, 4, ~(bar.size - 1) >>> 0);
    if (words === 2) this.#mask(at + 4, 4, 0xffffffff);
  }

  /**
   * Adds a capability whose bytes after ID and next pointer are `body`; `writable` has a 1 for each bit that the
   * guest may write. Returns its offset.
   */
  addCapability(id: number, body: Uint8Array, writable?: Uint8Array): number {
    const at = this.#capabilityEnd;
    const end = (at + 2 + body.length + 3) & ~3;
    if (end > CONFIGURATION_SIZE) throw new RangeError(`no room for a capability of ${this.name}`);
    this.#capabilityEnd = end;
    this.#set(at, 1, id);
    for (const [index, byte] of body.entries()) this.#set(at + 2 + index, 1, byte);
    for (const [index, bits] of (writable ?? new Uint8Array(0)).entries())
      this.#mask(at + 2 + index, 1, bits);
    if (this.#lastCapability === 0) {
      this.#set(PCI.capabilities, 1, at);
      this.#set(PCI.status, 2, STATUS_CAPABILITIES);
    } else {
      this.#set(this.#lastCapability + 1, 1, at);
    }
    this.#lastCapability = at;
    return at;
  }

  /** Gives the function MSI-X with a BAR of its own: the table at its start, the pending bits in its middle. */
  addMsix(barIndex: number, vectors: number): void {
    if (vectors < 1 || vectors > MSIX_VECTORS_MAX) throw new RangeError('1 to 128 MSI-X vectors');
    const msix = new Msix(vectors, { send: (address, data) => this.#slot?.messages.send(address, data) });
    this.#msix = msix;
    this.addBar({
      index: barIndex,
      kind: 'memory32',
      size: 2 * MSIX_PENDING_OFFSET,
      handler: {
        readMmio: (offset, size) =>
          offset < MSIX_PENDING_OFFSET
            ? msix.table.readMmio(offset, size)
            : msix.pendingBits.readMmio(offset - MSIX_PENDING_OFFSET, size),
        writeMmio: (offset, size, value) => {
          if (offset < vectors * MSIX_ENTRY_SIZE) msix.table.writeMmio(offset, size, value);
        },
      },
    });
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, vectors - 1, true);
    view.setUint32(2, barIndex, true);
    view.setUint32(6, MSIX_PENDING_OFFSET | barIndex, true);
    this.#msixCapability = this.addCapability(
      CAPABILITY_MSIX,
      body,
      Uint8Array.of(0, (MSIX_ENABLE | MSIX_FUNCTION_MASK) >>> 8),
    );
  }

  /** Sends an MSI-X vector. Nothing happens while MSI-X is off. */
  notify(vector: number): void {
    this.#msix?.notify(vector);
  }

  /** The level of INTA, as the device wants it; command register and MSI-X decide whether it is seen. */
  setInterrupt(level: boolean): void {
    this.#interrupt = level;
    this.#drive();
  }

  /** Called once, by the host. */
  plug(slot: PciSlot): void {
    this.#slot = slot;
    this.#initial.set(this.#configuration);
    for (const bar of this.#bars) {
      bar.range = slot.bus.mmio(PCI_WINDOW_FIRST, bar.size, bar.handler);
      bar.range.place(undefined);
    }
  }

  readConfiguration(offset: number, size: number): number {
    let value = 0;
    for (let at = size - 1; at >= 0; at--) value = value * 256 + (this.#configuration[offset + at] ?? 0xff);
    return value;
  }

  writeConfiguration(offset: number, size: number, value: number): void {
    for (let at = 0; at < size; at++) {
      const index = offset + at;
      const writable = this.#writable[index] ?? 0;
      const byte = (value >>> (8 * at)) & 0xff;
      if (index >= CONFIGURATION_SIZE) return;
      this.#configuration[index] = (this.#configuration[index]! & ~writable) | (byte & writable);
    }
    this.#configured();
  }

  /** Where the guest has a BAR, or undefined while it answers nowhere. */
  barAddress(index: number): number | undefined {
    const bar = this.#bars.find((candidate) => candidate.index === index);
    return bar && this.#address(bar);
  }

  reset(): void {
    this.#configuration.set(this.#initial);
    this.#msix?.reset();
    this.#interrupt = false;
    this.#configured();
  }

  save(writer: ByteWriter): void {
    writer.raw(this.#configuration).bool(this.#interrupt);
    this.#msix?.save(writer);
  }

  load(reader: ByteReader): void {
    const configuration = reader.raw(CONFIGURATION_SIZE);
    for (let at = 0; at < CONFIGURATION_SIZE; at++) {
      // Only what a guest could have written is taken from outside; the interrupt status is derived.
      const writable = this.#writable[at]!;
      this.#configuration[at] = (this.#initial[at]! & ~writable) | (configuration[at]! & writable);
    }
    this.#interrupt = reader.bool();
    this.#showInterrupt();
    this.#msix?.load(reader);
    this.#place();
  }

  #configured(): void {
    this.#place();
    if (this.#msix !== undefined) {
      const control = this.readConfiguration(this.#msixCapability + 2, 2);
      this.#msix.setControl((control & MSIX_ENABLE) !== 0, (control & MSIX_FUNCTION_MASK) !== 0);
    }
    this.#drive();
  }

  #place(): void {
    for (const bar of this.#bars) bar.range?.place(this.#address(bar));
  }

  #address(bar: PciBar): number | undefined {
    if ((this.readConfiguration(PCI.command, 2) & COMMAND_MEMORY) === 0) return undefined;
    const at = PCI.bar0 + 4 * bar.index;
    if (bar.kind === 'memory64' && this.readConfiguration(at + 4, 4) !== 0) return undefined;
    const low = this.readConfiguration(at, 4);
    const address = low - (low & 0xf);
    // The bridge forwards only its window: a BAR on top of RAM or of an APIC answers nowhere.
    const inside = address >= PCI_WINDOW_FIRST && address + bar.size - 1 <= PCI_WINDOW_LAST;
    return inside ? address : undefined;
  }

  #showInterrupt(): void {
    const status = this.#configuration[PCI.status]! & ~STATUS_INTERRUPT;
    this.#configuration[PCI.status] = status | (this.#interrupt ? STATUS_INTERRUPT : 0);
  }

  #drive(): void {
    this.#showInterrupt();
    const off = (this.readConfiguration(PCI.command, 2) & COMMAND_INTERRUPT_OFF) !== 0;
    this.#slot?.line.set(this.#interrupt && !off && !this.msixEnabled);
  }

  #set(offset: number, size: number, value: number): void {
    for (let at = 0; at < size; at++) this.#configuration[offset + at] = value >>> (8 * at);
  }

  #mask(offset: number, size: number, bits: number): void {
    for (let at = 0; at < size; at++) this.#writable[offset + at] = bits >>> (8 * at);
  }
}
