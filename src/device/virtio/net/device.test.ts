import { beforeEach, describe, expect, it } from 'vitest';
import { loadBytes, savedBytes } from '../../fake-machine.ts';
import { Driver } from '../testing/driver.ts';
import { GuestRam } from '../testing/guest-ram.ts';
import { NetDevice, WAITING_FRAMES_MAX } from './device.ts';

const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
const RECEIVE = 0;
const TRANSMIT = 1;

let frames: Uint8Array[];
let ram: GuestRam;
let net: NetDevice;
let driver: Driver;

function make(mtu?: number): void {
  ram = new GuestRam(0x40000);
  frames = [];
  const options = { name: 'net', mac: MAC, onFrame: (frame: Uint8Array) => frames.push(frame) };
  net = new NetDevice(mtu === undefined ? options : { ...options, mtu }, ram);
  driver = new Driver(ram, net);
}

beforeEach(() => {
  make();
  driver.start();
});

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
    expect(net.receive(frame(60))).toBe(false);
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
    expect(net.receive(frame(100))).toBe(true);
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([{ head, written: 112 }]);
    expect([...driver.at(addresses[0]!, 12)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(driver.at(addresses[0]! + 12, 100)).toEqual(frame(100));
    expect(driver.interrupts).toEqual([RECEIVE]);
  });

  it('keeps frames in order until there are buffers, and drops beyond a bound', () => {
    for (let index = 0; index < WAITING_FRAMES_MAX; index += 1) {
      expect(net.receive(frame(60, index & 0xff))).toBe(true);
    }
    expect(net.receive(frame(60))).toBe(false);
    const first = driver.send(RECEIVE, [1526]);
    const second = driver.send(RECEIVE, [1526]);
    expect(driver.at(first.addresses[0]! + 12, 1)[0]).toBe(0);
    expect(driver.at(second.addresses[0]! + 12, 1)[0]).toBe(1);
    expect(net.receive(frame(60))).toBe(true);
  });

  it('loses a frame that does not fit, not the buffer', () => {
    const { head } = driver.send(RECEIVE, [100]);
    net.receive(frame(200));
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([]);
    net.receive(frame(60));
    expect(driver.queues[RECEIVE]!.takeUsed()).toEqual([{ head, written: 72 }]);
  });

  it('drops frames while no driver runs', () => {
    net.writeStatus(0);
    expect(net.receive(frame(60))).toBe(false);
  });

  it('asks for a reset when the buffer is not RAM', () => {
    driver.queues[RECEIVE]!.add([{ address: ram.bytes.length - 20, length: 1526, write: true }]);
    net.receive(frame(60));
    expect(driver.needsReset).toBe(true);
  });
});

it('has the same state and future after load, with frames waiting', () => {
  net.receive(frame(60, 1));
  net.receive(frame(61, 2));
  const saved = savedBytes(net);
  const copy = new NetDevice({ name: 'net', mac: MAC, onFrame: () => {} }, ram);
  expect(loadBytes(copy, saved)).toBe(0);
  expect(savedBytes(copy)).toEqual(saved);
  const { addresses } = driver.add(RECEIVE, [1526]);
  copy.ring(RECEIVE);
  expect(driver.at(addresses[0]! + 12, 60)).toEqual(frame(60, 1));
});
