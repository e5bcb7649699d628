import { guestNanoseconds } from '../base/units.ts';
import { AcpiPower, SCI_IRQ } from './acpi-power.ts';
import type { TscConversion } from './apic-timer.ts';
import { DebugExit } from './debug-exit.ts';
import type { Bus, Device, GuestClock } from './device.ts';
import { I8042 } from './i8042.ts';
import { Interrupts } from './interrupts.ts';
import type { LocalApic } from './local-apic.ts';
import { PciHost } from './pci.ts';
import { Pit } from './pit.ts';
import { PmTimer } from './pm-timer.ts';
import { Port80 } from './port-80.ts';
import { ResetControl } from './reset-control.ts';
import { Rtc } from './rtc.ts';
import { SERIAL_IRQ, Serial } from './serial.ts';

const SECOND = 1_000_000_000n;
const TIMER_IRQ = 0;
const KEYBOARD_IRQ = 1;
const RTC_IRQ = 8;

export interface PlatformOptions {
  readonly bus: Bus;
  readonly clock: GuestClock;
  /** Bytes of RAM, for the CMOS memory. */
  readonly memorySize?: number;
  readonly tscFrequencyHz: number;
  /** How the processor's counter follows guest time, when the guest can set it; by default it is time. */
  readonly tsc?: TscConversion;
  readonly physicalAddressBits?: number;
  /** The time of day at guest time 0, in seconds since 1970. */
  readonly startEpochSeconds: number;
  readonly onPower: (state: 'off' | 'reset' | 'debug-exit', value: number) => void;
  readonly onSerialOutput: (bytes: Uint8Array) => void;
}

export interface Platform {
  readonly interrupts: Interrupts;
  readonly localApic: LocalApic;
  readonly serial: Serial;
  readonly acpiPower: AcpiPower;
  readonly rtc: Rtc;
  readonly pci: PciHost;
  /** All devices in the one order of digests, snapshots and resets; PCI functions come last, by slot. */
  devices(): readonly Device[];
  /** Resets every device and then does what a firmware would: places the BARs. */
  reset(): void;
}

/** A counter that is guest time in other units. */
function linearTsc(frequencyHz: number): TscConversion {
  const frequency = BigInt(frequencyHz);
  return {
    tscAt: (time) => (time * frequency) / SECOND,
    timeOf: (tsc) => guestNanoseconds((tsc * SECOND + frequency - 1n) / frequency),
  };
}

/** The board: every device of a PC but the processor, RAM and what is plugged into PCI. */
export function createPlatform(options: PlatformOptions): Platform {
  const { bus, clock, onPower } = options;
  const interrupts = new Interrupts({
    bus,
    clock,
    tsc: options.tsc ?? linearTsc(options.tscFrequencyHz),
    ...(options.physicalAddressBits === undefined
      ? {}
      : { physicalAddressBits: options.physicalAddressBits }),
  });
  const pit = new Pit(bus, clock, interrupts.line(TIMER_IRQ));
  const rtc = new Rtc(bus, clock, interrupts.line(RTC_IRQ), options.startEpochSeconds);
  if (options.memorySize !== undefined) rtc.setMemorySize(options.memorySize);
  const serial = new Serial({
    bus,
    clock,
    line: interrupts.line(SERIAL_IRQ),
    output: options.onSerialOutput,
  });
  // What the guest wrote before it switched itself off leaves first.
  const power = (state: 'off' | 'reset' | 'debug-exit', value = 0) => {
    serial.flush();
    onPower(state, value);
  };
  const reset = () => power('reset');
  const pmTimer = new PmTimer(bus, clock);
  const acpiPower = new AcpiPower(bus, clock, pmTimer, interrupts.line(SCI_IRQ), () => power('off'));
  const keyboard = new I8042(bus, interrupts.line(KEYBOARD_IRQ), reset);
  const resetControl = new ResetControl(bus, reset);
  const debugExit = new DebugExit(bus, (value) => power('debug-exit', value));
  const port80 = new Port80(bus);
  const pci = new PciHost(bus, interrupts);
  const board: readonly Device[] = [
    interrupts,
    interrupts.localApic,
    interrupts.ioApic,
    interrupts.pic,
    pit,
    rtc,
    serial,
    pmTimer,
    acpiPower,
    keyboard,
    resetControl,
    debugExit,
    port80,
    pci,
  ];
  const devices = () => [...board, ...pci.functions];
  return {
    interrupts,
    localApic: interrupts.localApic,
    serial,
    acpiPower,
    rtc,
    pci,
    devices,
    reset() {
      for (const device of devices()) device.reset();
      pci.assignBars();
    },
  };
}
