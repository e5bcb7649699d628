import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { Rtc } from './rtc.ts';
import { civilTime, epochSeconds } from './rtc-calendar.ts';

const SECOND = 1_000_000_000n;
/** 2024-02-28 23:59:57, a Wednesday. */
const START = 1_709_164_797;

let bus: FakeBus;
let clock: FakeClock;
let rtc: Rtc;
let level: boolean;

function build(): Rtc {
  bus = new FakeBus();
  clock = new FakeClock();
  level = false;
  const line = {
    set(to: boolean) {
      level = to;
    },
  };
  return new Rtc(bus, clock, line, START);
}

function read(index: number): number {
  bus.output(0x70, index);
  return bus.input(0x71);
}

function write(index: number, value: number): void {
  bus.output(0x70, index);
  bus.output(0x71, value);
}

const time = () =>
  [0x32, 9, 8, 7, 6, 4, 2, 0].map((index) => read(index).toString(16).padStart(2, '0')).join(' ');

beforeEach(() => {
  rtc = build();
});

describe('calendar', () => {
  it('agrees with the host library over four centuries', () => {
    for (let at = -3_000_000_000; at < 10_000_000_000; at += 86_400 * 13 + 4_321) {
      const civil = civilTime(at);
      const date = new Date(at * 1000);
      expect([civil.year, civil.month, civil.day, civil.weekday - 1, civil.hour, civil.minute]).toEqual([
        date.getUTCFullYear(),
        date.getUTCMonth() + 1,
        date.getUTCDate(),
        date.getUTCDay(),
        date.getUTCHours(),
        date.getUTCMinutes(),
      ]);
      expect(epochSeconds(civil)).toBe(at);
    }
  });
});

describe('clock chip', () => {
  it('tells the configured start plus guest time, over a leap day', () => {
    expect(time()).toBe('20 24 02 28 04 23 59 57');
    clock.advance(3n * SECOND);
    expect(time()).toBe('20 24 02 29 05 00 00 00');
  });

  it('tells it in binary and with twelve hours', () => {
    write(11, 0x04);
    expect(read(0)).toBe(57);
    expect(read(4)).toBe(0x80 | 11);
    clock.advance(3n * SECOND);
    expect(read(4)).toBe(12);
  });

  it('shows an update just before each second', () => {
    expect(read(10) & 0x80).toBe(0);
    clock.advance(999_800_000);
    expect(read(10) & 0x80).toBe(0x80);
    clock.advance(200_000);
    expect(read(10) & 0x80).toBe(0);
  });

  it('keeps the time the guest sets', () => {
    write(11, 0x82);
    write(9, 0x30);
    write(0, 0x10);
    clock.advance(5n * SECOND);
    expect(read(0)).toBe(0x10);
    write(11, 0x02);
    clock.advance(SECOND);
    expect(time()).toBe('20 30 02 28 05 23 59 11');
    write(7, 0x11);
    expect(time()).toBe('20 30 02 11 02 23 59 11');
  });

  it('flags what happened in C, and reading clears it', () => {
    read(12);
    clock.advance(SECOND);
    expect(read(12)).toBe(0x50);
    expect(read(12)).toBe(0);
    expect(clock.nextDeadline).toBeUndefined();
  });

  it('interrupts at an alarm once per day', () => {
    for (const [index, value] of [
      [1, 0x00],
      [3, 0x00],
      [5, 0x00],
    ] as const) {
      write(index, value);
    }
    read(12);
    write(11, 0x22);
    clock.advance(2n * SECOND);
    expect(level).toBe(false);
    clock.advance(SECOND);
    expect(level).toBe(true);
    expect(read(12) & 0xa0).toBe(0xa0);
    expect(level).toBe(false);
  });

  it('interrupts periodically at the rate of A', () => {
    write(11, 0x42);
    let count = 0;
    for (let step = 0; step < 1000; step++) {
      clock.advance(1_000_000);
      if (level) count++;
      read(12);
    }
    expect(count).toBeGreaterThan(990);
    write(10, 0x2f);
    read(12);
    clock.advance(490_000_000);
    expect(level).toBe(false);
    clock.advance(20_000_000);
    expect(level).toBe(true);
  });

  it('keeps its memory over a reset, and is restored exactly', () => {
    rtc.setMemorySize(512 * 2 ** 20);
    write(0x40, 0x5a);
    write(11, 0x12);
    clock.advance(SECOND / 2n);
    const bytes = savedBytes(rtc);
    const deadline = clock.nextDeadline;
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(clock.nextDeadline).toBe(deadline);
    other.reset();
    expect(read(0x40)).toBe(0x5a);
    expect(read(0x35) * 256 + read(0x34)).toBe((512 - 16) * 16);
    expect(clock.nextDeadline).toBeUndefined();
  });
});
