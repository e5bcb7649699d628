import { describe, expect, it } from 'vitest';
import { offloadHeader, type Packet, readOffload, writeOffload } from '../../src/base/packet/offload.ts';
import { INDIRECT, NEXT, WRITE, writeDescriptor } from '../../src/device/virtio/testing/driver.ts';
import { Random } from '../silicon/random.ts';
import {
  BoardDriver,
  KINDS,
  type Kind,
  QUEUE_SIZE,
  RAM_BYTES,
  REGISTER,
  VirtioBoard,
} from './virtio-board.ts';

/**
 * Whatever a guest does to virtio devices, by their registers on PCI and by their rings: the host survives, memory
 * that no ring gave away stays as it is, a broken rule is DEVICE_NEEDS_RESET [virtio 2.1.2], and after a reset the
 * device works.
 */
/** A million by hand: `HOSTILE_CASES=1000000 npx vitest run tests/hostile/virtio.test.ts`, from HOSTILE_FIRST on. */
const CASES = Number(process.env.HOSTILE_CASES ?? 50_000);
const FIRST = Number(process.env.HOSTILE_FIRST ?? 0);
/** Each takes about a millisecond. */
const CASES_MS_MAX = Math.max(300_000, 10 * CASES);
const STEPS = 8;

const MMIO = [0xe000_0000, 0xe000_3000, 0xfec0_0000, 0xfee0_0000];
const NO_RAM = [...MMIO, RAM_BYTES, 0xc000_0000, 0x1_0000_0000, 2 ** 52, 2 ** 63];
const LENGTHS = [0, 1, 12, 16, 17, 512, 513, 4096, RAM_BYTES, 0x7fff_ffff, 0xffff_ffff, 0xffff_fff0];

class Attack {
  readonly board: VirtioBoard;
  readonly random: Random;
  readonly driver: BoardDriver;

  constructor(board: VirtioBoard, number: number) {
    this.board = board;
    this.random = new Random(number, 0x71a0);
    board.powerOn();
    this.driver = new BoardDriver(board, KINDS[number % KINDS.length]!);
    this.driver.start(this.random.chance(15) ? this.random.u64() | (1n << 32n) : undefined);
  }

  run(): void {
    for (let step = 0; step < STEPS; step++) {
      // Half of it means something, so that what is broken is broken in the middle of work.
      this.random.pick(this.random.chance(50) ? HONEST : STEP)(this);
      if (this.random.chance(60)) this.driver.ring(this.queue());
    }
  }

  queue(): number {
    return this.random.below(this.driver.queues.length);
  }

  address(): bigint {
    const { random } = this;
    if (random.chance(70)) return BigInt(random.below(RAM_BYTES));
    return BigInt(random.pick(NO_RAM)) + BigInt(random.below(2) * random.below(64));
  }

  length(): number {
    return this.random.chance(50) ? 1 + this.random.below(2000) : this.random.pick(LENGTHS);
  }

  descriptor(at: number, size: number): void {
    const { random } = this;
    const flags = random.chance(85) ? random.below(8) : random.u32() & 0xffff;
    const next = random.chance(90) ? random.below(size) : random.u32() & 0xffff;
    if (at + 16 > RAM_BYTES) return;
    const indirect = (flags & INDIRECT) !== 0 && random.chance(70);
    writeDescriptor(
      this.board.guest,
      at,
      this.address(),
      indirect ? 16 * random.below(20) : this.length(),
      flags,
      next,
    );
  }

  event(): void {
    const { random, board } = this;
    const pending = board.block.pendingRequests();
    board.allow();
    if (pending.length > 0) {
      const { request, operation, length } = random.pick(pending);
      const data = new Uint8Array(operation === 'read' ? length : 0);
      board.block.complete(request, random.pick(['ok', 'error']), data);
    }
    const packet = random.chance(40) ? longPacket(random) : { frame: random.bytes(14 + random.below(1500)) };
    // What does not fit comes from no network.
    const { fits } = readOffload(offloadHeader(packet), packet.frame);
    board.bounded('a packet', () => board.net.receive(fits ? packet : { frame: packet.frame }));
    board.console.receive(random.bytes(random.below(100)));
    if (random.chance(20)) board.net.setLink(random.chance(50));
  }
}

const HONEST: readonly ((attack: Attack) => void)[] = [
  // A chain that means something.
  ({ driver, random }) => {
    const header = new Uint8Array(16);
    header[0] = random.pick([0, 1, 4, 8, 11, 13, 99]);
    header[8] = random.below(4);
    const queue = random.below(driver.queues.length);
    const middle = random.pick([new Uint8Array(512), 512, 1600]);
    driver.add(
      queue,
      random.chance(60) ? [header, middle, random.pick([1, 513])] : [random.pick([header, 60, 2000])],
    );
    driver.ring(queue);
  },
  (attack) => attack.event(),
  // Stretches of the disk to be cleared, some of them too long, beyond its end or with flags that mean nothing.
  ({ driver, random }) => {
    if (driver.kind !== 'block') return;
    const header = new Uint8Array(16);
    header[0] = random.pick([11, 13]);
    const stretches = new Uint8Array(16 * random.pick([1, 1, 1, 1, 2, 3]));
    const view = new DataView(stretches.buffer);
    view.setUint32(0, random.chance(80) ? random.below(2100) : random.u32(), true);
    view.setUint32(4, random.chance(95) ? 0 : random.u32(), true);
    view.setUint32(8, random.chance(80) ? random.below(2100) : random.u32(), true);
    view.setUint32(12, random.chance(80) ? random.below(2) : random.u32(), true);
    const cut = random.chance(90) ? stretches.length : random.below(stretches.length);
    driver.add(
      0,
      [header, stretches.subarray(0, cut), 1].filter((part) => part === 1 || (part as Uint8Array).length > 0),
    );
    driver.ring(0);
  },
  // A packet that asks for something to be done to it, with a header in which something may be wrong.
  ({ driver, random }) => {
    if (driver.kind !== 'net') return;
    const packet = longPacket(random);
    const header = new Uint8Array(12);
    writeOffload(header, 0, packet);
    if (random.chance(60)) header[random.below(10)] = random.pick([0, 1, 2, 0x80, 0xff, random.below(256)]);
    const frame = packet.frame.slice();
    if (random.chance(30)) frame[random.pick([12, 14, 16, 17, 20, 23, 46])] = random.below(256);
    driver.add(
      driver.queues.length - 1,
      random.chance(50) ? [header, frame] : [Uint8Array.of(...header, ...frame)],
    );
    driver.ring(driver.queues.length - 1);
  },
];

/** TCP over IPv6 behind extension headers [RFC 8200 4], to be cut into segments. */
function extendedPacket(random: Random): Packet {
  const extensions = Array.from({ length: random.below(5) }, () => random.pick([8, 8, 64, 2048]));
  const tcp = 54 + extensions.reduce((sum, bytes) => sum + bytes, 0);
  const frame = new Uint8Array(tcp + 20 + random.below(4000));
  const view = new DataView(frame.buffer);
  view.setUint32(12, 0x86dd_6000);
  view.setUint16(18, frame.length - 54);
  let kindAt = 20;
  let at = 54;
  for (const bytes of extensions) {
    frame[kindAt] = 60;
    kindAt = at;
    frame[at + 1] = bytes / 8 - 1;
    at += bytes;
  }
  frame[kindAt] = 6;
  view.setUint16(tcp + 12, 0x5010);
  const segmentBytes = random.pick([1, 2, 100, 1448]);
  return {
    frame,
    offload: { checksumStart: tcp, checksumOffset: 16, segmentBytes, segments: 'tcp6', ecn: false },
  };
}

/** TCP over IPv4 to be cut into segments of any size, or with a checksum that is to be made anywhere. */
function longPacket(random: Random): Packet {
  if (random.chance(30)) return extendedPacket(random);
  const frame = new Uint8Array(54 + random.below(4000));
  const view = new DataView(frame.buffer);
  view.setUint32(12, 0x0800_4500);
  view.setUint16(16, frame.length - 14);
  view.setUint16(22, 0x4006);
  view.setUint16(46, 0x5010);
  if (random.chance(50)) {
    const checksumStart = random.below(frame.length - 1);
    const checksumOffset = random.below(frame.length - 1 - checksumStart);
    return {
      frame,
      offload: { checksumStart, checksumOffset, segmentBytes: 0, segments: 'none', ecn: false },
    };
  }
  const segmentBytes = random.pick([2, 100, 1448, 0xffff]);
  const ecn = random.chance(20);
  return { frame, offload: { checksumStart: 34, checksumOffset: 16, segmentBytes, segments: 'tcp4', ecn } };
}

const STEP: readonly ((attack: Attack) => void)[] = [
  // Frames wait, and then come buffers in crumbs: a table of a thousand descriptors, named by every entry of the ring.
  ({ driver, random, board }) => {
    if (driver.kind !== 'net' || !random.chance(3)) return;
    driver.start();
    for (let times = 20; times > 0; times--) board.net.receive({ frame: new Uint8Array(1500) });
    const queue = driver.queues[0]!;
    const size = random.pick([64, 1024]);
    for (let index = 0; index < size; index++) {
      const last = index === size - 1;
      writeDescriptor(
        board.guest,
        0x8000 + 16 * index,
        0xc000,
        last ? 12 : 1,
        last ? WRITE : NEXT,
        index + 1,
      );
    }
    for (let index = 0; index < QUEUE_SIZE; index++) {
      queue.describe(index, 0x8000, 16 * size, INDIRECT);
      queue.offer(index);
    }
    driver.ring(0);
  },
  // Descriptors of any kind, here and in an indirect table.
  (attack) => {
    const queue = attack.driver.queues[attack.queue()]!;
    for (let times = 1 + attack.random.below(4); times > 0; times--)
      attack.descriptor(queue.descriptors + 16 * attack.random.below(QUEUE_SIZE), QUEUE_SIZE);
    queue.offer(attack.random.chance(90) ? attack.random.below(QUEUE_SIZE) : attack.random.u32() & 0xffff);
  },
  (attack) => {
    const { random, driver, board } = attack;
    const queue = driver.queues[attack.queue()]!;
    const table = 0x8000 + 16 * random.below(64);
    const size = 1 + random.below(8);
    for (let index = 0; index < size; index++) attack.descriptor(table + 16 * index, size);
    writeDescriptor(
      board.guest,
      queue.descriptors,
      table,
      16 * size + random.below(2) * random.below(16),
      INDIRECT,
      0,
    );
    queue.offer(0);
  },
  // Indices: forward, backward, by any distance.
  ({ driver, random }) => {
    const queue = driver.queues[random.below(driver.queues.length)]!;
    const near = queue.availableIndex + random.below(2 * QUEUE_SIZE + 3) - 1;
    queue.setAvailableIndex(random.chance(70) ? near : random.u32());
  },
  // Bits anywhere in the rings.
  ({ board, driver, random }) => {
    for (let times = 1 + random.below(6); times > 0; times--)
      board.guest.bytes[0x1000 + random.below(driver.queues.at(-1)!.end - 0x1000)]! ^= 1 << random.below(8);
  },
  // Registers of the device, at any width.
  ({ driver, random }) => {
    for (let times = 1 + random.below(8); times > 0; times--) {
      const register = 0x1000 * random.pick([0, 0, 0, 1, 2, 3, 4]) + random.below(64);
      const size = random.pick([1, 2, 4, 8] as const);
      if (random.chance(40)) driver.read(register, size);
      else
        driver.write(
          register,
          size,
          random.chance(50) ? BigInt(random.below(16)) : BigInt.asUintN(8 * size, random.u64()),
        );
    }
  },
  // A queue placed anew, where it must not be: only before it is enabled, so after a reset.
  (attack) => {
    const { driver, random } = attack;
    driver.write(REGISTER.status, 1, 0);
    driver.write(REGISTER.status, 1, 3);
    driver.write(REGISTER.driverFeatureSelect, 4, 1);
    driver.write(REGISTER.driverFeature, 4, 1);
    driver.write(REGISTER.status, 1, 11);
    for (const [index, queue] of driver.queues.entries()) {
      const places = [queue.descriptors, queue.available, queue.used].map((place) =>
        random.chance(75) ? place : random.chance(50) ? attack.address() & ~15n : attack.address(),
      );
      const size = random.chance(75) ? QUEUE_SIZE : random.pick([0, 1, 3, 8, 64, 256, 512, 0x8000, 0xffff]);
      driver.place(index, places[0]!, places[1]!, places[2]!, size);
    }
    driver.write(REGISTER.status, 1, 15);
  },
  // A reset in the middle of requests, or a driver that starts anew.
  ({ driver, random }) => {
    if (random.chance(50)) driver.write(REGISTER.status, 1, random.pick([0, 0, 4, 15, 64, 128, 255]));
    else driver.start();
  },
  // A storm of bells.
  ({ driver, random }) => {
    for (let times = random.below(60); times > 0; times--) driver.ring(random.below(4));
  },
  // PCI: command register, BARs, MSI-X and its table, the window in configuration space.
  ({ board, driver, random }) => {
    const at = random.pick([
      4,
      4,
      6,
      0x10,
      0x14,
      0x18,
      0x34,
      0x3c,
      0x40 + 4 * random.below(32),
      random.below(256),
    ]);
    const size = random.pick([1, 2, 4] as const);
    board.allow();
    if (random.chance(70))
      board.configuration(driver.kind, at & -size, size, random.chance(50) ? random.below(8) : random.u32());
    else board.configuration(driver.kind, at & -size, size);
    board.map.write(board.bar(driver.kind, 1) + random.below(0x900), random.pick([4, 8]), random.u64());
  },
  (attack) => attack.event(),
];

function expectNoStray(board: VirtioBoard, number: number): void {
  if (board.excesses.length > 0) throw new Error(`case ${number}: ${board.excesses.join(', ')}`);
  if (board.strayStores.length > 0)
    throw new Error(`case ${number}: stores to ${board.strayStores.join(', ')}`);
}

describe('hostile virtio drivers', () => {
  it(
    `${CASES} cases: nothing is thrown, nothing else is written, and the device works after a reset`,
    () => {
      const board = new VirtioBoard();
      const other = new VirtioBoard();
      const seen = { needsReset: 0, outputs: 0, stores: 0, live: 0 };
      const byKind: Record<Kind, number> = { block: 0, net: 0, console: 0, rng: 0 };
      for (let number = FIRST; number < FIRST + CASES; number++) {
        const attack = new Attack(board, number);
        try {
          attack.run();
        } catch (error) {
          throw new Error(`case ${number}`, { cause: error });
        }
        const { driver } = attack;
        expectNoStray(board, number);
        const { status } = driver.device;
        if (status & 64) {
          seen.needsReset += 1;
          byKind[driver.kind] += 1;
        } else if (status & 4) seen.live += 1;
        seen.outputs += board.outputs;
        seen.stores += board.stores;
        if (board.outputs > 4000) throw new Error(`case ${number}: ${board.outputs} outputs`);
        if (number % 25 === 0) {
          // The same again, in a board with another past.
          new Attack(other, number).run();
          const differs = other.difference(board);
          if (differs !== undefined) throw new Error(`case ${number}: ${differs} differs the second time`);
        }
        // PCI may have been left in any state: that too a reset ends.
        if (number % 2 === 0) board.platform.reset();
        else board.platform.pci.assignBars();
        if (!new BoardDriver(board, driver.kind).works())
          throw new Error(`case ${number}: does not work after a reset`);
        expectNoStray(board, number);
      }
      if (process.env.HOSTILE_FIGURES) process.stdout.write(`${JSON.stringify({ ...seen, byKind })}\n`);
      // The cases reach the checks, of each device, and not all of them at the first.
      expect(seen.needsReset).toBeGreaterThan(CASES / 4);
      expect(seen.live).toBeGreaterThan(CASES / 10);
      expect(seen.outputs).toBeGreaterThan(CASES / 5);
      expect(seen.stores).toBeGreaterThan(CASES);
      for (const kind of KINDS) expect(byKind[kind], kind).toBeGreaterThan(CASES / 40);
    },
    CASES_MS_MAX,
  );
});

/** What breaks a rule for every device; the last queue takes what the driver sends. */
const BROKEN: readonly (readonly [string, (driver: BoardDriver) => unknown])[] = [
  [
    'an available index more than the queue ahead',
    (driver) => last(driver).setAvailableIndex(QUEUE_SIZE + 1),
  ],
  ['an available index that went back', (driver) => last(driver).setAvailableIndex(0xffff)],
  ['a head outside the table', (driver) => last(driver).offer(QUEUE_SIZE)],
  ['a next descriptor outside the table', (driver) => offered(driver, 0x8000, 16, NEXT, QUEUE_SIZE)],
  ['a chain that loops', (driver) => offered(driver, 0x8000, 16, NEXT, 0)],
  [
    'a longer loop',
    (driver) => {
      last(driver).describe(1, 0x8000, 16, NEXT, 0);
      offered(driver, 0x8000, 16, NEXT, 1);
    },
  ],
  [
    'an indirect table inside an indirect table',
    (driver) => {
      writeDescriptor(driver.board.guest, 0x8000, 0x9000, 16, INDIRECT, 0);
      offered(driver, 0x8000, 16, INDIRECT, 0);
    },
  ],
  [
    'an indirect table that loops',
    (driver) => {
      writeDescriptor(driver.board.guest, 0x8000, 0x9000, 16, NEXT, 0);
      offered(driver, 0x8000, 16, INDIRECT, 0);
    },
  ],
  ['an indirect descriptor with a next one', (driver) => offered(driver, 0x8000, 16, INDIRECT | NEXT, 1)],
  ['an indirect table of no length', (driver) => offered(driver, 0x8000, 0, INDIRECT, 0)],
  [
    'an indirect table of a length that is no multiple of 16',
    (driver) => offered(driver, 0x8000, 17, INDIRECT, 0),
  ],
  ...NO_RAM.map(
    (address) =>
      [
        `an indirect table at ${address.toString(16)}`,
        (driver: BoardDriver) => offered(driver, address, 32, INDIRECT, 0),
      ] as const,
  ),
  ...NO_RAM.map(
    (address) =>
      [
        `a buffer at ${address.toString(16)}`,
        (driver: BoardDriver) => offered(driver, address, 64, driver.kind === 'rng' ? WRITE : 0, 0),
      ] as const,
  ),
  [
    'a buffer that goes beyond RAM',
    (driver) => offered(driver, RAM_BYTES - 8, 64, driver.kind === 'rng' ? WRITE : 0, 0),
  ],
  [
    'a buffer for reading behind one for writing',
    (driver) => {
      last(driver).describe(1, 0x8000, 16, 0, 0);
      offered(driver, 0x8000, 16, NEXT | WRITE, 1);
    },
  ],
  [
    'rings that are not in RAM',
    (driver) => {
      restartWith(driver, 0xfee0_0000, 0xfee0_1000, 0xfee0_2000, QUEUE_SIZE);
    },
  ],
  ...[0, 3, 48, 512, 0xffff].map(
    (size) =>
      [
        `a queue of ${size}`,
        (driver: BoardDriver) => restartWith(driver, 0x1000, 0x2000, 0x3000, size),
      ] as const,
  ),
  ...(
    [
      [0x1008, 0x2000, 0x3000],
      [0x1000, 0x2001, 0x3000],
      [0x1000, 0x2000, 0x3002],
    ] as const
  ).map(
    ([a, b, c]) =>
      [
        `rings that are not aligned (${a.toString(16)}, ${b.toString(16)}, ${c.toString(16)})`,
        (driver: BoardDriver) => restartWith(driver, a, b, c, QUEUE_SIZE),
      ] as const,
  ),
];

function last(driver: BoardDriver) {
  return driver.queues.at(-1)!;
}

function offered(driver: BoardDriver, address: number, length: number, flags: number, next: number): void {
  last(driver).describe(0, BigInt(address), length, flags, next);
  last(driver).offer(0);
}

function restartWith(
  driver: BoardDriver,
  descriptors: number,
  available: number,
  used: number,
  size: number,
): boolean {
  driver.write(REGISTER.status, 1, 0);
  driver.write(REGISTER.status, 1, 3);
  driver.write(REGISTER.driverFeatureSelect, 4, 1);
  driver.write(REGISTER.driverFeature, 4, 1);
  driver.write(REGISTER.status, 1, 11);
  for (let index = 0; index < driver.queues.length; index++)
    driver.place(index, descriptors, available, used, size);
  const early = driver.needsReset;
  driver.write(REGISTER.status, 1, 15);
  return early;
}

describe.each(KINDS)('%s: DEVICE_NEEDS_RESET and a configuration interrupt [virtio 2.1.2] for', (kind) => {
  const board = new VirtioBoard();
  it.each(BROKEN)('%s', (_, spoil) => {
    board.powerOn();
    const driver = new BoardDriver(board, kind).start();
    expect(driver.needsReset).toBe(false);
    const early = spoil(driver);
    driver.ring(driver.queues.length - 1);
    expect(driver.needsReset).toBe(true);
    // One that failed before DRIVER_OK has nobody to tell.
    if (early !== true) expect(driver.read(REGISTER.isr, 1) & 2).toBe(2);
    // Until then it does nothing more.
    const before = { ram: board.guest.bytes.slice(), outputs: board.outputs };
    for (let queue = 0; queue < driver.queues.length; queue++) driver.ring(queue);
    driver.write(REGISTER.status, 1, 15);
    board.net.receive({ frame: new Uint8Array(60) });
    board.console.receive(new Uint8Array(6));
    expect(Buffer.compare(before.ram, board.guest.bytes)).toBe(0);
    expect(board.outputs).toBe(before.outputs);
    expect(driver.needsReset).toBe(true);
    expect(board.strayStores).toEqual([]);
    expect(driver.works()).toBe(true);
  });
});
