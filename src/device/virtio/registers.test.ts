import { beforeEach, describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../base/bytes.ts';
import { NetDevice } from './net/device.ts';
import { DEVICE_OFFSET, ISR_OFFSET, NOTIFY_OFFSET, VirtioRegisters } from './registers.ts';
import { DriverQueue } from './testing/driver.ts';
import { GuestRam } from './testing/guest-ram.ts';
import { TestRandom } from './testing/random.ts';

const MAC = Uint8Array.of(2, 3, 4, 5, 6, 7);

let ram: GuestRam;
let net: NetDevice;
let registers: VirtioRegisters;
let messages: boolean;
let log: string[];
let frames: Uint8Array[];

const read = (offset: number, size: number) => registers.readMmio(offset, size);
const write = (offset: number, size: number, value: number | bigint) =>
  registers.writeMmio(offset, size, BigInt(value));

beforeEach(() => {
  ram = new GuestRam(0x40000);
  frames = [];
  log = [];
  messages = false;
  net = new NetDevice({ name: 'net', mac: MAC, onPacket: ({ frame }) => frames.push(frame) }, ram);
  registers = new VirtioRegisters(net, {
    get messagesEnabled() {
      return messages;
    },
    vectorCount: 3,
    message: (vector) => log.push(`message ${vector}`),
    line: (level) => log.push(`line ${level}`),
  });
});

/** Sets the device up by its registers alone, as a driver does [virtio 3.1.1, 4.1.5.1.3]. */
function start(): DriverQueue[] {
  write(20, 1, 0);
  write(20, 1, 3);
  const offered: bigint[] = [];
  for (const select of [0, 1]) {
    write(0, 4, select);
    offered.push(read(4, 4));
    write(8, 4, select);
    write(12, 4, offered[select]!);
  }
  write(20, 1, 11);
  expect(read(20, 1)).toBe(11n);
  let base = 0x1000;
  const queues = [0, 1].map((index) => {
    write(22, 2, index);
    expect(read(24, 2)).toBe(index === 0 ? 1024n : 256n);
    write(24, 2, 16);
    const queue = new DriverQueue(ram, base, 16);
    base = (queue.end + 15) & ~15;
    write(32, 4, queue.descriptors);
    write(36, 4, 0);
    write(40, 8, queue.available);
    write(48, 8, queue.used);
    write(26, 2, index + 1);
    write(28, 2, 1);
    expect(read(28, 2)).toBe(1n);
    return queue;
  });
  write(20, 1, 15);
  return queues;
}

describe('common configuration [virtio 4.1.4.3]', () => {
  it('offers VERSION_1 in the upper half and nothing beyond', () => {
    write(0, 4, 1);
    expect(read(4, 4)).toBe(1n);
    write(0, 4, 2);
    expect(read(4, 4)).toBe(0n);
  });

  it('says how many queues there are, and size 0 for one that is not', () => {
    expect(read(18, 2)).toBe(2n);
    write(22, 2, 2);
    expect(read(24, 2)).toBe(0n);
    write(24, 2, 8);
    write(28, 2, 1);
    expect(read(28, 2)).toBe(0n);
  });

  it('fixes size and place of a queue once it is enabled', () => {
    start();
    write(22, 2, 0);
    const before = read(32, 8);
    write(24, 2, 4);
    write(32, 8, 0x9000);
    expect([read(24, 2), read(32, 8)]).toEqual([16n, before]);
  });

  it('takes 64-bit fields whole and in halves', () => {
    write(32, 4, 0x1111_1110);
    write(36, 4, 0x22);
    expect(read(32, 8)).toBe(0x22_1111_1110n);
    write(32, 8, 0x33_4444_4440n);
    expect([read(32, 4), read(36, 4)]).toEqual([0x4444_4440n, 0x33n]);
  });

  it('gives no vector that the function does not have [virtio 4.1.5.1.2]', () => {
    write(16, 2, 2);
    expect(read(16, 2)).toBe(2n);
    write(16, 2, 3);
    expect(read(16, 2)).toBe(0xffffn);
  });
});

describe('bells and interrupts', () => {
  it('carry a frame from the guest, by line', () => {
    const queues = start();
    ram.bytes.fill(5, 0x8000 + 12, 0x8000 + 72);
    queues[1]!.add([{ address: 0x8000, length: 72, write: false }]);
    write(NOTIFY_OFFSET + 4, 2, 1);
    expect(frames).toEqual([new Uint8Array(60).fill(5)]);
    expect(log).toEqual(['line true']);
    expect(read(ISR_OFFSET, 1)).toBe(1n);
    expect(read(ISR_OFFSET, 1)).toBe(0n);
    expect(log).toEqual(['line true', 'line false']);
  });

  it('go to the vector of the queue when messages are on, and leave line and ISR alone', () => {
    messages = true;
    const queues = start();
    queues[0]!.add([{ address: 0x8000, length: 1526, write: true }]);
    net.receive({ frame: new Uint8Array(60) });
    expect(log).toEqual(['message 1']);
    write(16, 2, 0);
    net.setLink(false);
    expect(log).toEqual(['message 1', 'message 0']);
    expect(read(ISR_OFFSET, 1)).toBe(0n);
  });

  it('are silent without a vector', () => {
    messages = true;
    start();
    net.setLink(false);
    expect(log).toEqual([]);
  });

  it('report a change of configuration in the second bit', () => {
    start();
    net.setLink(false);
    expect(read(21, 1)).toBe(1n);
    expect(read(ISR_OFFSET, 1)).toBe(2n);
  });
});

describe('device configuration', () => {
  it('can be read by bytes and words', () => {
    expect(read(DEVICE_OFFSET, 4)).toBe(0x05040302n);
    expect(read(DEVICE_OFFSET + 5, 1)).toBe(7n);
    expect(read(DEVICE_OFFSET + 0x800, 8)).toBe(0n);
  });
});

describe('reset', () => {
  it('by status 0 forgets selects, vectors and interrupts', () => {
    const fresh = saved();
    start();
    net.setLink(false);
    net.setLink(true);
    write(20, 1, 0);
    expect(saved()).toEqual(fresh);
    expect(log.at(-1)).toBe('line false');
  });
});

it('has equal registers after load', () => {
  start();
  net.setLink(false);
  const bytes = saved();
  write(20, 1, 0);
  const reader = new ByteReader(bytes);
  net.load(reader);
  registers.load(reader);
  expect(reader.remaining).toBe(0);
  expect(saved()).toEqual(bytes);
});

it('survives random accesses of any kind', () => {
  for (let seed = 0; seed < 500; seed += 1) {
    const random = new TestRandom(seed);
    for (let step = 0; step < 100; step += 1) {
      const offset = random.below(4) * 0x1000 + random.below(64);
      const size = random.pick([1, 2, 4, 8]);
      const value = random.below(2) ? random.below(16) : random.u32();
      if (random.below(3) === 0) {
        expect(read(offset, size) >> BigInt(8 * size)).toBe(0n);
      } else {
        write(offset, size, BigInt.asUintN(8 * size, BigInt(value)));
      }
    }
    saved();
  }
});

function saved(): Uint8Array {
  const writer = new ByteWriter();
  net.save(writer);
  registers.save(writer);
  return writer.finish();
}
