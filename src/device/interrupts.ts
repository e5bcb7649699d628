import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { TscConversion } from './apic-timer.ts';
import type { Bus, Device, GuestClock, InterruptLine, MessageInterrupts } from './device.ts';
import { IO_APIC_PINS, IoApic } from './io-apic.ts';
import { LocalApic } from './local-apic.ts';
import { Pic } from './pic.ts';

const ISA_IRQS = 16;
/** The timer's wire goes to pin 2 of the I/O APIC, where the 8259s' cascade has none [MP 5.1]. */
const TIMER_IRQ = 0;
const TIMER_PIN = 2;
const CASCADE_IRQ = 2;
/** ACPI's and PCI's wires, 9 to 11: a firmware would have set the 8259s' trigger registers so. */
const LEVEL_IRQS = 0x0e00;

export interface InterruptsOptions {
  readonly bus: Bus;
  readonly clock: GuestClock;
  readonly tsc: TscConversion;
  readonly physicalAddressBits?: number;
}

/**
 * The interrupt wiring of the board. A wire is the OR of all lines that share it; each goes to both kinds of
 * controller, and the guest uses one of them.
 */
export class Interrupts implements Device, MessageInterrupts {
  readonly name = 'interrupts';
  readonly localApic: LocalApic;
  readonly ioApic: IoApic;
  readonly pic: Pic;
  /** Set by the machine: an interrupt or NMI may have become deliverable. */
  onChange: () => void = () => {};
  /** For each wire, one bit for each of its lines. */
  readonly #asserted = new Uint32Array(IO_APIC_PINS);
  readonly #lines = new Uint8Array(IO_APIC_PINS);

  constructor(options: InterruptsOptions) {
    const { bus } = options;
    this.localApic = new LocalApic({
      ...options,
      changed: () => this.onChange(),
      ended: (vector) => this.ioApic.endOfInterrupt(vector),
      enabled: () => this.ioApic.retry(),
    });
    this.ioApic = new IoApic(bus, (destination, logical, mode, vector, level) =>
      this.localApic.deliver(destination, logical, mode, vector, level),
    );
    this.pic = new Pic(
      bus,
      (level) => {
        this.localApic.setLint0(level);
        if (level) this.onChange();
      },
      LEVEL_IRQS,
    );
  }

  /** A new line on the wire `irq`: 0 to 15 as on the ISA bus, 16 to 23 on the I/O APIC alone. */
  line(irq: number): InterruptLine {
    const index = this.#lines[irq]!++;
    if (irq === CASCADE_IRQ || irq >= IO_APIC_PINS || index >= 32) {
      throw new RangeError(`no interrupt line on wire ${irq}`);
    }
    const bit = 1 << index;
    return {
      set: (level) => {
        const before = this.#asserted[irq]!;
        const after = level ? before | bit : before & ~bit;
        if (after === before) return;
        this.#asserted[irq] = after;
        if ((before !== 0) !== (after !== 0)) this.#drive(irq, after !== 0);
      },
    };
  }

  /** Whether the processor would take an interrupt now, IF and NMIs aside. */
  pending(): boolean {
    return this.localApic.hasPending || (this.pic.output && this.localApic.acceptsExternal);
  }

  /**
   * The vector of the pending interrupt, which is then being served. The 8259's comes first: the task priority
   * does not hold it back, so nothing else may.
   */
  acknowledge(): number {
    if (this.pic.output && this.localApic.acceptsExternal) return this.pic.acknowledge();
    return this.localApic.acknowledge();
  }

  nmiPending(): boolean {
    return this.localApic.nmiPending;
  }

  acknowledgeNmi(): void {
    this.localApic.acknowledgeNmi();
  }

  send(address: bigint, data: number): void {
    this.localApic.send(address, data);
  }

  /** The wires belong to the devices, which lower them in their own reset. */
  reset(): void {}

  save(writer: ByteWriter): void {
    for (const lines of this.#asserted) writer.u32(lines);
  }

  load(reader: ByteReader): void {
    for (let irq = 0; irq < IO_APIC_PINS; irq++) this.#asserted[irq] = reader.u32();
  }

  #drive(irq: number, level: boolean): void {
    this.ioApic.setPin(irq === TIMER_IRQ ? TIMER_PIN : irq, level);
    if (irq < ISA_IRQS) this.pic.setLine(irq, level);
  }
}
