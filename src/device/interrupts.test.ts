import { beforeEach, describe, expect, it } from 'vitest';
import { guestNanoseconds } from '../base/units.ts';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { Interrupts } from './interrupts.ts';
import { IO_APIC_BASE } from './io-apic.ts';
import { LOCAL_APIC_BASE } from './local-apic.ts';

let bus: FakeBus;
let interrupts: Interrupts;

function build(): Interrupts {
  bus = new FakeBus();
  return new Interrupts({
    bus,
    clock: new FakeClock(),
    tsc: { tscAt: (time) => time, timeOf: (tsc) => guestNanoseconds(tsc) },
  });
}

function route(pin: number, low: number): void {
  bus.write(IO_APIC_BASE, 0x10 + 2 * pin);
  bus.write(IO_APIC_BASE + 0x10, low);
}

beforeEach(() => {
  interrupts = build();
});

describe('interrupt wiring', () => {
  it('delivers an ISA interrupt through the 8259 from the start', () => {
    let changes = 0;
    interrupts.onChange = () => changes++;
    for (const value of [0x11, 0x30, 4, 1, 0]) bus.output(value === 0x11 ? 0x20 : 0x21, value);
    interrupts.line(4).set(true);
    expect(changes).toBe(1);
    expect(interrupts.pending()).toBe(true);
    expect(interrupts.acknowledge()).toBe(0x34);
    expect(interrupts.pending()).toBe(false);
  });

  it('brings the timer to pin 2 and the rest to their own', () => {
    bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
    bus.write(LOCAL_APIC_BASE + 0x350, 0x10700);
    route(2, 0x30);
    route(4, 0x34);
    interrupts.line(0).set(true);
    expect(interrupts.acknowledge()).toBe(0x30);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    interrupts.line(4).set(true);
    expect(interrupts.acknowledge()).toBe(0x34);
    expect(() => interrupts.line(2)).toThrow(RangeError);
  });

  it('shares a level wire until its last line falls, across EOIs', () => {
    bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
    route(10, 0xa03a);
    const first = interrupts.line(10);
    const second = interrupts.line(10);
    first.set(true);
    second.set(true);
    expect(interrupts.acknowledge()).toBe(0x3a);
    first.set(false);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    expect(interrupts.acknowledge()).toBe(0x3a);
    second.set(false);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    expect(interrupts.localApic.hasPending).toBe(false);
  });

  it('offers a level again when the local APIC is switched on', () => {
    route(10, 0xa03a);
    interrupts.line(10).set(true);
    bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
    expect(interrupts.localApic.pendingVector()).toBe(0x3a);
  });

  it('is restored exactly, without new edges', () => {
    route(10, 0x3a);
    interrupts.line(10).set(true);
    const bytes = [interrupts, interrupts.ioApic, interrupts.pic, interrupts.localApic].map(savedBytes);
    const other = build();
    const line = other.line(10);
    for (const [index, device] of [other, other.ioApic, other.pic, other.localApic].entries()) {
      expect(loadBytes(device, bytes[index]!)).toBe(0);
    }
    bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
    line.set(true);
    expect(other.localApic.hasPending).toBe(false);
  });
});
