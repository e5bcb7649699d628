import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from './fake-machine.ts';
import { Pic } from './pic.ts';

let bus: FakeBus;
let pic: Pic;
let levels: boolean[];

function build(): Pic {
  bus = new FakeBus();
  levels = [];
  return new Pic(bus, (level) => levels.push(level));
}

function initialise(fourth = 1): void {
  for (const [base, vector, cascade] of [
    [0x20, 0x30, 4],
    [0xa0, 0x38, 2],
  ] as const) {
    bus.output(base, 0x11);
    bus.output(base + 1, vector);
    bus.output(base + 1, cascade);
    bus.output(base + 1, fourth);
    bus.output(base + 1, 0);
  }
}

function pulse(irq: number): void {
  pic.setLine(irq, true);
  pic.setLine(irq, false);
}

beforeEach(() => {
  pic = build();
  initialise();
});

describe('the 8259A pair', () => {
  it('latches edges and nests by priority', () => {
    pulse(4);
    pulse(1);
    expect(pic.acknowledge()).toBe(0x31);
    expect(pic.output).toBe(false);
    pulse(0);
    expect(pic.acknowledge()).toBe(0x30);
    bus.output(0x20, 0x20);
    bus.output(0x20, 0x20);
    expect(pic.acknowledge()).toBe(0x34);
  });

  it('takes the second chip through pin 2', () => {
    pulse(12);
    pulse(8);
    expect(pic.acknowledge()).toBe(0x38);
    bus.output(0xa0, 0x20);
    bus.output(0x20, 0x20);
    expect(pic.acknowledge()).toBe(0x3c);
    expect(bus.input(0x20)).toBe(0);
    bus.output(0xa0, 0x0b);
    expect(bus.input(0xa0)).toBe(0x10);
  });

  it('is masked by OCW1, and the mask reads back', () => {
    bus.output(0x21, 0xfb);
    expect(bus.input(0x21)).toBe(0xfb);
    pulse(3);
    expect(pic.output).toBe(false);
    bus.output(0x21, 0);
    expect(pic.acknowledge()).toBe(0x33);
  });

  it('names a spurious interrupt when the request is gone', () => {
    bus.output(0x4d0, 0x20);
    pic.setLine(5, true);
    expect(pic.output).toBe(true);
    pic.setLine(5, false);
    expect(pic.acknowledge()).toBe(0x37);
    expect(levels).toEqual([true, false]);
  });

  it('repeats a level until it is lowered', () => {
    bus.output(0x4d1, 0xff);
    expect(bus.input(0x4d1)).toBe(0xde);
    pic.setLine(10, true);
    for (let round = 0; round < 2; round++) {
      expect(pic.acknowledge()).toBe(0x3a);
      bus.output(0xa0, 0x62);
      bus.output(0x20, 0x62);
    }
    pic.setLine(10, false);
    expect(pic.output).toBe(false);
  });

  it('ends by itself in auto-EOI mode', () => {
    initialise(3);
    pulse(0);
    pic.acknowledge();
    pulse(0);
    expect(pic.acknowledge()).toBe(0x30);
  });

  it('lets lower requests through in special mask mode', () => {
    pulse(1);
    pic.acknowledge();
    pulse(6);
    expect(pic.output).toBe(false);
    bus.output(0x21, 0x02);
    bus.output(0x20, 0x68);
    expect(pic.acknowledge()).toBe(0x36);
  });

  it('rotates priorities and answers polls', () => {
    bus.output(0x20, 0xc0 | 3);
    pulse(3);
    pulse(4);
    expect(pic.acknowledge()).toBe(0x34);
    bus.output(0x20, 0x20);
    bus.output(0x20, 0x0c);
    expect(bus.input(0x20)).toBe(0x83);
    bus.output(0x20, 0x0c);
    expect(bus.input(0x20)).toBe(0);
  });

  it('is restored exactly', () => {
    pulse(9);
    bus.output(0x20, 0x11);
    const bytes = savedBytes(pic);
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
  });
});
