import { beforeEach, describe, expect, it } from 'vitest';
import { FakeBus, loadBytes, savedBytes } from '../fake-machine.ts';
import { BlockDevice } from './block/device.ts';
import type { BlockRequest } from './block/operation-queue.ts';
import { ConsoleDevice } from './console/device.ts';
import { NetDevice } from './net/device.ts';
import { RngDevice } from './rng/device.ts';
import { DriverQueue } from './testing/driver.ts';
import { GuestRam } from './testing/guest-ram.ts';
import { TestRandom } from './testing/random.ts';
import { VirtioPci } from './transport.ts';

const BAR0 = 0xe0000000;
const BAR1 = 0xe0010000;

interface Capability {
  readonly at: number;
  readonly id: number;
  readonly type: number;
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
}

let ram: GuestRam;
let bus: FakeBus;
let requests: BlockRequest[];
let block: BlockDevice;
let fn: VirtioPci;
let log: string[];

function plug(made: VirtioPci): VirtioPci {
  made.plug({
    bus,
    line: { set: (level) => log.push(`line ${level}`) },
    messages: { send: (address, data) => log.push(`message ${address.toString(16)} ${data}`) },
    irq: 11,
  });
  return made;
}

function newBlock(): BlockDevice {
  const onRequest = (request: BlockRequest) => requests.push(request);
  return new BlockDevice({ name: 'disk', capacity: 1 << 20, readOnly: false, serial: 'x', onRequest }, ram);
}

beforeEach(() => {
  ram = new GuestRam(0x20000);
  bus = new FakeBus();
  requests = [];
  log = [];
  block = newBlock();
  fn = plug(new VirtioPci(block));
});

function capabilities(of: VirtioPci): Capability[] {
  const found: Capability[] = [];
  for (let at = of.readConfiguration(0x34, 1); at !== 0; at = of.readConfiguration(at + 1, 1)) {
    found.push({
      at,
      id: of.readConfiguration(at, 1),
      type: of.readConfiguration(at + 3, 1),
      bar: of.readConfiguration(at + 4, 1),
      offset: of.readConfiguration(at + 8, 4),
      length: of.readConfiguration(at + 12, 4),
    });
  }
  return found;
}

const structure = (type: number) => capabilities(fn).find((found) => found.id === 9 && found.type === type)!;

function assignBars(): void {
  fn.writeConfiguration(0x10, 4, BAR0);
  fn.writeConfiguration(0x14, 4, BAR1);
  fn.writeConfiguration(4, 2, 6);
}

/** A driver that knows nothing but configuration space, as a kernel's does. */
function start(vector: number): DriverQueue {
  assignBars();
  const common = BAR0 + structure(1).offset;
  bus.write(common + 20, 0, 1);
  bus.write(common + 20, 3, 1);
  for (const select of [0, 1]) {
    bus.write(common, select);
    bus.write(common + 8, select);
    bus.write(common + 12, bus.read(common + 4));
  }
  bus.write(common + 20, 11, 1);
  const queue = new DriverQueue(ram, 0x1000, 16);
  bus.write(common + 22, 0, 2);
  bus.write(common + 24, 16, 2);
  bus.write(common + 26, vector, 2);
  bus.write(common + 32, queue.descriptors);
  bus.write(common + 40, queue.available);
  bus.write(common + 48, queue.used);
  bus.write(common + 28, 1, 2);
  bus.write(common + 20, 15, 1);
  expect(bus.read(common + 20, 1)).toBe(15);
  return queue;
}

function sendRead(queue: DriverQueue): void {
  queue.add([
    { address: 0x8000, length: 16, write: false },
    { address: 0x9000, length: 513, write: true },
  ]);
  const notify = structure(2);
  const multiplier = fn.readConfiguration(notify.at + 16, 4);
  const common = BAR0 + structure(1).offset;
  bus.write(BAR0 + notify.offset + multiplier * bus.read(common + 30, 2), 0, 2);
}

describe('identity [virtio 4.1.2]', () => {
  it.each([
    ['net', () => new NetDevice({ name: 'n', mac: new Uint8Array(6), onPacket: () => {} }, ram), 0x1041],
    ['block', () => newBlock(), 0x1042],
    ['console', () => new ConsoleDevice({ name: 'c', onBytes: () => {} }, ram), 0x1043],
    ['entropy', () => new RngDevice({ name: 'r', entropy: { next: (n) => new Uint8Array(n) } }, ram), 0x1044],
  ])('of %s', (_what, make, id) => {
    const made = plug(new VirtioPci(make()));
    expect(made.readConfiguration(0, 4)).toBe(id * 65_536 + 0x1af4);
    expect(made.readConfiguration(8, 1)).toBeGreaterThanOrEqual(1);
    const types = capabilities(made)
      .filter((found) => found.id === 9)
      .map((found) => found.type);
    // No device-specific structure for a device that has no configuration [virtio 4.1.4.6].
    expect(types.sort()).toEqual(id === 0x1044 ? [1, 2, 3, 5] : [1, 2, 3, 4, 5]);
  });
});

describe('structures [virtio 4.1.4]', () => {
  it('lie apart in the BAR, and large enough', () => {
    const common = structure(1);
    expect(common.length).toBeGreaterThanOrEqual(56);
    const placed = [1, 2, 3, 4].map(structure).sort((one, other) => one.offset - other.offset);
    for (let index = 1; index < placed.length; index += 1) {
      expect(placed[index]!.offset).toBeGreaterThanOrEqual(
        placed[index - 1]!.offset + placed[index - 1]!.length,
      );
    }
    expect(placed.at(-1)!.offset + placed.at(-1)!.length).toBeLessThanOrEqual(0x4000);
  });
});

describe('a driver', () => {
  it('reads a disk, told by line', () => {
    const queue = start(0xffff);
    sendRead(queue);
    expect(requests).toHaveLength(1);
    log.length = 0;
    block.complete(1, 'ok', new Uint8Array(512).fill(3));
    expect(ram.bytes[0x9000]).toBe(3);
    expect(log).toEqual(['line true']);
    expect(bus.read(BAR0 + structure(3).offset, 1)).toBe(1);
    expect(log.at(-1)).toBe('line false');
  });

  it('reads a disk, told by message', () => {
    const msix = capabilities(fn).find((found) => found.id === 0x11)!;
    assignBars();
    fn.writeConfiguration(msix.at + 2, 2, 0x8000);
    bus.write(BAR1 + 16, 0xfee00000);
    bus.write(BAR1 + 16 + 8, 0x41);
    bus.write(BAR1 + 16 + 12, 0);
    const queue = start(1);
    sendRead(queue);
    log.length = 0;
    block.complete(1, 'ok', new Uint8Array(512));
    expect(log).toEqual(['message fee00000 65']);
  });

  it('has the same future after save and load in mid-request', () => {
    const queue = start(0xffff);
    sendRead(queue);
    const saved = savedBytes(fn);
    const copyBlock = newBlock();
    const copy = plug(new VirtioPci(copyBlock));
    expect(loadBytes(copy, saved)).toBe(0);
    expect(savedBytes(copy)).toEqual(saved);
    expect(copyBlock.complete(1, 'ok', new Uint8Array(512).fill(9))).toBe(true);
    expect(ram.bytes[0x9000]).toBe(9);
    expect(queue.takeUsed()).toEqual([{ head: 0, written: 513 }]);
  });

  it('finds all as new after a reset of the machine', () => {
    const fresh = savedBytes(fn);
    start(0);
    fn.reset();
    expect(savedBytes(fn)).toEqual(fresh);
    expect(log.at(-1)).toBe('line false');
  });
});

describe('the access capability [virtio 4.1.4.9]', () => {
  function point(offset: number, length: number, bar = 0): number {
    const { at } = structure(5);
    fn.writeConfiguration(at + 4, 1, bar);
    fn.writeConfiguration(at + 8, 4, offset);
    fn.writeConfiguration(at + 12, 4, length);
    return at + 16;
  }

  it('reaches the registers without a BAR', () => {
    const data = point(structure(1).offset + 20, 1);
    fn.writeConfiguration(data, 1, 1);
    expect(fn.readConfiguration(data, 1)).toBe(1);
    expect(block.status).toBe(1);
    expect(fn.readConfiguration(point(structure(4).offset, 4), 4)).toBe((1 << 20) / 512);
  });

  it('does nothing for a bad window', () => {
    for (const [offset, length, bar] of [
      [0x4000, 4, 0],
      [20, 3, 0],
      [21, 2, 0],
      [20, 1, 1],
      [0xffff_fffc, 4, 0],
    ] as const) {
      const data = point(offset, length, bar);
      fn.writeConfiguration(data, 4, 0xffff_ffff);
      expect(fn.readConfiguration(data, 4)).toBe(0);
    }
    expect(block.status).toBe(0);
  });

  it('survives random configuration accesses', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const random = new TestRandom(seed);
      for (let step = 0; step < 100; step += 1) {
        const size = random.pick([1, 2, 4]);
        const offset = random.below(256 / size) * size;
        if (random.below(2)) fn.writeConfiguration(offset, size, random.u32() >>> (32 - 8 * size));
        else expect(fn.readConfiguration(offset, size)).toBeLessThan(2 ** (8 * size));
      }
      savedBytes(fn);
    }
  });
});
