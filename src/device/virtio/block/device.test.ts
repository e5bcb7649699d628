import { beforeEach, describe, expect, it } from 'vitest';
import { loadBytes, savedBytes } from '../../fake-machine.ts';
import { Driver } from '../testing/driver.ts';
import { GuestRam } from '../testing/guest-ram.ts';
import { TestRandom } from '../testing/random.ts';
import { BlockDevice, OPERATIONS_MAX } from './device.ts';
import type { BlockRequest } from './operation-queue.ts';

const CAPACITY = 64 * 512;
const IN = 0;
const OUT = 1;
const FLUSH = 4;
const GET_ID = 8;
const DISCARD = 11;
const WRITE_ZEROES = 13;
const UNMAP = 1;
const NONE = new Uint8Array(0);

let ram: GuestRam;
let requests: BlockRequest[];
let block: BlockDevice;
let driver: Driver;

function make(options: { readOnly?: boolean; queueSize?: number; capacity?: number } = {}): void {
  ram = new GuestRam(0x80000);
  requests = [];
  block = new BlockDevice(
    {
      name: 'block',
      capacity: options.capacity ?? CAPACITY,
      readOnly: options.readOnly ?? false,
      serial: 'disk-0',
      onRequest: (request) => requests.push(request),
    },
    ram,
  );
  driver = new Driver(ram, block, options.queueSize ?? 64);
}

beforeEach(() => {
  make();
  driver.start();
});

function header(type: number, sector: number | bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

/** As toEqual, without its price for large arrays. */
const same = (one: Uint8Array, other: Uint8Array) => Buffer.compare(one, other) === 0;
const data = (sectors: number, fill: number) => new Uint8Array(512 * sectors).fill(fill);

interface Sent {
  readonly head: number;
  /** Where a read's data goes. */
  readonly buffer: number;
  readonly status: () => number;
}

function send(buffers: readonly (Uint8Array | number)[]): Sent {
  const { head, addresses } = driver.add(0, buffers);
  const statusAt = addresses.at(-1)!;
  ram.bytes[statusAt] = 0xee;
  block.ring(0);
  return { head, buffer: addresses[1]!, status: () => ram.bytes[statusAt]! };
}

const read = (sector: number, sectors: number) => send([header(IN, sector), 512 * sectors, 1]);
const write = (sector: number, bytes: Uint8Array) => send([header(OUT, sector), bytes, 1]);
const flush = () => send([header(FLUSH, 0), 1]);
const clear = (type: number, segments: Uint8Array) => send([header(type, 0), segments, 1]);
function segment(sector: number | bigint, sectors: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
}
const used = () => driver.queues[0]!.takeUsed();

describe('configuration [virtio 5.2.4]', () => {
  it('gives the capacity in sectors and the block size', () => {
    const view = new DataView(block.configuration().buffer);
    expect(view.getBigUint64(0, true)).toBe(64n);
    expect(view.getUint32(20, true)).toBe(512);
  });

  it('gives what storage likes, and that one request clears one stretch of at most 128 MiB', () => {
    const view = new DataView(block.configuration().buffer);
    expect(view.byteLength).toBe(60);
    expect([view.getUint8(24), view.getUint16(26, true)]).toEqual([3, 8]);
    expect([36, 40, 44].map((at) => view.getUint32(at, true))).toEqual([2 ** 18, 1, 8]);
    expect([48, 52].map((at) => view.getUint32(at, true))).toEqual([2 ** 18, 1]);
    expect(view.getUint8(56)).toBe(1);
    make({ readOnly: true });
    expect(new Uint8Array(block.configuration().slice(36))).toEqual(new Uint8Array(24));
    expect(block.offeredFeatures & ((1n << 13n) | (1n << 14n))).toBe(0n);
  });

  it('offers RO for a disk that may not be written, and refuses writes', () => {
    make({ readOnly: true });
    driver.start();
    expect(block.offeredFeatures & 32n).toBe(32n);
    expect(write(0, data(1, 1)).status()).toBe(1);
    expect(requests).toEqual([]);
  });
});

describe('requests [virtio 5.2.6]', () => {
  it('read: data enters guest memory at the completion, not before', () => {
    const sent = read(3, 2);
    expect(requests).toEqual([{ request: 1, operation: 'read', offset: 1536, length: 1024, data: NONE }]);
    expect(sent.status()).toBe(0xee);
    expect(used()).toEqual([]);
    expect(block.complete(1, 'ok', data(2, 5))).toBe(true);
    expect(driver.at(sent.buffer, 1024)).toEqual(data(2, 5));
    expect(sent.status()).toBe(0);
    expect(used()).toEqual([{ head: sent.head, written: 1025 }]);
    expect(driver.interrupts).toEqual([0]);
  });

  it('write: data leaves guest memory at the bell, not later', () => {
    const sent = write(1, data(1, 5));
    ram.bytes.fill(9, sent.buffer, sent.buffer + 512);
    expect(requests[0]).toEqual({
      request: 1,
      operation: 'write',
      offset: 512,
      length: 512,
      data: data(1, 5),
    });
    expect(block.pendingRequests()[0]!.data).toEqual(data(1, 5));
    block.complete(1, 'ok', NONE);
    expect(sent.status()).toBe(0);
    expect(used()).toEqual([{ head: sent.head, written: 1 }]);
  });

  it('accepts header, data and status cut at any place [virtio 2.7.4]', () => {
    const bytes = new Uint8Array([...header(OUT, 2), ...data(1, 8)]);
    send([bytes.slice(0, 7), bytes.slice(7, 300), bytes.slice(300), 1]);
    expect(requests[0]).toMatchObject({ operation: 'write', offset: 1024, data: data(1, 8) });
    const head = header(IN, 0);
    const { addresses } = driver.send(0, [head.slice(0, 8), head.slice(8), 100, 413]);
    block.complete(2, 'ok', data(1, 6));
    expect(driver.at(addresses[2]!, 100)).toEqual(data(1, 6).slice(0, 100));
    expect(driver.at(addresses[3]!, 413)).toEqual(Uint8Array.of(...data(1, 6).slice(100), 0));
  });

  it('GET_ID: the serial, cut to the buffer', () => {
    const sent = send([header(GET_ID, 0), 20, 1]);
    expect(new TextDecoder().decode(driver.at(sent.buffer, 6))).toBe('disk-0');
    expect(sent.status()).toBe(0);
    expect(send([header(GET_ID, 0), 3, 1]).status()).toBe(0);
    expect(used().map((element) => element.written)).toEqual([21, 4]);
  });

  it.each([
    ['reads past the end', () => read(63, 2)],
    ['reads at the end of the address space', () => send([header(IN, 2n ** 64n - 1n), 512, 1])],
    ['reads a part of a sector', () => send([header(IN, 0), 100, 1])],
    ['writes past the end', () => write(64, data(1, 1))],
    ['writes a part of a sector', () => write(0, new Uint8Array(513))],
  ])('IOERR when the driver %s', (_what, act) => {
    expect(act().status()).toBe(1);
    expect(used()).toHaveLength(1);
    expect(requests).toEqual([]);
  });

  it('UNSUPP for a type it does not know', () => {
    expect(send([header(12, 0), 512, 1]).status()).toBe(2);
    expect(used()).toHaveLength(1);
  });

  it.each([
    ['a discard', DISCARD, 0, 'discard'],
    ['zeroes that keep their room', WRITE_ZEROES, 0, 'write-zeroes'],
    ['zeroes that need not', WRITE_ZEROES, UNMAP, 'discard'],
  ])('%s is one operation without data', (_what, type, flags, operation) => {
    const sent = clear(type, segment(3, 5, flags));
    expect(requests).toEqual([{ request: 1, operation, offset: 1536, length: 2560, data: NONE }]);
    expect(sent.status()).toBe(0xee);
    block.complete(1, 'ok', NONE);
    expect(sent.status()).toBe(0);
    expect(used()).toEqual([{ head: sent.head, written: 1 }]);
  });

  it('clearing nothing is done at once', () => {
    expect(clear(DISCARD, segment(0, 0, 0)).status()).toBe(0);
    expect(requests).toEqual([]);
  });

  it.each([
    ['past the end', 1, segment(60, 5, 0)],
    ['at the end of the address space', 1, segment(2n ** 64n - 1n, 1, 0)],
    ['more than a request may', 1, segment(0, 0xffff_ffff, 0)],
    ['two stretches', 1, Uint8Array.of(...segment(0, 1, 0), ...segment(2, 1, 0))],
    ['half a stretch', 1, segment(0, 1, 0).slice(0, 12)],
    ['none', 1, new Uint8Array(1)],
    ['with a flag that means nothing', 2, segment(0, 1, 2)],
  ])('a driver that clears %s gets status %i', (_what, status, bytes) => {
    for (const type of [DISCARD, WRITE_ZEROES]) expect(clear(type, bytes).status()).toBe(status);
    expect(requests).toEqual([]);
    expect(driver.needsReset).toBe(false);
  });

  it('a discard has no flags [virtio 5.2.6.2]', () => {
    expect(clear(DISCARD, segment(0, 1, UNMAP)).status()).toBe(2);
    expect(requests).toEqual([]);
  });

  it('clearing a disk that may not be written, or without having said so, is not supported', () => {
    make({ readOnly: true });
    driver.start();
    expect(clear(DISCARD, segment(0, 1, 0)).status()).toBe(2);
    make();
    driver.start(block.offeredFeatures & ~((1n << 13n) | (1n << 14n)));
    expect(clear(DISCARD, segment(0, 1, 0)).status()).toBe(2);
    expect(clear(WRITE_ZEROES, segment(0, 1, 0)).status()).toBe(2);
    expect(requests).toEqual([]);
  });

  it('needs a reset when there is no way to answer', () => {
    driver.send(0, [header(IN, 0)]);
    expect(driver.needsReset).toBe(true);
    driver.start();
    driver.send(0, [header(IN, 0).slice(0, 15), 513]);
    expect(driver.needsReset).toBe(true);
  });

  it('needs a reset when a buffer is not RAM, at the completion of a read', () => {
    driver.ram.write(0x40000, header(IN, 0));
    driver.queues[0]!.add([
      { address: 0x40000, length: 16, write: false },
      { address: 0x7fff0, length: 513, write: true },
    ]);
    block.ring(0);
    expect(driver.needsReset).toBe(false);
    block.complete(1, 'ok', data(1, 1));
    expect(driver.needsReset).toBe(true);
  });
});

describe('completions', () => {
  it('of an error give IOERR and leave the buffer alone', () => {
    const sent = read(0, 1);
    block.complete(1, 'error', NONE);
    expect(sent.status()).toBe(1);
    expect(driver.at(sent.buffer, 512)).toEqual(data(1, 0));
  });

  it('of a read with the wrong number of bytes are errors', () => {
    const sent = read(0, 1);
    block.complete(1, 'ok', data(2, 1));
    expect(sent.status()).toBe(1);
  });

  it('of requests that are not under way change nothing', () => {
    read(0, 1);
    const before = savedBytes(block);
    expect([0, 2, -1, Number.NaN].map((request) => block.complete(request, 'ok', NONE))).toEqual([
      false,
      false,
      false,
      false,
    ]);
    expect(savedBytes(block)).toEqual(before);
    block.complete(1, 'ok', data(1, 1));
    expect(block.complete(1, 'ok', data(1, 1))).toBe(false);
  });

  it('come in any order', () => {
    const sent = [read(0, 1), read(1, 1), write(2, data(1, 1))];
    for (const request of [3, 1, 2]) block.complete(request, 'ok', request === 3 ? NONE : data(1, request));
    expect(used().map((element) => element.head)).toEqual([sent[2]!.head, sent[0]!.head, sent[1]!.head]);
  });
});

describe('order [FT 3.4]', () => {
  const issued = () => requests.map(({ operation, offset }) => `${operation} ${offset / 512}`);

  it('holds back what overlaps a write under way', () => {
    write(4, data(4, 1));
    read(7, 2);
    write(6, data(1, 2));
    read(8, 1);
    expect(issued()).toEqual(['write 4', 'read 8']);
    expect(block.pendingRequests().map((pending) => pending.request)).toEqual([1, 2]);
    block.complete(1, 'ok', NONE);
    expect(issued()).toEqual(['write 4', 'read 8', 'read 7', 'write 6']);
  });

  it('holds back a write over a read under way, but not a read', () => {
    read(0, 4);
    read(1, 1);
    write(3, data(1, 1));
    expect(issued()).toEqual(['read 0', 'read 1']);
    block.complete(1, 'ok', data(4, 0));
    expect(issued()).toEqual(['read 0', 'read 1', 'write 3']);
  });

  it('keeps the order of arrival among what is held back', () => {
    write(0, data(1, 1));
    write(0, data(2, 2));
    write(1, data(1, 3));
    expect(issued()).toEqual(['write 0']);
    block.complete(1, 'ok', NONE);
    expect(requests.map((request) => request.data[0])).toEqual([1, 2]);
    block.complete(2, 'ok', NONE);
    expect(requests.map((request) => request.data[0])).toEqual([1, 2, 3]);
  });

  it('issues a flush after all earlier writes, and holds back nothing behind it', () => {
    write(0, data(1, 1));
    write(5, data(1, 1));
    const sent = flush();
    write(9, data(1, 1));
    read(20, 1);
    expect(issued()).toEqual(['write 0', 'write 5', 'write 9', 'read 20']);
    block.complete(2, 'ok', NONE);
    block.complete(1, 'ok', NONE);
    expect(issued().at(-1)).toBe('flush 0');
    expect(sent.status()).toBe(0xee);
    block.complete(5, 'ok', NONE);
    expect(sent.status()).toBe(0);
  });

  it('clears in order: with what overlaps, and before a flush', () => {
    write(4, data(4, 1));
    clear(DISCARD, segment(6, 8, 0));
    read(12, 1);
    clear(WRITE_ZEROES, segment(20, 4, 0));
    flush();
    expect(issued()).toEqual(['write 4', 'write-zeroes 20']);
    block.complete(2, 'ok', NONE);
    block.complete(1, 'ok', NONE);
    expect(issued().slice(2)).toEqual(['discard 6']);
    block.complete(3, 'ok', NONE);
    expect(issued().slice(3)).toEqual(['read 12', 'flush 0']);
  });

  it('flushes each write before its answer when the driver knows no flush [virtio 5.2.6.2]', () => {
    make();
    driver.start(block.offeredFeatures & ~(1n << 9n));
    const sent = write(0, data(1, 1));
    block.complete(1, 'ok', NONE);
    expect(sent.status()).toBe(0xee);
    expect(issued()).toEqual(['write 0', 'flush 0']);
    block.complete(2, 'ok', NONE);
    expect(sent.status()).toBe(0);
  });
});

describe('bounds', () => {
  it('does not count what is cleared as memory', () => {
    for (let index = 0; index < 8; index += 1) clear(DISCARD, segment(index, 64 - index, 0));
    expect(block.pendingRequests()).toHaveLength(1);
    write(0, data(1, 1));
    expect(driver.queues[0]!.availableIndex).toBe(9);
    for (let request = 1; request <= 9; request += 1) expect(block.complete(request, 'ok', NONE)).toBe(true);
  });

  it('leaves all but a few of the longest clears in the ring: storage that writes zeroes has to come to an end', () => {
    const sectors = 128 * 2 ** 11;
    make({ capacity: 8 * 512 * sectors });
    driver.start();
    for (let index = 0; index < 8; index += 1) clear(DISCARD, segment(index * sectors, sectors, 0));
    expect(requests).toHaveLength(4);
    for (let request = 1; request <= 8; request += 1) expect(block.complete(request, 'ok', NONE)).toBe(true);
    expect(requests).toHaveLength(8);
  });

  it('leaves requests in the ring beyond a number under way, and takes them up later', () => {
    make({ queueSize: 256 });
    driver.start();
    // Three descriptors each: the heads go round the table, so answers free them in between.
    for (let index = 0; index < OPERATIONS_MAX; index += 1) {
      driver.ram.write(0x40000, header(IN, index % 64));
      driver.queues[0]!.describe(0, 0x40000, 16, 1, 1);
      driver.queues[0]!.describe(1, 0x41000, 513, 2);
      driver.queues[0]!.offer(0);
      block.ring(0);
    }
    driver.queues[0]!.offer(0);
    driver.queues[0]!.offer(0);
    block.ring(0);
    expect(requests).toHaveLength(OPERATIONS_MAX);
    block.complete(1, 'ok', data(1, 1));
    expect(requests).toHaveLength(OPERATIONS_MAX + 1);
    for (let request = 2; request <= OPERATIONS_MAX + 2; request += 1) {
      expect(block.complete(request, 'ok', data(1, 1))).toBe(true);
    }
    expect(driver.needsReset).toBe(false);
    expect(used()).toHaveLength(OPERATIONS_MAX + 2);
  });
});

describe('a reset by the driver', () => {
  it('drops what is held back, and keeps what has left until it is complete', () => {
    write(0, data(1, 1));
    write(0, data(1, 2));
    driver.start();
    expect(block.pendingRequests()).toHaveLength(1);
    const sent = write(0, data(1, 3));
    expect(requests).toHaveLength(1);
    const memory = ram.bytes.slice();
    expect(block.complete(1, 'ok', NONE)).toBe(true);
    expect(same(ram.bytes, memory)).toBe(true);
    expect(requests.map((request) => [request.request, request.data[0]])).toEqual([
      [1, 1],
      [2, 3],
    ]);
    block.complete(2, 'ok', NONE);
    expect(sent.status()).toBe(0);
  });
});

describe('state', () => {
  it('is equal after load in mid-request, and so is the future', () => {
    write(0, data(2, 1));
    write(1, data(1, 2));
    read(8, 2);
    clear(DISCARD, segment(20, 2, 0));
    clear(WRITE_ZEROES, segment(21, 2, 0));
    flush();
    const saved = savedBytes(block);
    const later: BlockRequest[] = [];
    const copyRam = new GuestRam(ram.bytes.length);
    copyRam.bytes.set(ram.bytes);
    const copy = new BlockDevice(
      {
        name: 'block',
        capacity: CAPACITY,
        readOnly: false,
        serial: 'disk-0',
        onRequest: (request) => later.push(request),
      },
      copyRam,
    );
    expect(loadBytes(copy, saved)).toBe(0);
    expect(savedBytes(copy)).toEqual(saved);
    expect(later).toEqual([]);
    expect(copy.pendingRequests()).toEqual(block.pendingRequests());
    requests.length = 0;
    for (const [request, bytes] of [
      [2, data(2, 9)],
      [1, NONE],
      [3, NONE],
      [4, NONE],
      [5, NONE],
      [6, NONE],
    ] as const) {
      expect(copy.complete(request, 'ok', bytes)).toBe(block.complete(request, 'ok', bytes));
      expect(savedBytes(copy)).toEqual(savedBytes(block));
    }
    expect(later).toEqual(requests);
    expect(later.map((request) => request.operation)).toEqual(['write', 'write-zeroes', 'flush']);
    expect(same(copyRam.bytes, ram.bytes)).toBe(true);
  });

  it('reads as a disk does, whatever the order of completions', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      make();
      driver.start();
      const random = new TestRandom(seed);
      const disk = new Uint8Array(CAPACITY);
      const expected = new Uint8Array(CAPACITY);
      const checks: (() => void)[] = [];
      for (let step = 0; step < 60; step += 1) {
        const sectors = 1 + random.below(4);
        const sector = random.below(64 - sectors);
        if (driver.queues[0]!.availableIndex * 3 + 3 <= 64 * 3 && random.below(3) > 0 && step < 20) {
          if (random.below(2) === 0) {
            const bytes = data(sectors, 1 + random.below(255));
            expected.set(bytes, sector * 512);
            write(sector, bytes);
          } else {
            const now = expected.slice(sector * 512, (sector + sectors) * 512);
            const { buffer } = read(sector, sectors);
            checks.push(() => expect(same(driver.at(buffer, now.length), now)).toBe(true));
          }
        }
        const pending = block.pendingRequests();
        if (pending.length === 0 || (random.below(2) === 0 && step < 20)) continue;
        const request = random.pick(pending);
        // The host applies an operation at any moment between issue and completion; here at the latest.
        if (request.operation === 'write') disk.set(request.data, request.offset);
        const bytes = disk.slice(request.offset, request.offset + request.length);
        block.complete(request.request, 'ok', request.operation === 'read' ? bytes : NONE);
      }
      expect(block.pendingRequests()).toEqual([]);
      expect(same(disk, expected)).toBe(true);
      for (const check of checks) check();
    }
  });
});
