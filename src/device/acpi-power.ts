import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device, GuestClock, InterruptLine, Timer } from './device.ts';
import type { PmTimer } from './pm-timer.ts';
import { armTimer, loadTimer, saveTimer } from './timer-state.ts';

export const PM1_EVENT_PORT = 0x600;
export const PM1_CONTROL_PORT = 0x604;
export const GPE0_PORT = 0x620;
export const SCI_IRQ = 9;
/** SLP_TYP of S5, the only sleeping state offered; the DSDT's \_S5 says so to the guest. */
export const SLEEP_TYPE_OFF = 5;

const TIMER_STATUS = 0x0001;
const GLOBAL_STATUS = 0x0020;
const POWER_BUTTON = 0x0100;
const STATUS_BITS = TIMER_STATUS | GLOBAL_STATUS | POWER_BUTTON;
/** A guest reads back what it enables, also the RTC's event, which could only wake from states not offered. */
const ENABLE_BITS = STATUS_BITS | 0x0200 | 0x0400;
const SCI_ENABLE = 0x0001;
const SLEEP_ENABLE = 0x2000;
/** BM_RLD and SLP_TYP stay as written; GBL_RLS and SLP_EN read as zero. */
const CONTROL_WRITABLE = 0x1c02;

/**
 * The fixed ACPI registers: PM1 event and control, and a GPE block without sources [ACPI 4.8.3, 4.8.4]. There
 * is no SMI: the machine is in ACPI mode always.
 */
export class AcpiPower implements Device {
  readonly name = 'acpi-power';
  readonly #pmTimer: PmTimer;
  readonly #line: InterruptLine;
  readonly #timer: Timer;
  readonly #off: () => void;
  #status = 0;
  #enable = 0;
  #control = 0;
  #gpeEnable = 0;
  #togglesSeen = 0n;

  constructor(bus: Bus, clock: GuestClock, pmTimer: PmTimer, line: InterruptLine, off: () => void) {
    this.#pmTimer = pmTimer;
    this.#line = line;
    this.#off = off;
    this.#timer = clock.timer('acpi', () => this.#update());
    const pm1 = bytePorts(
      (port) => this.#read(port),
      (port, value) => this.#write(port, value),
    );
    bus.ports(PM1_EVENT_PORT, PM1_EVENT_PORT + 5, pm1);
    const gpe = bytePorts(
      (port) => (port < GPE0_PORT + 2 ? 0 : this.#gpeEnable >>> (8 * (port & 1))),
      (port, value) => {
        if (port >= GPE0_PORT + 2) this.#gpeEnable = replaceByte(this.#gpeEnable, port & 1, value);
      },
    );
    bus.ports(GPE0_PORT, GPE0_PORT + 3, gpe);
  }

  pressPowerButton(): void {
    this.#status |= POWER_BUTTON;
    this.#update();
  }

  reset(): void {
    this.#status = 0;
    this.#enable = 0;
    this.#control = 0;
    this.#gpeEnable = 0;
    this.#togglesSeen = this.#pmTimer.toggles();
    this.#update();
  }

  save(writer: ByteWriter): void {
    writer.u16(this.#status).u16(this.#enable).u16(this.#control).u16(this.#gpeEnable);
    writer.u64(this.#togglesSeen);
    saveTimer(writer, this.#timer);
  }

  load(reader: ByteReader): void {
    this.#status = reader.u16();
    this.#enable = reader.u16();
    this.#control = reader.u16();
    this.#gpeEnable = reader.u16();
    this.#togglesSeen = reader.u64();
    loadTimer(reader, this.#timer);
  }

  #read(port: number): number {
    const shift = 8 * (port & 1);
    switch (port & ~1) {
      case PM1_EVENT_PORT:
        this.#catchUp();
        return this.#status >>> shift;
      case PM1_EVENT_PORT + 2:
        return this.#enable >>> shift;
      case PM1_CONTROL_PORT:
        return (this.#control | SCI_ENABLE) >>> shift;
      default:
        return NO_REGISTER;
    }
  }

  #write(port: number, value: number): void {
    const high = port & 1;
    switch (port & ~1) {
      case PM1_EVENT_PORT:
        this.#catchUp();
        this.#status &= ~(value << (8 * high));
        this.#update();
        break;
      case PM1_EVENT_PORT + 2:
        this.#enable = replaceByte(this.#enable, high, value) & ENABLE_BITS;
        this.#update();
        break;
      case PM1_CONTROL_PORT: {
        const control = replaceByte(this.#control, high, value);
        this.#control = control & CONTROL_WRITABLE;
        if (high === 1 && (control & SLEEP_ENABLE) !== 0 && ((control >>> 10) & 7) === SLEEP_TYPE_OFF) {
          this.#off();
        }
        break;
      }
      default:
    }
  }

  #catchUp(): void {
    const toggles = this.#pmTimer.toggles();
    if (toggles === this.#togglesSeen) return;
    this.#togglesSeen = toggles;
    this.#status |= TIMER_STATUS;
  }

  #update(): void {
    this.#catchUp();
    this.#line.set((this.#status & this.#enable) !== 0);
    // Only an enabled timer event that is not already shown needs to be waited for.
    if ((this.#enable & ~this.#status & TIMER_STATUS) === 0) this.#timer.disarm();
    else armTimer(this.#timer, this.#pmTimer.timeOfToggle(this.#togglesSeen + 1n));
  }
}

function replaceByte(word: number, index: number, value: number): number {
  return index === 0 ? (word & 0xff00) | value : (word & 0x00ff) | (value << 8);
}
