import { beforeEach, describe, expect, it } from 'vitest';
import { loadBytes, savedBytes } from '../fake-machine.ts';
import type { Chain } from './chain.ts';
import { gather, scatter } from './chain.ts';
import { Virtqueue } from './queue.ts';
import { DriverQueue, INDIRECT, NEXT, WRITE, writeDescriptor } from './testing/driver.ts';
import { GuestRam } from './testing/guest-ram.ts';

const SIZE = 8;
const HOLE = { start: 0xa000, end: 0xb000 };

let ram: GuestRam;
let driver: DriverQueue;
let queue: Virtqueue;

function make(features = { eventIndex: false, indirect: true }): void {
  ram = new GuestRam(0x10000, [HOLE]);
  driver = new DriverQueue(ram, 0x1000, SIZE);
  queue = new Virtqueue(ram, 16);
  queue.size = SIZE;
  queue.descriptorArea = BigInt(driver.descriptors);
  queue.driverArea = BigInt(driver.available);
  queue.deviceArea = BigInt(driver.used);
  expect(queue.enable()).toBeUndefined();
  queue.configure(features);
}

beforeEach(() => make());

function takeChain(): Chain {
  const taken = queue.take();
  if (taken?.kind !== 'chain') throw new Error(`no chain: ${JSON.stringify(taken)}`);
  return taken;
}

function expectFault(pattern: RegExp): void {
  expect(queue.take()).toMatchObject({ kind: 'fault', reason: expect.stringMatching(pattern) });
}

describe('taking chains [virtio 2.7.13]', () => {
  it('gives nothing while the available index stands', () => {
    expect(queue.take()).toBeUndefined();
  });

  it('separates readable from writable buffers and sums their lengths', () => {
    driver.add([
      { address: 0x4000, length: 10, write: false },
      { address: 0x5000, length: 20, write: false },
      { address: 0x6000, length: 30, write: true },
    ]);
    const chain = takeChain();
    expect(chain).toMatchObject({ head: 0, readableLength: 30, writableLength: 30 });
    expect(chain.readable).toEqual([
      { address: 0x4000, length: 10 },
      { address: 0x5000, length: 20 },
    ]);
    expect(queue.take()).toBeUndefined();
  });

  it('goes round the ring and past the wrap of the index', () => {
    for (let round = 0; round < 65_536 + 20; round += 1) {
      const head = driver.add([{ address: 0x4000, length: 1 + (round % 7), write: true }]);
      const chain = takeChain();
      expect(chain.head === head && chain.writableLength === 1 + (round % 7)).toBe(true);
      queue.give(head, 0);
    }
    expect(ram.readU16(driver.used + 2)).toBe(20);
  });

  it('takes the same chain again after untake', () => {
    const head = driver.add([{ address: 0x4000, length: 4, write: true }]);
    takeChain();
    queue.untake();
    expect(takeChain().head).toBe(head);
  });

  it('follows an indirect table [virtio 2.7.5.3]', () => {
    writeDescriptor(ram, 0x3000, 0x4000, 8, NEXT, 2);
    writeDescriptor(ram, 0x3020, 0x5000, 9, WRITE, 0);
    driver.describe(0, 0x3000, 48, INDIRECT);
    driver.offer(0);
    expect(takeChain()).toMatchObject({ readableLength: 8, writableLength: 9 });
  });

  it('follows direct descriptors into an indirect table at the end', () => {
    writeDescriptor(ram, 0x3000, 0x5000, 9, WRITE, 0);
    driver.describe(0, 0x4000, 5, NEXT, 1);
    driver.describe(1, 0x3000, 16, INDIRECT);
    driver.offer(0);
    expect(takeChain()).toMatchObject({ readableLength: 5, writableLength: 9 });
  });
});

describe('a driver that breaks the rules', () => {
  it('loops', () => {
    driver.describe(0, 0x4000, 4, NEXT, 1);
    driver.describe(1, 0x4000, 4, NEXT, 0);
    driver.offer(0);
    expectFault(/loops/);
  });

  it('loops inside an indirect table that claims to be long', () => {
    writeDescriptor(ram, 0x3000, 0x4000, 8, NEXT, 0);
    driver.describe(0, 0x3000, 0xffff_fff0, INDIRECT);
    driver.offer(0);
    expectFault(/loops/);
  });

  it('names a head or a next descriptor outside the table', () => {
    driver.offer(SIZE);
    expectFault(/outside the table/);
    make();
    driver.describe(0, 0x4000, 4, NEXT, 0xffff);
    driver.offer(0);
    expectFault(/outside the table/);
  });

  it('moves the available index by more than the queue size [virtio 2.7.13.3]', () => {
    driver.setAvailableIndex(SIZE + 1);
    expectFault(/more than the queue size/);
    driver.setAvailableIndex(0xffff);
    expectFault(/more than the queue size/);
  });

  it('puts a readable buffer behind a writable one [virtio 2.7.4.2]', () => {
    driver.add([
      { address: 0x4000, length: 4, write: true },
      { address: 0x4000, length: 4, write: false },
    ]);
    expectFault(/readable buffer after/);
  });

  it('offers an empty buffer or one beyond every address', () => {
    driver.add([{ address: 0x4000, length: 0, write: false }]);
    expectFault(/zero-length/);
    make();
    driver.describe(0, 1n << 52n, 4, 0);
    driver.offer(0);
    expectFault(/out of range/);
  });

  it.each([
    ['with a next descriptor', INDIRECT | NEXT, 16, /with a next one/],
    ['of no length', INDIRECT, 0, /bad length/],
    ['of a length that is no multiple of 16', INDIRECT, 40, /bad length/],
  ])('names an indirect table %s [virtio 2.7.5.3.1]', (_what, flags, length, pattern) => {
    driver.describe(0, 0x3000, length, flags);
    driver.offer(0);
    expectFault(pattern);
  });

  it('nests indirect tables', () => {
    writeDescriptor(ram, 0x3000, 0x3000, 16, INDIRECT, 0);
    driver.describe(0, 0x3000, 16, INDIRECT);
    driver.offer(0);
    expectFault(/inside an indirect table/);
  });

  it('uses indirect descriptors without having negotiated them', () => {
    make({ eventIndex: false, indirect: false });
    driver.describe(0, 0x3000, 16, INDIRECT);
    driver.offer(0);
    expectFault(/not negotiated/);
  });

  it('places tables and rings where there is no RAM', () => {
    driver.describe(0, HOLE.start, 16, INDIRECT);
    driver.offer(0);
    expectFault(/not in RAM/);
    queue.driverArea = BigInt(HOLE.start);
    expectFault(/not in RAM/);
    queue.deviceArea = BigInt(HOLE.end - 4);
    expect(queue.give(0, 0)).toMatchObject({ kind: 'fault' });
  });

  it.each([
    ['a size of 0', 0, 0n],
    ['a size that is no power of two', 12, 0n],
    ['a size above the maximum', 32, 0n],
    ['a table that is not aligned', 8, 8n],
    ['a table beyond every address', 8, 1n << 60n],
  ])('sets up %s [virtio 2.7]', (_what, size, descriptorArea) => {
    const other = new Virtqueue(ram, 16);
    other.size = size;
    other.descriptorArea = descriptorArea;
    expect(other.enable()).toMatchObject({ kind: 'fault' });
    expect(other.enabled).toBe(false);
  });
});

describe('interrupts', () => {
  it('come for anything given, unless the driver sets the flag [virtio 2.7.7]', () => {
    expect(queue.decideInterrupt()).toBe(false);
    queue.give(0, 0);
    expect(queue.decideInterrupt()).toBe(true);
    expect(queue.decideInterrupt()).toBe(false);
    driver.availableFlags = 1;
    queue.give(0, 0);
    expect(queue.decideInterrupt()).toBe(false);
  });

  it('come when the used index passes used_event [virtio 2.7.10]', () => {
    make({ eventIndex: true, indirect: true });
    driver.availableFlags = 1; // Means nothing now.
    const decisions: boolean[] = [];
    driver.usedEvent = 2;
    for (let given = 0; given < 5; given += 1) {
      queue.give(0, 0);
      decisions.push(queue.decideInterrupt());
    }
    expect(decisions).toEqual([false, false, true, false, false]);
  });

  it('come once for a batch that passes used_event anywhere', () => {
    make({ eventIndex: true, indirect: true });
    driver.usedEvent = 1;
    for (let given = 0; given < 4; given += 1) queue.give(0, 0);
    expect(queue.decideInterrupt()).toBe(true);
    driver.usedEvent = 3; // Already passed.
    queue.give(0, 0);
    expect(queue.decideInterrupt()).toBe(false);
  });

  it('asks for the bell at the next entry when the ring is empty [virtio 2.7.10]', () => {
    make({ eventIndex: true, indirect: true });
    for (let round = 1; round <= 3; round += 1) {
      driver.add([{ address: 0x4000, length: 4, write: true }]);
      takeChain();
      expect(queue.take()).toBeUndefined();
      expect(driver.availableEvent).toBe(round);
    }
  });
});

describe('copying', () => {
  const segments = [
    { address: 0x4000, length: 3 },
    { address: 0x5000, length: 5 },
    { address: 0x6000, length: 2 },
  ];

  it('crosses descriptors at any place', () => {
    const bytes = Uint8Array.from({ length: 10 }, (_, index) => index + 1);
    expect(scatter(ram, segments, 0, bytes)).toBe(true);
    for (let start = 0; start <= 10; start += 1) {
      for (let length = 0; start + length <= 10; length += 1) {
        expect(gather(ram, segments, start, length)).toEqual(bytes.slice(start, start + length));
      }
    }
    expect(scatter(ram, segments, 7, Uint8Array.of(70, 71))).toBe(true);
    expect([ram.bytes[0x5004], ram.bytes[0x6000]]).toEqual([70, 71]);
  });

  it('refuses what is longer than the chain or not RAM', () => {
    expect(gather(ram, segments, 1, 10)).toBeUndefined();
    expect(scatter(ram, segments, 9, new Uint8Array(2))).toBe(false);
    const holed = [segments[0]!, { address: HOLE.start - 1, length: 4 }];
    expect(gather(ram, holed, 0, 7)).toBeUndefined();
    expect(scatter(ram, holed, 0, new Uint8Array(7))).toBe(false);
    const huge = Array.from({ length: 8 }, () => ({ address: HOLE.start, length: 0xffff_ffff }));
    expect(gather(ram, huge, 0, 8 * 0xffff_ffff)).toBeUndefined();
  });
});

describe('state', () => {
  it('is equal after load, in mid-ring', () => {
    make({ eventIndex: true, indirect: true });
    for (let index = 0; index < 3; index += 1) driver.add([{ address: 0x4000, length: 4, write: true }]);
    takeChain();
    takeChain();
    queue.give(0, 4);
    const device = { name: 'queue', reset() {}, save: queue.save.bind(queue), load: queue.load.bind(queue) };
    const saved = savedBytes(device);
    const copy = new Virtqueue(ram, 16);
    expect(loadBytes({ ...device, load: copy.load.bind(copy) }, saved)).toBe(0);
    expect(savedBytes({ ...device, save: copy.save.bind(copy) })).toEqual(saved);
    expect(copy.take()).toEqual(queue.take());
  });
});
