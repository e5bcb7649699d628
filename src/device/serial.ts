import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { guestNanoseconds } from '../base/units.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device, GuestClock, InterruptLine, Timer } from './device.ts';
import { loadTimer, saveTimer } from './timer-state.ts';

export const SERIAL_PORT = 0x3f8;
export const SERIAL_IRQ = 4;

const FIFO_SIZE = 16;
/** Input beyond this is refused: it waits outside the machine. */
export const SERIAL_QUEUE_MAX = 4096;
/**
 * Bytes sent leave together: at the end of a line, when so many are there, or after a millisecond. Each output
 * costs the log an entry, and one per character would be most of it.
 */
const BATCH_MAX = 256;
const BATCH_NANOSECONDS = 1_000_000n;
const NEWLINE = 0x0a;

const IER_RECEIVE = 0x01;
const IER_TRANSMIT = 0x02;
const IER_LINE = 0x04;
const IER_MODEM = 0x08;

const IIR_NONE = 0x01;
const IIR_MODEM = 0x00;
const IIR_TRANSMIT = 0x02;
const IIR_RECEIVE = 0x04;
const IIR_TIMEOUT = 0x0c;

const LCR_DIVISOR = 0x80;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;

const LSR_READY = 0x01;
const LSR_IDLE = 0x60;

/** CTS, DSR and DCD: someone is at the other end. */
const MODEM_LINES = 0xb0;
const TRIGGER = [1, 4, 8, 14] as const;

export interface SerialOptions {
  readonly bus: Bus;
  readonly clock: GuestClock;
  readonly line: InterruptLine;
  readonly output: (bytes: Uint8Array) => void;
}

/** The 16550A at COM1. Characters take no time: the transmitter is always idle [PC16550D data sheet]. */
export class Serial implements Device {
  readonly name = 'serial';
  readonly #line: InterruptLine;
  readonly #clock: GuestClock;
  readonly #timer: Timer;
  readonly #output: (bytes: Uint8Array) => void;
  readonly #batch = new Uint8Array(BATCH_MAX);
  #batched = 0;
  readonly #queue = new Uint8Array(SERIAL_QUEUE_MAX);
  #head = 0;
  #queued = 0;
  #divisor = 12;
  #interruptEnable = 0;
  #fifoControl = 0;
  #lineControl = 0;
  #modemControl = 0;
  #modemDelta = 0;
  #scratch = 0;
  /** The transmitter became empty, and the guest has not seen it in IIR. */
  #transmitted = false;

  constructor({ bus, clock, line, output }: SerialOptions) {
    this.#line = line;
    this.#clock = clock;
    this.#output = output;
    this.#timer = clock.timer('serial', () => this.flush());
    const ports = bytePorts(
      (port) => (port > SERIAL_PORT + 7 ? NO_REGISTER : this.#read(port - SERIAL_PORT)),
      (port, value) => this.#write(port - SERIAL_PORT, value),
    );
    bus.ports(SERIAL_PORT, SERIAL_PORT + 7, ports);
  }

  /** How many bytes `receive` would take now. */
  get room(): number {
    return SERIAL_QUEUE_MAX - this.#queued;
  }

  /** Takes input for the guest, as much as there is room for, and says how much that was. */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.room);
    for (let at = 0; at < taken; at++) this.#push(bytes[at]!);
    this.#update();
    return taken;
  }

  /** Hands over what was sent and not yet handed over. */
  flush(): void {
    this.#timer.disarm();
    if (this.#batched === 0) return;
    const bytes = this.#batch.slice(0, this.#batched);
    this.#batched = 0;
    this.#output(bytes);
  }

  reset(): void {
    this.flush();
    this.#head = 0;
    this.#queued = 0;
    this.#divisor = 12;
    this.#interruptEnable = 0;
    this.#fifoControl = 0;
    this.#lineControl = 0;
    this.#modemControl = 0;
    this.#modemDelta = 0;
    this.#scratch = 0;
    this.#transmitted = false;
    this.#update();
  }

  save(writer: ByteWriter): void {
    const queue = new Uint8Array(this.#queued);
    for (let at = 0; at < queue.length; at++) queue[at] = this.#queue[(this.#head + at) % SERIAL_QUEUE_MAX]!;
    writer.bytes(queue).bytes(this.#batch.slice(0, this.#batched));
    writer.u16(this.#divisor).u8(this.#interruptEnable).u8(this.#fifoControl).u8(this.#lineControl);
    writer.u8(this.#modemControl).u8(this.#modemDelta).u8(this.#scratch).bool(this.#transmitted);
    saveTimer(writer, this.#timer);
  }

  load(reader: ByteReader): void {
    const queue = reader.bytes().subarray(0, SERIAL_QUEUE_MAX);
    this.#queue.set(queue);
    this.#head = 0;
    this.#queued = queue.length;
    const batch = reader.bytes().subarray(0, BATCH_MAX - 1);
    this.#batch.set(batch);
    this.#batched = batch.length;
    this.#divisor = reader.u16();
    this.#interruptEnable = reader.u8() & 0x0f;
    this.#fifoControl = reader.u8();
    this.#lineControl = reader.u8();
    this.#modemControl = reader.u8() & 0x1f;
    this.#modemDelta = reader.u8() & 0x0f;
    this.#scratch = reader.u8();
    this.#transmitted = reader.bool();
    loadTimer(reader, this.#timer);
  }

  #read(register: number): number {
    if (register < 2 && (this.#lineControl & LCR_DIVISOR) !== 0) {
      return this.#divisor >>> (8 * register);
    }
    switch (register) {
      case 0:
        return this.#pop();
      case 1:
        return this.#interruptEnable;
      case 2:
        return this.#identify();
      case 3:
        return this.#lineControl;
      case 4:
        return this.#modemControl;
      case 5:
        return LSR_IDLE | (this.#queued > 0 ? LSR_READY : 0);
      case 6: {
        const status = this.#modemLines() | this.#modemDelta;
        this.#modemDelta = 0;
        this.#update();
        return status;
      }
      default:
        return this.#scratch;
    }
  }

  #write(register: number, value: number): void {
    if (register < 2 && (this.#lineControl & LCR_DIVISOR) !== 0) {
      const shift = 8 * register;
      this.#divisor = (this.#divisor & ~(0xff << shift)) | (value << shift);
      return;
    }
    switch (register) {
      case 0:
        this.#transmit(value);
        break;
      case 1:
        // Enabling the transmitter's interrupt while it is empty raises it.
        if ((value & ~this.#interruptEnable & IER_TRANSMIT) !== 0) this.#transmitted = true;
        this.#interruptEnable = value & (IER_RECEIVE | IER_TRANSMIT | IER_LINE | IER_MODEM);
        this.#update();
        break;
      case 2:
        // Changing the FIFO enable empties both FIFOs, as does their reset bit.
        if ((value & 2) !== 0 || ((value ^ this.#fifoControl) & 1) !== 0) this.#dropFifo();
        this.#fifoControl = (value & 1) !== 0 ? value & 0xc9 : 0;
        this.#update();
        break;
      case 3:
        this.#lineControl = value;
        break;
      case 4:
        this.#writeModemControl(value & 0x1f);
        break;
      case 7:
        this.#scratch = value;
        break;
      default:
    }
  }

  #transmit(value: number): void {
    this.#transmitted = false;
    this.#line.set(this.#interrupt() !== IIR_NONE && this.#connected());
    if ((this.#modemControl & MCR_LOOP) !== 0) {
      if (this.room > 0) this.#push(value);
    } else {
      this.#batch[this.#batched++] = value;
      if (value === NEWLINE || this.#batched === BATCH_MAX) this.flush();
      else if (this.#batched === 1) {
        this.#timer.arm(guestNanoseconds(this.#clock.now() + BATCH_NANOSECONDS));
      }
    }
    // Sent at once: the interrupt's condition went away and came back, which is an edge.
    this.#transmitted = true;
    this.#update();
  }

  #push(value: number): void {
    this.#queue[(this.#head + this.#queued) % SERIAL_QUEUE_MAX] = value;
    this.#queued++;
  }

  #pop(): number {
    if (this.#queued === 0) return 0;
    const value = this.#queue[this.#head]!;
    this.#head = (this.#head + 1) % SERIAL_QUEUE_MAX;
    this.#queued--;
    this.#update();
    return value;
  }

  /** The guest throws away what its FIFO holds; what waits behind it has not arrived yet. */
  #dropFifo(): void {
    const held = Math.min(this.#queued, (this.#fifoControl & 1) !== 0 ? FIFO_SIZE : 1);
    this.#head = (this.#head + held) % SERIAL_QUEUE_MAX;
    this.#queued -= held;
  }

  #modemLines(): number {
    const control = this.#modemControl;
    if ((control & MCR_LOOP) === 0) return MODEM_LINES;
    // DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
    return ((control & 1) << 5) | ((control & 2) << 3) | ((control & 0x0c) << 4);
  }

  #writeModemControl(value: number): void {
    const before = this.#modemLines();
    this.#modemControl = value;
    const after = this.#modemLines();
    // CTS, DSR and DCD at each change, RI when it falls.
    this.#modemDelta |= (((before ^ after) & 0xb0) | (before & ~after & 0x40)) >>> 4;
    this.#update();
  }

  /** The most urgent enabled interrupt, as IIR names it. */
  #interrupt(): number {
    const enabled = this.#interruptEnable;
    if ((enabled & IER_RECEIVE) !== 0 && this.#queued > 0) {
      const fifo = (this.#fifoControl & 1) !== 0;
      const trigger = fifo ? TRIGGER[(this.#fifoControl >>> 6) as 0 | 1 | 2 | 3] : 1;
      // What is below the trigger level waits for nothing: the time-out is over at once.
      return this.#queued >= trigger ? IIR_RECEIVE : IIR_TIMEOUT;
    }
    if ((enabled & IER_TRANSMIT) !== 0 && this.#transmitted) return IIR_TRANSMIT;
    if ((enabled & IER_MODEM) !== 0 && this.#modemDelta !== 0) return IIR_MODEM;
    return IIR_NONE;
  }

  #identify(): number {
    const interrupt = this.#interrupt();
    if (interrupt === IIR_TRANSMIT) {
      this.#transmitted = false;
      this.#update();
    }
    return interrupt | ((this.#fifoControl & 1) !== 0 ? 0xc0 : 0);
  }

  /** On a PC, OUT2 connects the interrupt to its wire; loopback cuts it. */
  #connected(): boolean {
    return (this.#modemControl & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
  }

  #update(): void {
    this.#line.set(this.#interrupt() !== IIR_NONE && this.#connected());
  }
}
