import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from './fake-machine.ts';
import { I8042 } from './i8042.ts';

let bus: FakeBus;
let controller: I8042;
let level: boolean;
let resets: number;

function build(): I8042 {
  bus = new FakeBus();
  level = false;
  resets = 0;
  const line = {
    set(to: boolean) {
      level = to;
    },
  };
  return new I8042(bus, line, () => resets++);
}

beforeEach(() => {
  controller = build();
});

describe('keyboard controller', () => {
  it('is empty and ready at rest', () => {
    expect(bus.input(0x64) & 0x03).toBe(0);
    expect(bus.input(0x60)).toBe(0);
  });

  it('passes its self test and keeps its configuration', () => {
    bus.output(0x64, 0xaa);
    expect(bus.input(0x64) & 1).toBe(1);
    expect(bus.input(0x60)).toBe(0x55);
    expect(bus.input(0x64) & 1).toBe(0);
    bus.output(0x64, 0x60);
    bus.output(0x60, 0x45);
    bus.output(0x64, 0x20);
    expect(bus.input(0x60)).toBe(0x45);
  });

  it('has no second port: loopback through it gives nothing, its test fails', () => {
    bus.output(0x64, 0xd3);
    bus.output(0x60, 0x5a);
    expect(bus.input(0x64) & 1).toBe(0);
    bus.output(0x64, 0xa9);
    expect(bus.input(0x60)).not.toBe(0);
  });

  it('says that no keyboard answers, with an interrupt when enabled', () => {
    bus.output(0x60, 0xf2);
    expect(bus.input(0x64) & 0x41).toBe(0x41);
    expect(level).toBe(false);
    expect(bus.input(0x60)).toBe(0xfe);
    bus.output(0x64, 0x60);
    bus.output(0x60, 0x45);
    bus.output(0x60, 0xff);
    expect(level).toBe(true);
    bus.input(0x60);
    expect(level).toBe(false);
  });

  it('resets the machine by pulse and by output port', () => {
    bus.output(0x64, 0xff);
    expect(resets).toBe(0);
    bus.output(0x64, 0xfe);
    expect(resets).toBe(1);
    bus.output(0x64, 0xd1);
    bus.output(0x60, 0xfe);
    expect(resets).toBe(2);
  });

  it('is restored exactly', () => {
    bus.output(0x60, 0xf2);
    bus.output(0x64, 0x60);
    const bytes = savedBytes(controller);
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(bus.input(0x64) & 0x41).toBe(0x41);
  });
});
