import { beforeEach, describe, expect, it } from 'vitest';
import { guestNanoseconds } from '../base/units.ts';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { Interrupts } from './interrupts.ts';
import { IO_APIC_BASE } from './io-apic.ts';
import { LOCAL_APIC_BASE } from './local-apic.ts';
import { PciHost } from './pci.ts';
import { PciFunction } from './pci-function.ts';

let bus: FakeBus;
let interrupts: Interrupts;
let host: PciHost;
let card: PciFunction;

function build(): void {
  bus = new FakeBus();
  interrupts = new Interrupts({
    bus,
    clock: new FakeClock(),
    tsc: { tscAt: (time) => time, timeOf: (tsc) => guestNanoseconds(tsc) },
  });
  host = new PciHost(bus, interrupts);
  card = new PciFunction({
    name: 'card',
    vendor: 0x1af4,
    device: 0x1041,
    classCode: 0x020000,
    interrupts: true,
  });
  card.addBar({
    index: 4,
    kind: 'memory64',
    size: 0x4000,
    prefetchable: true,
    handler: { readMmio: (offset) => BigInt(offset), writeMmio: () => {} },
  });
  card.addMsix(1, 3);
  card.addCapability(9, Uint8Array.of(0x10, 0xab), Uint8Array.of(0, 0xff));
  host.add(card);
  bus.write(LOCAL_APIC_BASE + 0xf0, 0x1ff);
}

function select(slot: number, offset: number): void {
  bus.output(0xcf8, 0x80000000 + slot * 0x800 + (offset & 0xfc), 4);
}

function read(slot: number, offset: number, size = 4): number {
  select(slot, offset);
  return bus.input(0xcfc + (offset & 3), size);
}

function write(slot: number, offset: number, value: number, size = 4): void {
  select(slot, offset);
  bus.output(0xcfc + (offset & 3), value, size);
}

beforeEach(build);

describe('PCI host', () => {
  it('answers configuration mechanism #1', () => {
    bus.output(0xcfb, 1);
    bus.output(0xcf8, 0x80000000, 4);
    expect(bus.input(0xcf8, 4)).toBe(0x80000000);
    expect(read(0, 0)).toBe(0x12378086);
    expect(read(0, 10, 2)).toBe(0x0600);
    expect(read(1, 0, 2)).toBe(0x1af4);
    expect(read(2, 0)).toBe(0xffffffff);
    bus.output(0xcf8, 0x80010000, 4);
    expect(bus.input(0xcfc, 4)).toBe(0xffffffff);
    bus.output(0xcf8, 0x80000100, 4);
    expect(bus.input(0xcfc, 2)).toBe(0xffff);
    bus.output(0xcf8, 0, 4);
    expect(bus.input(0xcfc, 1)).toBe(0xff);
  });

  it('tells sizes of BARs and moves them with their registers', () => {
    write(1, 0x20, 0xffffffff);
    write(1, 0x24, 0xffffffff);
    expect(read(1, 0x20)).toBe(0xffffc00c);
    expect(read(1, 0x24)).toBe(0xffffffff);
    write(1, 0x20, 0xe0004000);
    write(1, 0x24, 0);
    expect(bus.read(0xe0004010)).toBe(-1);
    write(1, 4, 2, 2);
    expect(bus.read(0xe0004010)).toBe(0x10);
    expect(card.barAddress(4)).toBe(0xe0004000);
    write(1, 0x20, 0xf0000000);
    expect(bus.read(0xe0004010)).toBe(-1);
    expect(bus.read(0xf0003ffc)).toBe(0x3ffc);
    write(1, 4, 0, 2);
    expect(bus.read(0xf0000000)).toBe(-1);
  });

  it('keeps BARs inside the window', () => {
    write(1, 4, 2, 2);
    for (const address of [0, 0x1000_0000, 0xfec00000, 0xfee00000, 0xfffff000]) {
      write(1, 0x20, address);
      expect(card.barAddress(4)).toBeUndefined();
    }
    write(1, 0x20, 0xe0000000);
    write(1, 0x24, 1);
    expect(card.barAddress(4)).toBeUndefined();
  });

  it('is set up without a firmware, BARs aligned and apart', () => {
    host.assignBars();
    expect(card.barAddress(4)).toBe(0xe0000000);
    expect(card.barAddress(1)).toBe(0xe0004000);
    expect(read(1, 0x3c, 1)).toBe(11);
    expect(card.busMaster).toBe(true);
  });

  it('lists capabilities with their writable bits', () => {
    expect(read(1, 6, 2) & 0x10).toBe(0x10);
    const first = read(1, 0x34, 1);
    expect(read(1, first, 1)).toBe(0x11);
    expect(read(1, first + 2, 2)).toBe(2);
    const second = read(1, first + 1, 1);
    expect(read(1, second, 1)).toBe(9);
    write(1, second, 0xffffffff);
    expect(read(1, second)).toBe(0xff100009);
  });

  it('raises INTA unless the guest turned it off', () => {
    bus.write(IO_APIC_BASE, 0x10 + 2 * 11);
    bus.write(IO_APIC_BASE + 0x10, 0xa03b);
    card.setInterrupt(true);
    expect(read(1, 6, 2) & 8).toBe(8);
    expect(interrupts.acknowledge()).toBe(0x3b);
    write(1, 4, 0x400, 2);
    bus.write(LOCAL_APIC_BASE + 0xb0, 0);
    expect(interrupts.localApic.hasPending).toBe(false);
  });
});

describe('MSI-X', () => {
  const table = 0xe0004000;

  function program(vector: number, data: number, masked = 0): void {
    bus.write(table + vector * 16, 0xfee00000);
    bus.write(table + vector * 16 + 4, 0);
    bus.write(table + vector * 16 + 8, data);
    bus.write(table + vector * 16 + 12, masked);
  }

  beforeEach(() => host.assignBars());

  it('sends messages only when enabled', () => {
    program(1, 0x51);
    card.notify(1);
    expect(interrupts.localApic.hasPending).toBe(false);
    write(1, 0x42, 0x8000, 2);
    expect(card.msixEnabled).toBe(true);
    card.notify(1);
    expect(interrupts.acknowledge()).toBe(0x51);
    card.notify(3);
    card.notify(0xffff);
    expect(interrupts.localApic.hasPending).toBe(false);
  });

  it('keeps a masked vector pending until it is unmasked', () => {
    write(1, 0x42, 0x8000, 2);
    program(2, 0x52, 1);
    card.notify(2);
    expect(bus.read(table + 0x800)).toBe(4);
    expect(interrupts.localApic.hasPending).toBe(false);
    write(1, 0x42, 0xc000, 2);
    bus.write(table + 2 * 16 + 12, 0);
    expect(interrupts.localApic.hasPending).toBe(false);
    write(1, 0x42, 0x8000, 2);
    expect(interrupts.acknowledge()).toBe(0x52);
    expect(bus.read(table + 0x800)).toBe(0);
  });

  it('is restored exactly, with its BARs in place', () => {
    write(1, 0x42, 0x8000, 2);
    program(2, 0x52, 1);
    card.notify(2);
    const bytes = savedBytes(card);
    build();
    expect(loadBytes(card, bytes)).toBe(0);
    expect(savedBytes(card)).toEqual(bytes);
    expect(card.barAddress(1)).toBe(table);
    expect(bus.read(table + 0x800)).toBe(4);
    card.reset();
    expect(card.barAddress(1)).toBeUndefined();
    expect(card.msixEnabled).toBe(false);
  });
});
