import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, FakeClock, loadBytes, savedBytes } from './fake-machine.ts';
import { SERIAL_QUEUE_MAX, Serial } from './serial.ts';

let bus: FakeBus;
let clock: FakeClock;
let serial: Serial;
let level: boolean;
let edges: number;
let sent: string[];

function build(): Serial {
  bus = new FakeBus();
  clock = new FakeClock();
  level = false;
  edges = 0;
  sent = [];
  const line = {
    set(to: boolean) {
      if (to && !level) edges++;
      level = to;
    },
  };
  return new Serial({
    bus,
    clock,
    line,
    output: (bytes) => sent.push(new TextDecoder().decode(bytes)),
  });
}

const text = (value: string) => new TextEncoder().encode(value);
const write = (register: number, value: number) => bus.output(0x3f8 + register, value);
const read = (register: number) => bus.input(0x3f8 + register);

function send(value: string): void {
  for (const byte of text(value)) write(0, byte);
}

beforeEach(() => {
  serial = build();
});

describe('16550A', () => {
  it('is found as one by a driver', () => {
    write(1, 0xff);
    expect(read(1)).toBe(0x0f);
    write(1, 0);
    write(2, 0x01);
    expect(read(2)).toBe(0xc1);
    write(4, 0x1a);
    expect(read(6) & 0xf0).toBe(0x90);
    write(4, 0);
    expect(read(6) & 0xf0).toBe(0xb0);
    write(7, 0xa5);
    expect(read(7)).toBe(0xa5);
    write(3, 0x80);
    write(0, 1);
    write(1, 0);
    expect([read(0), read(1)]).toEqual([1, 0]);
  });

  it('hands output over by line, by millisecond and when full', () => {
    send('hello\n');
    expect(sent).toEqual(['hello\n']);
    send('login: ');
    expect(sent).toHaveLength(1);
    clock.advance(1_000_000);
    expect(sent[1]).toBe('login: ');
    send('x'.repeat(256));
    expect(sent[2]).toHaveLength(256);
    expect(clock.nextDeadline).toBeUndefined();
  });

  it('is always ready to send, and interrupts for it as the chip does', () => {
    write(4, 0x08);
    expect(read(5)).toBe(0x60);
    write(1, 0x02);
    expect(level).toBe(true);
    expect(read(2) & 0x0f).toBe(0x02);
    expect(level).toBe(false);
    expect(read(2) & 0x0f).toBe(0x01);
    write(0, 0x41);
    expect(level).toBe(true);
    write(0, 0x42);
    expect(edges).toBe(3);
    write(1, 0);
    expect(level).toBe(false);
  });

  it('receives through the FIFO, with trigger level and time-out', () => {
    write(2, 0x81);
    write(4, 0x08);
    write(1, 0x01);
    expect(serial.receive(text('123456789'))).toBe(9);
    expect(level).toBe(true);
    expect(read(2) & 0x0f).toBe(0x04);
    expect([read(0), read(0)]).toEqual([0x31, 0x32]);
    expect(read(2) & 0x0f).toBe(0x0c);
    for (let byte = 0; byte < 7; byte++) {
      expect(read(5) & 1).toBe(1);
      read(0);
    }
    expect(read(5) & 1).toBe(0);
    expect(level).toBe(false);
  });

  it('takes a bounded amount of input', () => {
    expect(serial.receive(new Uint8Array(SERIAL_QUEUE_MAX + 1))).toBe(SERIAL_QUEUE_MAX);
    expect(serial.receive(text('x'))).toBe(0);
    read(0);
    expect(serial.room).toBe(1);
  });

  it('empties the FIFO on demand, not what has yet to arrive', () => {
    write(2, 0x01);
    serial.receive(text('0123456789abcdefXY'));
    write(2, 0x03);
    expect(read(0)).toBe('X'.charCodeAt(0));
  });

  it('loops back what it sends, and cuts the wire meanwhile', () => {
    write(1, 0x01);
    write(4, 0x1b);
    write(0, 0x7e);
    expect(level).toBe(false);
    expect(read(5) & 1).toBe(1);
    expect(read(0)).toBe(0x7e);
    clock.advance(2_000_000);
    expect(sent).toEqual([]);
  });

  it('is restored exactly, unread and unsent bytes included', () => {
    serial.receive(text('abc'));
    read(0);
    send('pro');
    write(1, 0x03);
    const bytes = savedBytes(serial);
    const deadline = clock.nextDeadline;
    const other = build();
    expect(loadBytes(other, bytes)).toBe(0);
    expect(savedBytes(other)).toEqual(bytes);
    expect(clock.nextDeadline).toBe(deadline);
    expect(read(0)).toBe('b'.charCodeAt(0));
    send('mpt\n');
    expect(sent).toEqual(['prompt\n']);
  });
});
