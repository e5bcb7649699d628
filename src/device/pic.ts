import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device } from './device.ts';
import { PicChip } from './pic-chip.ts';

const CASCADE = 2;
/** The pin an 8259A names when the request is gone by the time it is acknowledged. */
const SPURIOUS = 7;

/** The two 8259As of a PC, the second on pin 2 of the first, with their edge/level registers. */
export class Pic implements Device {
  readonly name = 'pic';
  readonly #first = new PicChip(0xf8, CASCADE);
  readonly #second = new PicChip(0xde, undefined);
  readonly #changed: (level: boolean) => void;
  readonly #elcr: number;
  #output = false;

  /** `changed` hears each new level of INTR; `levelIrqs` are level-triggered after a reset, a bit for each. */
  constructor(bus: Bus, changed: (level: boolean) => void, levelIrqs = 0) {
    this.#changed = changed;
    this.#elcr = levelIrqs;
    for (const [base, chip] of [
      [0x20, this.#first],
      [0xa0, this.#second],
    ] as const) {
      const ports = bytePorts(
        (port) => {
          if (port - base > 1) return NO_REGISTER;
          const value = chip.read(port - base);
          this.#update();
          return value;
        },
        (port, value) => {
          if (port - base > 1) return;
          chip.write(port - base, value);
          this.#update();
        },
      );
      bus.ports(base, base + 1, ports);
    }
    const elcr = bytePorts(
      (port) => (port > 0x4d1 ? NO_REGISTER : this.#chip((port & 1) * 8).elcr),
      (port, value) => {
        if (port <= 0x4d1) this.#chip((port & 1) * 8).elcr = value;
      },
    );
    bus.ports(0x4d0, 0x4d1, elcr);
    this.reset();
  }

  /** INTR */
  get output(): boolean {
    return this.#output;
  }

  setLine(irq: number, level: boolean): void {
    this.#chip(irq).setPin(irq & 7, level);
    this.#update();
  }

  /** The processor's INTA: the vector of the most urgent request. */
  acknowledge(): number {
    const pin = this.#first.pendingPin();
    let vector: number;
    if (pin < 0) {
      vector = this.#first.vectorBase + SPURIOUS;
    } else if (pin === CASCADE) {
      const inner = this.#second.pendingPin();
      vector = this.#second.vectorBase + (inner < 0 ? SPURIOUS : inner);
      if (inner >= 0) this.#second.acknowledge(inner);
      this.#first.acknowledge(CASCADE);
      // INTR of the second chip falls at INTA: another request of its makes a new edge.
      this.#first.setPin(CASCADE, false);
    } else {
      vector = this.#first.vectorBase + pin;
      this.#first.acknowledge(pin);
    }
    this.#update();
    return vector;
  }

  reset(): void {
    this.#first.reset(this.#elcr & 0xff);
    this.#second.reset(this.#elcr >>> 8);
    this.#update();
  }

  save(writer: ByteWriter): void {
    this.#first.save(writer);
    this.#second.save(writer);
  }

  load(reader: ByteReader): void {
    this.#first.load(reader);
    this.#second.load(reader);
    // Not announced: whoever listens restores its own view of the level.
    this.#output = this.#first.pendingPin() >= 0;
  }

  #chip(irq: number): PicChip {
    return irq < 8 ? this.#first : this.#second;
  }

  #update(): void {
    this.#first.setPin(CASCADE, this.#second.pendingPin() >= 0);
    const output = this.#first.pendingPin() >= 0;
    if (output === this.#output) return;
    this.#output = output;
    this.#changed(output);
  }
}
