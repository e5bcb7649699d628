import { describe, expect, it } from 'vitest';
import { Entropy } from '../../base/entropy.ts';
import { loadBytes, savedBytes } from '../fake-machine.ts';
import { BlockDevice } from './block/device.ts';
import { ConsoleDevice } from './console/device.ts';
import { NetDevice } from './net/device.ts';
import { RngDevice } from './rng/device.ts';
import { Driver } from './testing/driver.ts';
import { GuestRam } from './testing/guest-ram.ts';
import { TestRandom } from './testing/random.ts';
import type { VirtioDevice } from './virtio-device.ts';

/**
 * Whatever a guest writes into its rings: no exception, no output beyond a bound, the same result each time,
 * and after a reset the device works. Each case is reproduced by its number.
 */

const CASES = 5000;
const RAM_BYTES = 0x8000;
const HOLE = { start: 0x6000, end: 0x6800 };

interface Subject {
  readonly device: VirtioDevice;
  /** Something from the host. */
  poke(random: TestRandom): void;
  outputs: number;
}

type Kind = 'block' | 'net' | 'console' | 'rng';
const KINDS: readonly Kind[] = ['block', 'net', 'console', 'rng'];

function subject(kind: Kind, ram: GuestRam): Subject {
  const made = make(kind, ram, () => {
    made.outputs += 1;
  });
  return made;
}

function make(kind: Kind, ram: GuestRam, output: () => void): Subject {
  switch (kind) {
    case 'block': {
      const options = { name: kind, capacity: 1 << 20, readOnly: false, serial: 's', onRequest: output };
      const device = new BlockDevice(options, ram);
      return {
        device,
        outputs: 0,
        poke: (random) => {
          const pending = device.pendingRequests();
          if (pending.length === 0) return;
          const { request, operation, length } = random.pick(pending);
          const data = new Uint8Array(operation === 'read' ? length : 0);
          device.complete(request, random.pick(['ok', 'error']), data);
        },
      };
    }
    case 'net': {
      const device = new NetDevice({ name: kind, mac: new Uint8Array(6), onPacket: output }, ram);
      return {
        device,
        outputs: 0,
        poke: (random) => device.receive({ frame: random.bytes(random.below(2000)) }),
      };
    }
    case 'console': {
      const device = new ConsoleDevice({ name: kind, onBytes: output }, ram);
      return { device, outputs: 0, poke: (random) => device.receive(random.bytes(random.below(300))) };
    }
    case 'rng': {
      const device = new RngDevice({ name: kind, entropy: new Entropy(new Uint8Array(32)) }, ram);
      return { device, outputs: 0, poke: () => {} };
    }
  }
}

/** A chain that means something, so that corruption reaches deep code. */
function honestChain(driver: Driver, random: TestRandom, queue: number): void {
  const header = new Uint8Array(16);
  header[0] = random.pick([0, 1, 4, 8, 11, 13, 99]);
  header[8] = random.below(4);
  driver.add(queue, [header, random.pick([new Uint8Array(512), 512, 60]), random.pick([1, 513])]);
}

const INTERESTING = [0, 1, 2, 4, 7, 15, 16, 17, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x5ff8, 0x6000, 0x7ff8];

function corrupt(driver: Driver, random: TestRandom): void {
  const { ram } = driver;
  const end = driver.queues.at(-1)!.end;
  for (let times = 1 + random.below(6); times > 0; times -= 1) {
    const at = 0x1000 + random.below(end - 0x1000);
    if (random.below(3) === 0) ram.bytes[at]! ^= 1 << random.below(8);
    else ram.writeU16(at & ~1, random.below(2) ? random.pick(INTERESTING) : random.u32() & 0xffff);
  }
}

function restart(driver: Driver): void {
  for (const queue of driver.queues) queue.reset();
  driver.start();
}

function scribbleStatus(driver: Driver, random: TestRandom): void {
  driver.device.writeStatus(random.u32() & 0xff);
}

function attack(seed: number): { driver: Driver; target: Subject } {
  const random = new TestRandom(seed);
  const ram = new GuestRam(RAM_BYTES, [HOLE]);
  const target = subject(random.pick(KINDS), ram);
  const driver = new Driver(ram, target.device, 16);
  const { device } = target;
  driver.start(random.below(4) ? device.offeredFeatures : BigInt(random.u32()) | (1n << 32n));
  for (let step = 0; step < 12; step += 1) {
    const queue = random.below(driver.queues.length);
    switch (random.below(7)) {
      case 0:
        corrupt(driver, random);
        break;
      case 1:
        driver.queues[queue]!.setAvailableIndex(random.u32());
        break;
      case 2:
        target.poke(random);
        break;
      case 3:
        if (random.below(4) === 0) random.pick([restart, scribbleStatus])(driver, random);
        break;
      default:
        honestChain(driver, random, queue);
        if (random.below(3) === 0) corrupt(driver, random);
        device.ring(random.below(driver.queues.length));
    }
  }
  return { driver, target };
}

/** The device serves an honest driver. */
function works(driver: Driver, target: Subject): boolean {
  restart(driver);
  const before = target.outputs;
  const queue = driver.queues.length - 1;
  const header = new Uint8Array(16);
  header[0] = 8; // For a disk: GET_ID.
  driver.send(queue, target.device.kind.type === 4 ? [8] : [header, new Uint8Array(60), 20, 1]);
  const answered = driver.queues[queue]!.takeUsed().length === 1;
  const output = target.outputs > before || target.device.kind.type === 2 || target.device.kind.type === 4;
  return answered && output && !driver.needsReset;
}

describe('hostile drivers', () => {
  it(`throw nothing in ${CASES} cases, and the device works after a reset`, () => {
    let failed = 0;
    for (let seed = 0; seed < CASES; seed += 1) {
      const { driver, target } = attack(seed);
      if (driver.needsReset) failed += 1;
      if (target.outputs > 12 * 16) throw new Error(`case ${seed}: ${target.outputs} outputs`);
      while (driver.device instanceof BlockDevice && driver.device.pendingRequests().length > 0) {
        driver.device.complete(driver.device.pendingRequests()[0]!.request, 'error', new Uint8Array(0));
      }
      if (!works(driver, target)) throw new Error(`case ${seed}: does not work after a reset`);
    }
    // The cases do reach the checks, and not all of them at the first.
    expect(failed).toBeGreaterThan(CASES / 4);
    expect(failed).toBeLessThan(CASES);
  });

  it('get the same answer each time, and from a device that was loaded in between', () => {
    for (let seed = 0; seed < CASES; seed += 10) {
      const one = attack(seed);
      const other = attack(seed);
      const state = savedBytes(one.driver.device);
      expect(savedBytes(other.driver.device)).toEqual(state);
      expect(Buffer.compare(one.driver.ram.bytes, other.driver.ram.bytes)).toBe(0);
      const copy = subject(KINDS.find((kind) => kind === one.driver.device.name)!, one.driver.ram);
      expect(loadBytes(copy.device, state)).toBe(0);
      expect(savedBytes(copy.device)).toEqual(state);
    }
  });

  it('cannot hide in a damaged state: it is refused, or loaded and survived', () => {
    const random = new TestRandom(1);
    let refused = 0;
    for (let seed = 0; seed < CASES; seed += 10) {
      const { driver } = attack(seed);
      const state = savedBytes(driver.device);
      state[random.below(state.length)]! ^= 1 << random.below(8);
      const copy = subject(KINDS.find((kind) => kind === driver.device.name)!, driver.ram);
      try {
        loadBytes(copy.device, state);
      } catch (error) {
        expect((error as Error).name).toBe('TruncatedError');
        refused += 1;
        continue;
      }
      for (let queue = 0; queue < copy.device.queues.length; queue += 1) copy.device.ring(queue);
      copy.poke(random);
      savedBytes(copy.device);
    }
    expect(refused).toBeGreaterThan(0);
  });
});
