import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from './fake-machine.ts';
import { IO_APIC_BASE, IoApic } from './io-apic.ts';

let bus: FakeBus;
let apic: IoApic;
let vectors: number[];
let accepting: boolean;

function build(): IoApic {
  bus = new FakeBus();
  return new IoApic(bus, (_destination, _logical, _mode, vector) => {
    if (accepting) vectors.push(vector);
    return accepting;
  });
}

function write(register: number, value: number): void {
  bus.write(IO_APIC_BASE, register, 1);
  bus.write(IO_APIC_BASE + 0x10, value);
}

function read(register: number): number {
  bus.write(IO_APIC_BASE, register);
  return bus.read(IO_APIC_BASE + 0x10);
}

beforeEach(() => {
  vectors = [];
  accepting = true;
  apic = build();
});

describe('I/O APIC', () => {
  it('says what it is', () => {
    expect(read(0)).toBe(0x0100_0000);
    expect(read(1)).toBe(0x0017_0020);
    expect(read(0x10)).toBe(0x1_0000);
    expect(read(0x40)).toBe(0);
  });

  it('sends one message for each rising edge and none while masked', () => {
    write(0x18, 0x34);
    apic.setPin(4, true);
    apic.setPin(4, true);
    apic.setPin(4, false);
    apic.setPin(4, true);
    expect(vectors).toEqual([0x34, 0x34]);
    write(0x18, 0x1_0034);
    apic.setPin(4, false);
    apic.setPin(4, true);
    write(0x18, 0x34);
    expect(vectors).toHaveLength(2);
  });

  it('sends a level once until its end, and again while it lasts', () => {
    write(0x24, 0x1_a039);
    apic.setPin(10, true);
    expect(vectors).toEqual([]);
    write(0x24, 0xa039);
    expect(vectors).toEqual([0x39]);
    expect(read(0x24)).toBe(0xe039);
    write(0x24, 0xa039);
    expect(vectors).toHaveLength(1);
    apic.endOfInterrupt(0x38);
    expect(vectors).toHaveLength(1);
    apic.endOfInterrupt(0x39);
    expect(vectors).toHaveLength(2);
    apic.setPin(10, false);
    bus.write(IO_APIC_BASE + 0x40, 0x39);
    expect(vectors).toHaveLength(2);
    expect(read(0x24)).toBe(0xa039);
  });

  it('offers a refused level again', () => {
    write(0x24, 0xa039);
    accepting = false;
    apic.setPin(10, true);
    expect(read(0x24)).toBe(0xa039);
    accepting = true;
    apic.retry();
    expect(vectors).toEqual([0x39]);
  });

  it('is restored exactly', () => {
    write(0x24, 0xa039);
    write(0x25, 0xff000000);
    apic.setPin(10, true);
    const bytes = savedBytes(apic);
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(read(0x25)).toBe(0xff000000);
  });
});
