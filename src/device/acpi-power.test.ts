import { beforeEach, describe, expect, it } from 'vitest';
import { AcpiPower } from './acpi-power.ts';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { PmTimer } from './pm-timer.ts';

let bus: FakeBus;
let clock: FakeClock;
let power: AcpiPower;
let level: boolean;
let off: number;

function build(): AcpiPower {
  bus = new FakeBus();
  clock = new FakeClock();
  level = false;
  off = 0;
  const line = {
    set(to: boolean) {
      level = to;
    },
  };
  return new AcpiPower(bus, clock, new PmTimer(bus, clock), line, () => off++);
}

beforeEach(() => {
  power = build();
});

describe('PM timer', () => {
  it('counts 3.579545 MHz of guest time and wraps at 32 bits', () => {
    clock.advance(1_000_000_000);
    expect(bus.input(0x608, 4)).toBe(3_579_545);
    expect(bus.input(0x609)).toBe((3_579_545 >> 8) & 0xff);
    clock.advance(1_200_000_000_000n);
    expect(bus.input(0x608, 4)).toBe((1201 * 3_579_545) % 2 ** 32);
  });
});

describe('ACPI fixed hardware', () => {
  it('is in ACPI mode from the start', () => {
    expect(bus.input(0x604, 2)).toBe(1);
  });

  it('switches off on S5 with SLP_EN only', () => {
    bus.output(0x604, 5 << 10, 2);
    bus.output(0x604, 0x2000, 2);
    expect(off).toBe(0);
    bus.output(0x604, (5 << 10) | 0x2000, 2);
    expect(off).toBe(1);
  });

  it('asserts the SCI for the power button until it is acknowledged', () => {
    power.pressPowerButton();
    expect(level).toBe(false);
    bus.output(0x602, 0x100, 2);
    expect(level).toBe(true);
    expect(bus.input(0x600, 2)).toBe(0x100);
    bus.output(0x600, 0x100, 2);
    expect(level).toBe(false);
    expect(bus.input(0x600, 2)).toBe(0);
  });

  it('keeps every defined enable bit as written, also of events that never come', () => {
    bus.output(0x602, 0xffff, 2);
    expect(bus.input(0x602, 2)).toBe(0x0721);
    expect(level).toBe(false);
  });

  it('shows a timer overflow, and interrupts for it when asked', () => {
    clock.advance(599_000_000_000n);
    expect(bus.input(0x600, 2)).toBe(0);
    bus.output(0x602, 1, 2);
    clock.advance(2_000_000_000n);
    expect(level).toBe(true);
    bus.output(0x600, 1, 2);
    expect(level).toBe(false);
    expect(clock.nextDeadline).toBeGreaterThan(1_199_000_000_000n);
  });

  it('is restored exactly', () => {
    bus.output(0x602, 0x101, 2);
    power.pressPowerButton();
    const bytes = savedBytes(power);
    const deadline = clock.nextDeadline;
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(clock.nextDeadline).toBe(deadline);
    other.reset();
    expect(bus.input(0x600, 2)).toBe(0);
  });
});
