import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { Pit } from './pit.ts';

let bus: FakeBus;
let clock: FakeClock;
let pit: Pit;
let edges: bigint[];
let level: boolean;

function build(): Pit {
  bus = new FakeBus();
  clock = new FakeClock();
  edges = [];
  level = false;
  return new Pit(bus, clock, {
    set(to) {
      if (to && !level) edges.push(clock.now());
      level = to;
    },
  });
}

function program(channel: number, control: number, count: number): void {
  bus.output(0x43, (channel << 6) | control);
  bus.output(0x40 + channel, count & 0xff);
  bus.output(0x40 + channel, count >>> 8);
}

function count(channel: number): number {
  bus.output(0x43, channel << 6);
  return bus.input(0x40 + channel) | (bus.input(0x40 + channel) << 8);
}

/** Nanoseconds that contain exactly `ticks` ticks of 1.193182 MHz. */
const ticks = (n: number) => (BigInt(n) * 1_000_000_000n + 1_193_181n) / 1_193_182n;

beforeEach(() => {
  pit = build();
});

describe('8254', () => {
  it('interrupts at 250 Hz in mode 2 without drift', () => {
    program(0, 0x34, 4773);
    edges = [];
    clock.advance(1_000_000_000n);
    expect(edges).toHaveLength(249);
    expect(edges[248]).toBe(ticks(249 * 4773));
  });

  it('merges the interrupts of a jump, and of a period that is too short', () => {
    program(0, 0x34, 4773);
    edges = [];
    clock.jump(41_000_000n);
    expect(edges).toHaveLength(1);
    clock.advance(ticks(4773));
    expect(edges).toHaveLength(2);
    program(0, 0x34, 1);
    expect(clock.nextDeadline! - clock.now()).toBeGreaterThanOrEqual(10_000n);
  });

  it('fires once in modes 0 and 4', () => {
    program(0, 0x30, 1000);
    expect(level).toBe(false);
    clock.advance(ticks(999));
    expect(level).toBe(false);
    clock.advance(ticks(2));
    expect(level).toBe(true);
    expect(clock.nextDeadline).toBeUndefined();
    program(0, 0x38, 1000);
    edges = [];
    clock.advance(ticks(1000));
    expect(edges).toHaveLength(0);
    clock.advance(ticks(2));
    expect(edges).toHaveLength(1);
  });

  it('counts down in guest time, latched and unlatched', () => {
    program(0, 0x34, 1000);
    clock.advance(ticks(1));
    expect(count(0)).toBe(999);
    bus.output(0x43, 0x00);
    clock.advance(ticks(500));
    expect(bus.input(0x40)).toBe(999 & 0xff);
    expect(bus.input(0x40)).toBe(999 >>> 8);
    expect(bus.input(0x40) | (bus.input(0x40) << 8)).toBe(499);
    program(1, 0x36, 1000);
    clock.advance(ticks(100));
    expect(count(1)).toBe(800);
    clock.advance(ticks(450));
    expect(count(1)).toBe(900);
  });

  it('wraps past zero in mode 0, also in BCD', () => {
    program(1, 0x30, 10);
    clock.advance(ticks(12));
    expect(count(1)).toBe(0xfffe);
    program(1, 0x31, 0x10);
    clock.advance(ticks(12));
    expect(count(1)).toBe(0x9998);
  });

  it('answers the read-back command', () => {
    program(0, 0x34, 1000);
    bus.output(0x43, 0xe2);
    expect(bus.input(0x40)).toBe(0xb4);
    bus.output(0x43, 0xc2);
    expect(bus.input(0x40)).toBe(0xb4);
    expect(bus.input(0x40) | (bus.input(0x40) << 8)).toBe(1000);
  });

  it('times with counter 2, as a kernel calibrates', () => {
    bus.output(0x61, 1);
    program(2, 0x30, 59659);
    expect(bus.input(0x61) & 0x20).toBe(0);
    clock.advance(49_999_000);
    expect(bus.input(0x61) & 0x21).toBe(0x01);
    clock.advance(2_000);
    expect(bus.input(0x61) & 0x21).toBe(0x21);
  });

  it('stops counter 2 while its gate is low', () => {
    bus.output(0x61, 1);
    program(2, 0x30, 1000);
    clock.advance(ticks(100));
    bus.output(0x61, 0);
    clock.advance(ticks(5000));
    expect(count(2)).toBe(900);
    bus.output(0x61, 1);
    clock.advance(ticks(100));
    expect(count(2)).toBe(800);
  });

  it('toggles the refresh bit', () => {
    const before = bus.input(0x61) & 0x10;
    clock.advance(15_085);
    expect(bus.input(0x61) & 0x10).not.toBe(before);
  });

  it('is restored exactly', () => {
    program(0, 0x34, 4773);
    bus.output(0x43, 0x00);
    bus.output(0x42, 0x12);
    const bytes = savedBytes(pit);
    const deadline = clock.nextDeadline;
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(clock.nextDeadline).toBe(deadline);
  });
});
