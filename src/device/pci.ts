import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts } from './byte-ports.ts';
import type { Bus, Device, PortHandler } from './device.ts';
import type { Interrupts } from './interrupts.ts';
import {
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  PCI,
  PCI_WINDOW_FIRST,
  PCI_WINDOW_LAST,
  PciFunction,
} from './pci-function.ts';

const ADDRESS_PORT = 0xcf8;
const DATA_PORT = 0xcfc;
const ENABLE = 0x80000000;
export const PCI_SLOTS = 32;

/** The IRQs that the INTA of slots 0, 1, 2, ... have in turn. The DSDT's _PRT says the same to the guest. */
export const PCI_IRQS = [10, 11] as const;

/** The IRQ of pin 0 (INTA) to 3 (INTD) of a slot. */
export function pciIrq(slot: number, pin: number): number {
  return PCI_IRQS[((slot + pin) & 1) as 0 | 1];
}

/** The host bridge at 00:00.0 with configuration mechanism #1, and the functions on bus 0 [PCI 2.1 3.7.4]. */
export class PciHost implements Device {
  readonly name = 'pci';
  readonly #bus: Bus;
  readonly #interrupts: Interrupts;
  readonly #slots: (PciFunction | undefined)[] = [];
  #address = 0;

  constructor(bus: Bus, interrupts: Interrupts) {
    this.#bus = bus;
    this.#interrupts = interrupts;
    const address: PortHandler = {
      readPort: (_port, size) => (size === 4 ? this.#address : 2 ** (8 * size) - 1),
      // Only a whole doubleword selects; bytes here belong to other devices.
      writePort: (_port, size, value) => {
        if (size === 4) this.#address = (value & 0x80fffffc) >>> 0;
      },
    };
    bus.ports(ADDRESS_PORT, ADDRESS_PORT, address);
    const bytes = bytePorts(
      (port) => this.#read(port, 1),
      (port, value) => this.#write(port, 1, value),
    );
    // Aligned accesses reach the function whole: a device may act once on each.
    const data: PortHandler = {
      readPort: (port, size) => (port % size === 0 ? this.#read(port, size) : bytes.readPort(port, size)),
      writePort: (port, size, value) => {
        if (port % size === 0) this.#write(port, size, value);
        else bytes.writePort(port, size, value);
      },
    };
    bus.ports(DATA_PORT, DATA_PORT + 3, data);
    this.add(
      new PciFunction({
        name: 'pci-bridge',
        vendor: 0x8086,
        device: 0x1237,
        revision: 2,
        classCode: 0x060000,
      }),
    );
  }

  /** All functions by slot, the host bridge first. They are devices of their own. */
  get functions(): readonly PciFunction[] {
    return this.#slots.filter((fn) => fn !== undefined);
  }

  /** Plugs a function in, into the next free slot or the one named; returns the slot. */
  add(fn: PciFunction, slot = this.#freeSlot()): number {
    if (slot < 0 || slot >= PCI_SLOTS || this.#slots[slot] !== undefined) {
      throw new RangeError(`no PCI slot for ${fn.name}`);
    }
    this.#slots[slot] = fn;
    const irq = pciIrq(slot, 0);
    const { line } = fn.usesInterruptPin ? { line: this.#interrupts.line(irq) } : { line: { set() {} } };
    fn.plug({ bus: this.#bus, line, messages: this.#interrupts, irq });
    return slot;
  }

  /**
   * What a firmware does before the system starts: places all BARs, largest first, and says which IRQ each
   * function has. To be called after each reset.
   */
  assignBars(first = PCI_WINDOW_FIRST, last = PCI_WINDOW_LAST): void {
    const wanted = this.functions.flatMap((fn) => fn.bars.map((bar) => ({ fn, bar })));
    wanted.sort((left, right) => right.bar.size - left.bar.size);
    let next = first;
    for (const { fn, bar } of wanted) {
      const address = Math.ceil(next / bar.size) * bar.size;
      if (address + bar.size - 1 > last) throw new RangeError(`no room for BAR ${bar.index} of ${fn.name}`);
      next = address + bar.size;
      fn.writeConfiguration(PCI.bar0 + 4 * bar.index, 4, address);
      if (bar.kind === 'memory64') fn.writeConfiguration(PCI.bar0 + 4 * bar.index + 4, 4, 0);
    }
    for (const fn of this.functions) {
      if (fn.usesInterruptPin) fn.writeConfiguration(PCI.interruptLine, 1, fn.slot!.irq);
      if (fn.bars.length > 0) fn.writeConfiguration(PCI.command, 2, COMMAND_MEMORY | COMMAND_BUS_MASTER);
    }
  }

  reset(): void {
    this.#address = 0;
  }

  save(writer: ByteWriter): void {
    writer.u32(this.#address);
  }

  load(reader: ByteReader): void {
    this.#address = reader.u32();
  }

  #freeSlot(): number {
    for (let slot = 0; slot < PCI_SLOTS; slot++) if (this.#slots[slot] === undefined) return slot;
    return -1;
  }

  #selected(): PciFunction | undefined {
    // Bits 23:16 bus, 15:11 device, 10:8 function: only function 0 of devices on bus 0 are there.
    if ((this.#address & ENABLE) === 0 || (this.#address & 0xff0700) !== 0) return undefined;
    return this.#slots[(this.#address >>> 11) & 0x1f];
  }

  #read(port: number, size: number): number {
    const fn = this.#selected();
    if (fn === undefined || port > DATA_PORT + 3) return 2 ** (8 * size) - 1;
    return fn.readConfiguration((this.#address & 0xfc) | (port & 3), size);
  }

  #write(port: number, size: number, value: number): void {
    if (port > DATA_PORT + 3) return;
    this.#selected()?.writeConfiguration((this.#address & 0xfc) | (port & 3), size, value);
  }
}
