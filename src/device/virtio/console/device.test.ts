import { beforeEach, describe, expect, it } from 'vitest';
import { loadBytes, savedBytes } from '../../fake-machine.ts';
import { Driver } from '../testing/driver.ts';
import { GuestRam } from '../testing/guest-ram.ts';
import { ConsoleDevice, WAITING_BYTES_MAX } from './device.ts';

const RECEIVE = 0;
const TRANSMIT = 1;

let printed: number[];
let ram: GuestRam;
let port: ConsoleDevice;
let driver: Driver;

beforeEach(() => {
  ram = new GuestRam(0x40000);
  printed = [];
  port = new ConsoleDevice({ name: 'console', onBytes: (bytes) => printed.push(...bytes) }, ram);
  driver = new Driver(ram, port).start();
});

describe('the console [virtio 5.3]', () => {
  it('passes what the guest transmits, in order', () => {
    driver.send(TRANSMIT, [Uint8Array.of(1, 2), Uint8Array.of(3)]);
    driver.send(TRANSMIT, [Uint8Array.of(4)]);
    expect(printed).toEqual([1, 2, 3, 4]);
    expect(driver.queues[TRANSMIT]!.takeUsed()).toHaveLength(2);
  });

  it('spreads input over buffers and keeps the rest', () => {
    expect(port.receive(Uint8Array.of(1, 2, 3, 4, 5))).toBe(5);
    const first = driver.send(RECEIVE, [2]);
    const second = driver.send(RECEIVE, [16]);
    expect([...driver.at(first.addresses[0]!, 2)]).toEqual([1, 2]);
    expect([...driver.at(second.addresses[0]!, 3)]).toEqual([3, 4, 5]);
    expect(driver.queues[RECEIVE]!.takeUsed().map((used) => used.written)).toEqual([2, 3]);
  });

  it('takes input up to a bound', () => {
    expect(port.receive(new Uint8Array(WAITING_BYTES_MAX + 5))).toBe(WAITING_BYTES_MAX);
    expect(port.receive(Uint8Array.of(1))).toBe(0);
  });

  it('keeps input while a driver starts again, not over a reset of the machine', () => {
    port.receive(Uint8Array.of(42));
    port.writeStatus(0);
    driver = new Driver(ram, port).start();
    const { addresses } = driver.send(RECEIVE, [4]);
    expect(driver.at(addresses[0]!, 1)[0]).toBe(42);
    port.receive(Uint8Array.of(43));
    port.reset();
    const clean = new ConsoleDevice({ name: 'console', onBytes: () => {} }, ram);
    expect(savedBytes(port)).toEqual(savedBytes(clean));
  });

  it('prints emergency writes without a queue [virtio 5.3.6.3]', () => {
    port.writeStatus(0);
    port.writeConfiguration(8, 4, 0x41);
    expect(printed).toEqual([0x41]);
  });

  it('asks for a reset for a buffer of terabytes', () => {
    const wide = { address: 0, length: 0xffff_ffff, write: false };
    driver.queues[TRANSMIT]!.add([wide, wide]);
    port.ring(TRANSMIT);
    expect(driver.needsReset).toBe(true);
  });

  it('has the same state after load, with input waiting', () => {
    port.receive(Uint8Array.of(1, 2, 3));
    const saved = savedBytes(port);
    const copy = new ConsoleDevice({ name: 'console', onBytes: () => {} }, ram);
    expect(loadBytes(copy, saved)).toBe(0);
    expect(savedBytes(copy)).toEqual(saved);
  });
});
