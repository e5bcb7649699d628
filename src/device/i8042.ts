import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device, InterruptLine } from './device.ts';

const OUTPUT_FULL = 0x01;
const SYSTEM_FLAG = 0x04;
const LAST_WAS_COMMAND = 0x08;
const UNLOCKED = 0x10;
const TIMEOUT = 0x40;

const INTERRUPT_ENABLE = 0x01;
/** Keyboard off, self test passed. The second port's bits stay as written, but nothing is behind them. */
const CONFIGURATION_RESET = 0x14;

/**
 * The keyboard controller with nothing plugged in. It answers every command at once, so that no driver waits,
 * and what is sent to a keyboard comes back as "resend" with the time-out flag. Its one use is the reset line.
 */
export class I8042 implements Device {
  readonly name = 'i8042';
  readonly #line: InterruptLine;
  readonly #reset: () => void;
  #configuration = CONFIGURATION_RESET;
  #outputPort = 0x03;
  /** The command that waits for its data byte, or 0. */
  #command = 0;
  #lastWasCommand = false;
  /** The byte in the output buffer, with TIMEOUT above it when it stands for no answer; -1 when empty. */
  #output = -1;

  constructor(bus: Bus, line: InterruptLine, reset: () => void) {
    this.#line = line;
    this.#reset = reset;
    const data = bytePorts(
      (port) => (port === 0x60 ? this.#readData() : NO_REGISTER),
      (port, value) => {
        if (port === 0x60) this.#writeData(value);
      },
    );
    bus.ports(0x60, 0x60, data);
    const command = bytePorts(
      (port) => (port === 0x64 ? this.#status() : NO_REGISTER),
      (port, value) => {
        if (port === 0x64) this.#writeCommand(value);
      },
    );
    bus.ports(0x64, 0x64, command);
  }

  reset(): void {
    this.#configuration = CONFIGURATION_RESET;
    this.#outputPort = 0x03;
    this.#command = 0;
    this.#lastWasCommand = false;
    this.#output = -1;
    this.#line.set(false);
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#configuration).u8(this.#outputPort).u8(this.#command).bool(this.#lastWasCommand);
    writer.u32(this.#output + 1);
  }

  load(reader: ByteReader): void {
    this.#configuration = reader.u8();
    this.#outputPort = reader.u8();
    this.#command = reader.u8();
    this.#lastWasCommand = reader.bool();
    this.#output = (reader.u32() & 0xffff) - 1;
  }

  #status(): number {
    let status = UNLOCKED | (this.#configuration & SYSTEM_FLAG);
    if (this.#lastWasCommand) status |= LAST_WAS_COMMAND;
    if (this.#output >= 0) status |= OUTPUT_FULL | ((this.#output >>> 8) & TIMEOUT);
    return status;
  }

  #readData(): number {
    const value = Math.max(this.#output, 0) & 0xff;
    this.#output = -1;
    this.#line.set(false);
    return value;
  }

  #answer(value: number, flags = 0): void {
    this.#output = value | (flags << 8);
    this.#line.set((this.#configuration & INTERRUPT_ENABLE) !== 0);
  }

  #writeCommand(value: number): void {
    this.#lastWasCommand = true;
    this.#command = 0;
    switch (value) {
      case 0x20:
        this.#answer(this.#configuration);
        break;
      case 0xa7: // second port off and on: there is none
      case 0xa8:
        break;
      case 0xa9: // test of the second port: clock line stuck
        this.#answer(0x01);
        break;
      case 0xaa:
        this.#configuration |= SYSTEM_FLAG;
        this.#answer(0x55);
        break;
      case 0xab:
        this.#answer(0x00);
        break;
      case 0xad:
        this.#configuration |= 0x10;
        break;
      case 0xae:
        this.#configuration &= ~0x10;
        break;
      case 0xc0:
        this.#answer(0x80);
        break;
      case 0xd0:
        this.#answer(this.#outputPort);
        break;
      case 0x60:
      case 0xd1:
      case 0xd2:
      case 0xd3:
      case 0xd4:
        this.#command = value;
        break;
      default:
        // Commands 0xf0 to 0xff pulse the output port's low bits; bit 0 is the processor's reset.
        if (value >= 0xf0 && (value & 1) === 0) this.#reset();
    }
  }

  #writeData(value: number): void {
    const command = this.#command;
    this.#command = 0;
    this.#lastWasCommand = false;
    switch (command) {
      case 0x60:
        this.#configuration = value & 0x7f;
        break;
      case 0xd1:
        this.#outputPort = value | 0x02;
        if ((value & 1) === 0) this.#reset();
        break;
      case 0xd2:
        this.#answer(value);
        break;
      case 0xd3: // to the second port's buffer: none
        break;
      default:
        this.#answer(0xfe, TIMEOUT);
    }
  }
}
