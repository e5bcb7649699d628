import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { IO_APIC_BASE } from './io-apic.ts';
import { LOCAL_APIC_BASE, MSR_TSC_DEADLINE } from './local-apic.ts';
import { PciFunction } from './pci-function.ts';
import { createPlatform, type Platform } from './platform.ts';

let bus: FakeBus;
let clock: FakeClock;
let platform: Platform;
let events: string[];

function build(): Platform {
  bus = new FakeBus();
  clock = new FakeClock();
  events = [];
  const built = createPlatform({
    bus,
    clock,
    memorySize: 256 * 2 ** 20,
    tscFrequencyHz: 2_000_000_000,
    startEpochSeconds: 1_700_000_000,
    onPower: (state, value) => events.push(`${state} ${value}`),
    onSerialOutput: (bytes) => events.push(new TextDecoder().decode(bytes)),
  });
  const card = new PciFunction({ name: 'card', vendor: 1, device: 2, classCode: 0, interrupts: true });
  card.addMsix(1, 2);
  built.pci.add(card);
  built.reset();
  return built;
}

function route(pin: number, low: number): void {
  bus.write(IO_APIC_BASE, 0x10 + 2 * pin);
  bus.write(IO_APIC_BASE + 0x10, low);
}

beforeEach(() => {
  platform = build();
  bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
});

describe('platform', () => {
  it('names each device once', () => {
    const names = platform.devices().map((device) => device.name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.slice(-2)).toEqual(['pci-bridge', 'card']);
  });

  it('wires timer, serial port and power button', () => {
    route(2, 0x30);
    route(4, 0x34);
    route(9, 0x8039);
    for (const value of [0x34, 0x00, 0x10]) bus.output(value === 0x34 ? 0x43 : 0x40, value);
    clock.advance(5_000_000);
    expect(platform.interrupts.acknowledge()).toBe(0x30);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    bus.output(0x3fc, 8);
    bus.output(0x3f9, 1);
    platform.serial.receive(Uint8Array.of(1));
    expect(platform.interrupts.acknowledge()).toBe(0x34);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    bus.output(0x602, 0x100, 2);
    platform.acpiPower.pressPowerButton();
    expect(platform.interrupts.acknowledge()).toBe(0x39);
  });

  it('lets output go before the power does, on every way out', () => {
    bus.output(0x3f8, 0x41);
    bus.output(0x604, 0x3400, 2);
    bus.output(0x64, 0xfe);
    bus.output(0xcf9, 6);
    bus.output(0x92, 1);
    bus.output(0xf4, 7);
    expect(events).toEqual(['A', 'off 0', 'reset 0', 'reset 0', 'reset 0', 'debug-exit 7']);
  });

  it('runs the deadline timer by the configured TSC', () => {
    bus.write(LOCAL_APIC_BASE + 0x320, 0x4_0050);
    platform.localApic.writeMsr(MSR_TSC_DEADLINE, 2_000_000n);
    clock.advance(999_999);
    expect(platform.interrupts.pending()).toBe(false);
    clock.advance(1);
    expect(platform.interrupts.pending()).toBe(true);
  });

  it('is restored exactly, and its reset is the start again', () => {
    const fresh = platform.devices().map(savedBytes);
    route(2, 0x30);
    for (const value of [0x34, 0x00, 0x10]) bus.output(value === 0x34 ? 0x43 : 0x40, value);
    bus.output(0x3f9, 2);
    const saved = platform.devices().map(savedBytes);
    expect(saved).not.toEqual(fresh);
    const other = build();
    for (const [index, device] of other.devices().entries()) {
      expect(loadBytes(device, saved[index]!), device.name).toBe(0);
    }
    expect(other.devices().map(savedBytes)).toEqual(saved);
    other.reset();
    bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
    expect(other.devices().map(savedBytes)).toEqual(fresh);
  });
});
