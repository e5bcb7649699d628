import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device } from './device.ts';

/** FADT's RESET_REG and RESET_VALUE. */
export const RESET_PORT = 0xcf9;
export const RESET_VALUE = 0x06;

const RESET_PROCESSOR = 0x04;
const FAST_RESET = 0x01;
const A20 = 0x02;

/** Two ways to reset a PC: the chipset's port 0xCF9, and port 0x92, which also shows the A20 gate. */
export class ResetControl implements Device {
  readonly name = 'reset-control';
  #chipset = 0;
  #system = 0;

  constructor(bus: Bus, reset: () => void) {
    const chipset = bytePorts(
      (port) => (port === RESET_PORT ? this.#chipset : NO_REGISTER),
      (port, value) => {
        if (port !== RESET_PORT) return;
        const rises = (value & ~this.#chipset & RESET_PROCESSOR) !== 0;
        this.#chipset = value & 0x0e;
        if (rises) reset();
      },
    );
    bus.ports(RESET_PORT, RESET_PORT, chipset);
    const system = bytePorts(
      // The A20 gate is always open: no guest of this machine wants addresses to wrap.
      (port) => (port === 0x92 ? this.#system | A20 : NO_REGISTER),
      (port, value) => {
        if (port !== 0x92) return;
        const rises = (value & ~this.#system & FAST_RESET) !== 0;
        this.#system = value & FAST_RESET;
        if (rises) reset();
      },
    );
    bus.ports(0x92, 0x92, system);
  }

  reset(): void {
    this.#chipset = 0;
    this.#system = 0;
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#chipset).u8(this.#system);
  }

  load(reader: ByteReader): void {
    this.#chipset = reader.u8();
    this.#system = reader.u8();
  }
}
