import { describe, expect, it } from 'vitest';
import { Entropy } from '../../base/entropy.ts';
import { loadBytes, savedBytes } from '../fake-machine.ts';
import { RngDevice } from './rng/device.ts';
import { Driver } from './testing/driver.ts';
import { GuestRam } from './testing/guest-ram.ts';
import { FEATURE_EVENT_INDEX, FEATURE_VERSION_1, STATUS } from './virtio-device.ts';

const ALL = STATUS.acknowledge | STATUS.driver | STATUS.featuresOk | STATUS.driverOk;

function rng(): Driver {
  const ram = new GuestRam(0x10000);
  const entropy = new Entropy(new Uint8Array(32));
  return new Driver(ram, new RngDevice({ name: 'rng', entropy }, ram));
}

describe('device status [virtio 2.1, 3.1.1]', () => {
  it('goes from reset to DRIVER_OK', () => {
    const { device } = rng().start();
    expect(device.status).toBe(ALL);
    expect(device.live).toBe(true);
  });

  it('refuses FEATURES_OK for a feature that is not offered', () => {
    const { device } = rng().start(FEATURE_VERSION_1 | (1n << 40n));
    expect(device.status & STATUS.featuresOk).toBe(0);
    expect(device.live).toBe(false);
  });

  it('refuses a driver of the legacy kind, without VERSION_1 [virtio 6.1]', () => {
    const { device } = rng().start(FEATURE_EVENT_INDEX);
    expect(device.status & (STATUS.featuresOk | STATUS.driverOk)).toBe(0);
  });

  it('never lets the driver clear a bit or set DEVICE_NEEDS_RESET', () => {
    const { device } = rng().start();
    device.writeStatus(STATUS.acknowledge);
    device.writeStatus(STATUS.needsReset);
    expect(device.status).toBe(ALL);
  });

  it('fixes the features at FEATURES_OK', () => {
    const { device } = rng().start();
    const agreed = device.driverFeatures;
    device.writeDriverFeatures(0, 0);
    expect(device.driverFeatures).toBe(agreed);
  });

  it('is all forgotten at reset', () => {
    const driver = rng();
    const fresh = savedBytes(driver.device);
    driver.start().device.writeStatus(0);
    expect(savedBytes(driver.device)).toEqual(fresh);
  });
});

describe('a queue out of order [virtio 2.1.2]', () => {
  it('sets DEVICE_NEEDS_RESET, tells the driver, and stops until reset', () => {
    const driver = rng().start();
    driver.queues[0]!.offer(0xffff);
    driver.device.ring(0);
    expect(driver.needsReset).toBe(true);
    expect(driver.device.faultReason).toMatch(/outside the table/);
    expect(driver.interrupts).toEqual(['configuration']);
    driver.send(0, [16]);
    expect(driver.queues[0]!.takeUsed()).toEqual([]);
    expect(driver.interrupts).toEqual(['configuration']);
    driver.device.writeStatus(0);
    expect(driver.needsReset).toBe(false);
  });

  it('is noticed when the driver enables it', () => {
    const { device } = rng();
    device.writeStatus(STATUS.acknowledge | STATUS.driver);
    device.queues[0]!.size = 3;
    device.enableQueue(0);
    expect(device.status & STATUS.needsReset).not.toBe(0);
  });
});

describe('bells', () => {
  it('rung before DRIVER_OK are answered at DRIVER_OK', () => {
    const driver = rng();
    const { device } = driver;
    driver.send(0, [16]);
    expect(driver.queues[0]!.takeUsed()).toEqual([]);
    driver.start();
    expect(driver.queues[0]!.takeUsed()).toHaveLength(1);
    device.ring(77); // No such queue.
    expect(driver.needsReset).toBe(false);
  });
});

describe('the entropy device [virtio 5.4]', () => {
  it('fills buffers from the generator and says how much', () => {
    const driver = rng().start();
    const { head, addresses } = driver.send(0, [16, 8]);
    expect(driver.queues[0]!.takeUsed()).toEqual([{ head, written: 24 }]);
    const expected = new Entropy(new Uint8Array(32)).next(24);
    expect(driver.at(addresses[0]!, 16)).toEqual(expected.slice(0, 16));
    expect(driver.at(addresses[1]!, 8)).toEqual(expected.slice(16));
    expect(driver.interrupts).toEqual([0]);
  });

  it('fills a large buffer in part', () => {
    const driver = rng().start();
    driver.send(0, [10_000]);
    expect(driver.queues[0]!.takeUsed()[0]!.written).toBe(4096);
  });

  it('has no state beyond its queue', () => {
    const driver = rng().start();
    driver.send(0, [16]);
    const saved = savedBytes(driver.device);
    const other = rng();
    expect(loadBytes(other.device, saved)).toBe(0);
    expect(savedBytes(other.device)).toEqual(saved);
  });
});
