import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Bus, Device, MmioHandler } from './device.ts';

export const IO_APIC_BASE = 0xfec00000;
export const IO_APIC_ID = 1;
export const IO_APIC_PINS = 24;

/** Version 0x20: with an EOI register, so that a guest need not trick the remote IRR bit away. */
const VERSION = ((IO_APIC_PINS - 1) << 16) | 0x20;

const REMOTE_IRR = 0x4000;
const LEVEL = 0x8000;
const MASKED = 0x1_0000;
const LOGICAL = 0x800;
/** All but delivery status (12) and remote IRR (14), which only the chip writes. */
const LOW_WRITABLE = 0x1_afff;

/** Takes an interrupt to the local APICs; false when none accepted it. */
export type ApicMessage = (
  destination: number,
  logical: boolean,
  mode: number,
  vector: number,
  level: boolean,
) => boolean;

/**
 * The I/O APIC [82093AA 3]. A pin's level here means "asserted", whatever its polarity bit says: the wires of
 * this board always have the polarity that the guest was told.
 */
export class IoApic implements Device, MmioHandler {
  readonly name = 'io-apic';
  readonly #deliver: ApicMessage;
  readonly #low = new Uint32Array(IO_APIC_PINS);
  readonly #high = new Uint32Array(IO_APIC_PINS);
  #select = 0;
  #id = IO_APIC_ID;
  #levels = 0;

  constructor(bus: Bus, deliver: ApicMessage) {
    this.#deliver = deliver;
    bus.mmio(IO_APIC_BASE, 0x1000, this);
    this.reset();
  }

  setPin(pin: number, level: boolean): void {
    const bit = 1 << pin;
    const before = (this.#levels & bit) !== 0;
    if (level === before) return;
    this.#levels ^= bit;
    // A rising edge on a masked pin is lost, as on the chip; a level is seen when the mask goes.
    if (level) this.#service(pin);
  }

  /** A local APIC ended `vector`, or the guest wrote the EOI register. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IO_APIC_PINS; pin++) {
      const entry = this.#low[pin]!;
      if ((entry & 0xff) !== vector || (entry & REMOTE_IRR) === 0) continue;
      this.#low[pin] = entry & ~REMOTE_IRR;
      this.#serviceLevel(pin);
    }
  }

  /** Offers again the levels that nobody accepted. */
  retry(): void {
    for (let pin = 0; pin < IO_APIC_PINS; pin++) this.#serviceLevel(pin);
  }

  readMmio(offset: number, size: number): bigint {
    if (size < 4) return 0n;
    if (offset === 0x00) return BigInt(this.#select);
    if (offset === 0x10) return BigInt(this.#readRegister(this.#select));
    return 0n;
  }

  writeMmio(offset: number, size: number, value: bigint): void {
    // The select register is often written as a byte.
    const low = Number(value & 0xffffffffn);
    if (offset === 0x00) this.#select = low & 0xff;
    else if (size < 4) return;
    else if (offset === 0x10) this.#writeRegister(this.#select, low);
    else if (offset === 0x40) this.endOfInterrupt(low & 0xff);
  }

  reset(): void {
    this.#low.fill(MASKED);
    this.#high.fill(0);
    this.#select = 0;
    this.#id = IO_APIC_ID;
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#select).u8(this.#id).u32(this.#levels);
    for (let pin = 0; pin < IO_APIC_PINS; pin++) writer.u32(this.#low[pin]!).u32(this.#high[pin]!);
  }

  load(reader: ByteReader): void {
    this.#select = reader.u8();
    this.#id = reader.u8() & 0xf;
    this.#levels = reader.u32() & (2 ** IO_APIC_PINS - 1);
    for (let pin = 0; pin < IO_APIC_PINS; pin++) {
      this.#low[pin] = reader.u32();
      this.#high[pin] = reader.u32();
    }
  }

  #readRegister(index: number): number {
    if (index === 0 || index === 2) return this.#id << 24;
    if (index === 1) return VERSION;
    const pin = (index - 0x10) >> 1;
    if (index < 0x10 || pin >= IO_APIC_PINS) return 0;
    return (index & 1) === 0 ? this.#low[pin]! : this.#high[pin]!;
  }

  #writeRegister(index: number, value: number): void {
    if (index === 0) this.#id = (value >>> 24) & 0xf;
    const pin = (index - 0x10) >> 1;
    if (index < 0x10 || pin >= IO_APIC_PINS) return;
    if ((index & 1) !== 0) {
      this.#high[pin] = value & 0xff000000;
      return;
    }
    // Turning a pin to edge ends what waits for an EOI.
    const remote = (value & LEVEL) === 0 ? 0 : this.#low[pin]! & REMOTE_IRR;
    this.#low[pin] = (value & LOW_WRITABLE) | remote;
    this.#serviceLevel(pin);
  }

  #serviceLevel(pin: number): void {
    if ((this.#low[pin]! & LEVEL) !== 0) this.#service(pin);
  }

  #service(pin: number): void {
    const entry = this.#low[pin]!;
    if ((this.#levels & (1 << pin)) === 0 || (entry & (MASKED | REMOTE_IRR)) !== 0) return;
    const level = (entry & LEVEL) !== 0;
    const destination = this.#high[pin]! >>> 24;
    const accepted = this.#deliver(
      destination,
      (entry & LOGICAL) !== 0,
      (entry >>> 8) & 7,
      entry & 0xff,
      level,
    );
    if (level && accepted) this.#low[pin]! |= REMOTE_IRR;
  }
}
