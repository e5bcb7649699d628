import { beforeEach, describe, expect, it, vi } from 'vitest';
import { offloadHeader, type Packet } from '../../../base/packet/offload.ts';
import { wireFrames } from '../../../base/packet/segmentation.ts';
import { loadBytes, savedBytes } from '../../fake-machine.ts';
import { Driver, INDIRECT, NEXT, WRITE, writeDescriptor } from '../testing/driver.ts';
import { GuestRam } from '../testing/guest-ram.ts';
import { NetDevice, WAITING_FRAMES_MAX } from './device.ts';
import { NET_FEATURE } from './features.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
const RECEIVE = 0;
const TRANSMIT = 1;

let frames: Uint8Array[];
let packets: Packet[];
let ram: GuestRam;
let net: NetDevice;
let driver: Driver;

function make(mtu?: number): void {
  ram = new GuestRam(0x40000);
  frames = [];
  packets = [];
  const onPacket = (packet: Packet) => {
    frames.push(packet.frame);
    packets.push(packet);
  };
  const options = { name: 'net', mac: MAC, onPacket };
  net = new NetDevice(mtu === undefined ? options : { ...options, mtu }, ram);
  driver = new Driver(ram, net);
}

beforeEach(() => {
  make();
  driver.start();
});

function restart(features: bigint): void {
  net.writeStatus(0);
  driver = new Driver(ram, net);
  driver.start(features);
}

const frame = (length: number, fill = 7) => new Uint8Array(length).fill(fill);

describe('configuration [virtio 5.1.4]', () => {
  it('gives MAC, link and, when configured, MTU', () => {
    expect([...net.configuration()]).toEqual([...MAC, 1, 0, 1, 0, 0, 0]);
    expect(net.offeredFeatures & (1n << 3n)).toBe(0n);
    make(9000);
    expect([...net.configuration().slice(10)]).toEqual([9000 & 0xff, 9000 >> 8]);
    expect(net.offeredFeatures & (1n << 3n)).not.toBe(0n);
  });

  it('tells the driver when the link changes', () => {
    net.setLink(false);
    expect(driver.interrupts).toEqual(['configuration']);
    expect(net.configuration()[6]).toBe(0);
    expect(net.configurationGeneration).toBe(1);
    expect(net.receive({ frame: frame(60) })).toBe(false);
  });
});

describe('transmission [virtio 5.1.6.2]', () => {
  it('takes the frame behind the header, however it is cut', () => {
    driver.send(TRANSMIT, [new Uint8Array(12), frame(60)]);
    const joined = new Uint8Array(12 + 60);
    joined.fill(9, 12);
    driver.send(TRANSMIT, [joined.slice(0, 5), joined.slice(5, 30), joined.slice(30)]);
    expect(frames).toEqual([frame(60), frame(60, 9)]);
    expect(driver.queues[TRANSMIT]!.takeUsed().map((used) => used.written)).toEqual([0, 0]);
  });

  it('drops what no wire carries and gives the buffer back', () => {
    driver.send(TRANSMIT, [frame(11)]);
    driver.send(TRANSMIT, [frame(12 + 13)]);
    driver.send(TRANSMIT, [frame(12 + 66_000)]);
    expect(frames).toEqual([]);
    expect(driver.queues[TRANSMIT]!.takeUsed()).toHaveLength(3);
    expect(driver.needsReset).toBe(false);
  });
});

describe('reception [virtio 5.1.6.4]', () => {
  it('writes header and frame, with num_buffers 1', () => {
    const { head, addresses } = driver.send(RECEIVE, [1526]);
    expect(net.receive({ frame: frame(100) })).toBe(true);
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([{ head, written: 112 }]);
    expect([...driver.at(addresses[0]!, 12)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(driver.at(addresses[0]! + 12, 100)).toEqual(frame(100));
    expect(driver.interrupts).toEqual([RECEIVE]);
  });

  it('keeps frames in order until there are buffers, and drops beyond a bound', () => {
    for (let index = 0; index < WAITING_FRAMES_MAX; index += 1) {
      expect(net.receive({ frame: frame(60, index & 0xff) })).toBe(true);
    }
    expect(net.receive({ frame: frame(60) })).toBe(false);
    const first = driver.send(RECEIVE, [1526]);
    const second = driver.send(RECEIVE, [1526]);
    expect(driver.at(first.addresses[0]! + 12, 1)[0]).toBe(0);
    expect(driver.at(second.addresses[0]! + 12, 1)[0]).toBe(1);
    expect(net.receive({ frame: frame(60) })).toBe(true);
  });

  it('loses a frame that does not fit, not the buffer', () => {
    restart(net.offeredFeatures & ~NET_FEATURE.mergedBuffers);
    const { head } = driver.send(RECEIVE, [100]);
    net.receive({ frame: frame(200) });
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([]);
    net.receive({ frame: frame(60) });
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([{ head, written: 72 }]);
  });

  it('drops frames while no driver runs', () => {
    net.writeStatus(0);
    expect(net.receive({ frame: frame(60) })).toBe(false);
  });

  it('asks for a reset when the buffer is not RAM', () => {
    driver.queues[RECEIVE]!.add([{ address: ram.bytes.length - 20, length: 1526, write: true }]);
    net.receive({ frame: frame(60) });
    expect(driver.needsReset).toBe(true);
  });
});

it('has the same state and future after load, with frames waiting', () => {
  net.receive({ frame: frame(60, 1) });
  net.receive({ frame: frame(61, 2) });
  const saved = savedBytes(net);
  const copy = new NetDevice({ name: 'net', mac: MAC, onPacket: () => {} }, ram);
  expect(loadBytes(copy, saved)).toBe(0);
  expect(savedBytes(copy)).toEqual(saved);
  const { addresses } = driver.add(RECEIVE, [1526]);
  copy.ring(RECEIVE);
  expect(driver.at(addresses[0]! + 12, 60)).toEqual(frame(60, 1));
});

describe('merged buffers [virtio 5.1.6.4]', () => {
  it('takes as many as the packet needs, and says how many', () => {
    const buffers = Array.from({ length: 4 }, () => driver.add(RECEIVE, [100]));
    const bytes = Uint8Array.from({ length: 250 }, (_, index) => index);
    net.receive({ frame: bytes });
    const used = driver.queues[RECEIVE]!.takeUsed();
    expect(used).toEqual([100, 100, 62].map((written, index) => ({ head: buffers[index]!.head, written })));
    const got = used.flatMap(({ written }, index) => [...driver.at(buffers[index]!.addresses[0]!, written)]);
    expect(got).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, ...bytes]);
    expect(driver.interrupts).toEqual([RECEIVE]);
  });

  it('waits for further buffers, and has then taken none', () => {
    driver.send(RECEIVE, [100]);
    net.receive({ frame: frame(150) });
    net.receive({ frame: frame(14, 9) });
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([]);
    driver.send(RECEIVE, [100]);
    expect(driver.queues[RECEIVE]!.takeUsed().map(({ written }) => written)).toEqual([100, 62]);
    driver.send(RECEIVE, [100]);
    expect(driver.queues[RECEIVE]!.takeUsed().map(({ written }) => written)).toEqual([26]);
  });

  it('loses a packet that all buffers of the ring do not hold', () => {
    const size = driver.queues[RECEIVE]!.size;
    for (let index = 0; index < size; index++) driver.add(RECEIVE, [12]);
    net.receive({ frame: frame(12 * size) });
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([]);
    net.receive({ frame: frame(14) });
    expect(driver.queues[RECEIVE]!.takeUsed().map(({ written }) => written)).toEqual([12, 12, 2]);
  });

  it('looks at the whole ring once for all packets that it does not hold', () => {
    const size = 1024;
    ram = new GuestRam(0x40000);
    net = new NetDevice({ name: 'net', mac: MAC, onPacket: () => {} }, ram);
    driver = new Driver(ram, net, size);
    driver.start();
    for (let index = 0; index < 600; index++) expect(net.receive({ frame: frame(13_000) })).toBe(true);
    net.receive({ frame: frame(14) });
    for (let index = 0; index < size; index++) driver.add(RECEIVE, [12]);
    const reads = vi.spyOn(ram, 'readU32');
    net.ring(RECEIVE);
    // The first time, and for the short one that fits.
    expect(reads.mock.calls.length).toBeLessThanOrEqual(4 * (size + 3));
    expect(driver.queues[RECEIVE]!.takeUsed().map(({ written }) => written)).toEqual([12, 12, 2]);
  });

  it('asks for a reset when the buffers of one packet are cut into too many pieces', () => {
    const size = 1024;
    ram = new GuestRam(0x40000);
    net = new NetDevice({ name: 'net', mac: MAC, onPacket: () => {} }, ram);
    driver = new Driver(ram, net, size);
    driver.start();
    const table = driver.allocate(16 * size);
    for (let index = 0; index < size; index++) {
      const last = index === size - 1;
      writeDescriptor(ram, table + 16 * index, 0, last ? 12 : 1, last ? WRITE : NEXT, index + 1);
    }
    const queue = driver.queues[RECEIVE]!;
    for (let index = 0; index < size; index++) {
      queue.describe(index, table, 16 * size, INDIRECT);
      queue.offer(index);
    }
    const reads = vi.spyOn(ram, 'readU32');
    net.receive({ frame: frame(60) });
    expect(driver.needsReset).toBe(true);
    expect(net.faultReason).toContain('too many descriptors');
    expect(reads.mock.calls.length).toBeLessThanOrEqual(4 * 3 * (size + 1));
  });

  it('asks for a reset when a buffer does not even hold the header', () => {
    driver.send(RECEIVE, [11]);
    net.receive({ frame: frame(60) });
    expect(driver.needsReset).toBe(true);
  });
});

/** 3,000 bytes over IPv4, to be cut into segments of 1,448. */
function longPacket(): Packet {
  const bytes = new Uint8Array(54 + 3000);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, 0x0800);
  view.setUint16(14, 0x4500);
  view.setUint16(16, 3040);
  view.setUint16(20, 0x4000);
  view.setUint16(22, 0x4006);
  view.setUint16(46, 0x5010);
  const offload = {
    checksumStart: 34,
    checksumOffset: 16,
    segmentBytes: 1448,
    segments: 'tcp4',
    ecn: false,
  } as const;
  return { frame: bytes, offload };
}

describe('offloads [virtio 5.1.6.2, 5.1.6.4]', () => {
  const { checksum, guestChecksum, guestTso4, guestTso6, hostTso4, hostEcn, guestEcn } = NET_FEATURE;

  it('a long packet leaves as one output, with what is left to do', () => {
    const packet = longPacket();
    driver.send(TRANSMIT, [offloadHeader(packet), Uint8Array.of(0, 0), packet.frame]);
    expect(packets).toEqual([packet]);
  });

  it('drops what was not agreed on, or does not fit', () => {
    const packet = longPacket();
    const bytes = [offloadHeader(packet), Uint8Array.of(0, 0), packet.frame];
    for (const without of [hostTso4 | hostEcn]) {
      restart(net.offeredFeatures & ~without);
      driver.send(TRANSMIT, bytes);
    }
    driver.send(TRANSMIT, [Uint8Array.of(1, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0), packet.frame]);
    driver.send(TRANSMIT, [Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 255, 255, 0, 0), packet.frame]);
    expect(packets).toEqual([]);
    expect(driver.needsReset).toBe(false);
    expect(driver.queues[TRANSMIT]!.takeUsed()).toHaveLength(3);
  });

  it('gives a driver that takes it the packet as it came, and any other what a wire carries', () => {
    const packet = longPacket();
    const { addresses } = driver.send(RECEIVE, [4000]);
    net.receive(packet);
    expect([...driver.at(addresses[0]!, 12)]).toEqual([
      1,
      1,
      54,
      0,
      1448 & 255,
      1448 >> 8,
      34,
      0,
      16,
      0,
      1,
      0,
    ]);
    restart(net.offeredFeatures & ~(guestTso4 | guestTso6 | guestEcn));
    const heads = [1, 2, 3].map(() => driver.add(RECEIVE, [2000]));
    net.receive(packet);
    expect(driver.queues[RECEIVE]!.takeUsed().map(({ written }) => written)).toEqual([1514, 1514, 170]);
    expect(heads.map(({ addresses: [at = 0] }) => [...driver.at(at, 12)])).toEqual(
      [0, 1, 2].map(() => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
    );
    const expected = wireFrames(packet);
    expect(
      heads.map(({ addresses: [at = 0] }, index) => driver.at(at + 12, expected[index]!.length)),
    ).toEqual(expected);
  });

  it('finishes a checksum for a driver that does not take it unfinished', () => {
    const offload = {
      checksumStart: 20,
      checksumOffset: 4,
      segmentBytes: 0,
      segments: 'none',
      ecn: false,
    } as const;
    restart(net.offeredFeatures & ~(guestChecksum | guestTso4 | guestTso6 | guestEcn));
    const { addresses } = driver.send(RECEIVE, [200]);
    net.receive({ frame: frame(60), offload });
    expect(driver.at(addresses[0]! + 12, 60)).toEqual(wireFrames({ frame: frame(60), offload })[0]);
  });

  it.each([
    ['HOST_TSO4 without CSUM', hostTso4, checksum],
    ['GUEST_TSO4 without GUEST_CSUM', guestTso4, guestChecksum],
    ['HOST_ECN without segmentation', hostEcn, 0n],
  ])('refuses %s [virtio 5.1.3.1]', (_name, feature, missing) => {
    net.writeStatus(0);
    const alone = new Driver(ram, net);
    alone.start((1n << 32n) | feature);
    expect(net.status & 8).toBe(0);
    if (missing === 0n) return;
    net.writeStatus(0);
    new Driver(ram, net).start((1n << 32n) | feature | missing);
    expect(net.status & 8).toBe(8);
  });

  it('keeps a waiting packet and its offload through save and load', () => {
    net.receive(longPacket());
    const saved = savedBytes(net);
    const copy = new NetDevice({ name: 'net', mac: MAC, onPacket: () => {} }, ram);
    expect(loadBytes(copy, saved)).toBe(0);
    expect(savedBytes(copy)).toEqual(saved);
    saved[saved.length - 4] = 0xff;
    expect(() => loadBytes(new NetDevice({ name: 'net', mac: MAC, onPacket: () => {} }, ram), saved)).toThrow(
      'fit',
    );
  });
});
