import { type Packet, SEGMENT_HEADERS_MAX, SEGMENTS_MAX } from '../../src/base/packet/offload.ts';
import { wireFrames } from '../../src/base/packet/segmentation.ts';
import { FakeClock, loadBytes, savedBytes } from '../../src/device/fake-machine.ts';
import { createPlatform, type Platform } from '../../src/device/platform.ts';
import { BlockDevice } from '../../src/device/virtio/block/device.ts';
import { ConsoleDevice } from '../../src/device/virtio/console/device.ts';
import { FRAME_BYTES_MAX, NetDevice } from '../../src/device/virtio/net/device.ts';
import { RngDevice } from '../../src/device/virtio/rng/device.ts';
import { DriverQueue, INDIRECT, WRITE } from '../../src/device/virtio/testing/driver.ts';
import { GuestRam } from '../../src/device/virtio/testing/guest-ram.ts';
import { VirtioPci } from '../../src/device/virtio/transport.ts';
import type { VirtioDevice } from '../../src/device/virtio/virtio-device.ts';
import { PhysicalMap } from '../../src/engine/physical-map.ts';
import { PortSpace } from '../../src/machine/ports.ts';
import { Ram } from '../../src/machine/ram.ts';
import { Random } from '../silicon/random.ts';

/** The machine without its processor: real ports, real physical map, real PCI; the test does what a guest would. */
export const RAM_BYTES = 0x1_0000;
export const QUEUE_SIZE = 16;
const CAPACITY = 1 << 20;
/** Where the rings of a well-made driver stand; buffers come behind. */
const RINGS = 0x1000;
const HEAP = 0x4000;

export const KINDS = ['block', 'net', 'console', 'rng'] as const;
export type Kind = (typeof KINDS)[number];

/** Offsets in the first BAR [virtio 4.1.4.3]. */
export const REGISTER = {
  deviceFeatureSelect: 0,
  deviceFeature: 4,
  driverFeatureSelect: 8,
  driverFeature: 12,
  queueCount: 18,
  status: 20,
  queueSelect: 22,
  queueSize: 24,
  queueEnable: 28,
  descriptorArea: 32,
  driverArea: 40,
  deviceArea: 48,
  isr: 0x1000,
  device: 0x2000,
  bell: 0x3000,
} as const;
export const NEEDS_RESET = 64;

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Of four bytes each, in one bell: an honest one of 16 chains takes some hundred. */
export const BELL_READS_MAX = 400_000;

/** Counts what its devices read. */
class CountingRam extends Ram {
  reads = 0;

  override readU32(address: number): number | undefined {
    this.reads += 1;
    return super.readU32(address);
  }
}

export class VirtioBoard {
  readonly guest = new GuestRam(RAM_BYTES);
  readonly map = new PhysicalMap(RAM_BYTES);
  readonly ports = new PortSpace();
  readonly platform: Platform;
  readonly functions: Readonly<Record<Kind, VirtioPci>>;
  readonly block: BlockDevice;
  readonly net: NetDevice;
  readonly console: ConsoleDevice;
  outputs = 0;
  /** Stores by devices to what no ring gave them. */
  readonly strayStores: string[] = [];
  stores = 0;
  /** What costs the host more than it may. */
  readonly excesses: string[] = [];
  readonly #ram: CountingRam;
  readonly #allowed = new Map<number, Range>();
  #random = new Random(0);
  /** The state of each device at first: a disk numbers its requests through all resets. */
  readonly #pristine: readonly Uint8Array[];

  constructor() {
    this.platform = createPlatform({
      bus: {
        ports: (first, last, handler) => this.ports.claim(first, last, handler),
        mmio: (address, length, handler) => this.map.mmio(address, length, handler),
      },
      clock: new FakeClock(),
      tscFrequencyHz: 1_000_000_000,
      startEpochSeconds: 0,
      onPower: () => {},
      onSerialOutput: () => {},
    });
    const ram = new CountingRam(this.guest.bytes, this.map, (offset, bytes) => this.#stored(offset, bytes));
    this.#ram = ram;
    const output = () => {
      this.outputs += 1;
    };
    const mac = Uint8Array.of(2, 3, 4, 5, 6, 7);
    this.block = new BlockDevice(
      {
        name: 'block',
        capacity: CAPACITY,
        readOnly: false,
        serial: 's',
        onRequest: ({ operation, offset, length, data }) => {
          output();
          const carried = operation === 'write' ? length : 0;
          if (offset < 0 || length < 0 || offset + length > CAPACITY || data.length !== carried)
            this.strayStores.push(`${operation} of ${length} bytes at ${offset} of the disk`);
        },
      },
      ram,
    );
    const onPacket = (packet: Packet) => {
      output();
      const { length } = packet.frame;
      const wire = wireFrames(packet).reduce((sum, frame) => sum + frame.length, 0);
      if (length > FRAME_BYTES_MAX || wire > length + SEGMENTS_MAX * SEGMENT_HEADERS_MAX)
        this.excesses.push(`a packet of ${length} bytes takes ${wire} on a wire`);
    };
    this.net = new NetDevice({ name: 'net', mac, onPacket }, ram);
    this.console = new ConsoleDevice({ name: 'console', onBytes: output }, ram);
    const rng = new RngDevice(
      { name: 'rng', entropy: { next: (length) => this.#random.bytes(length) } },
      ram,
    );
    this.functions = {
      block: new VirtioPci(this.block),
      net: new VirtioPci(this.net),
      console: new VirtioPci(this.console),
      rng: new VirtioPci(rng),
    };
    for (const kind of KINDS) this.platform.pci.add(this.functions[kind]);
    this.platform.pci.assignBars();
    this.#pristine = this.platform.devices().map((device) => savedBytes(device));
  }

  /** As after power-on, with RAM full of what looks like nothing. */
  powerOn(): void {
    for (const [index, device] of this.platform.devices().entries())
      loadBytes(device, this.#pristine[index]!);
    this.guest.bytes.fill(0xa5);
    this.#random = new Random(0);
    this.outputs = 0;
    this.stores = 0;
    this.strayStores.length = 0;
    this.excesses.length = 0;
    this.#allowed.clear();
  }

  /** The first thing that is not as in the other board. */
  difference(other: VirtioBoard): string | undefined {
    if (Buffer.compare(this.guest.bytes, other.guest.bytes) !== 0) return 'RAM';
    const theirs = other.platform.devices();
    const index = this.platform
      .devices()
      .findIndex((device, at) => Buffer.compare(savedBytes(device), savedBytes(theirs[at]!)) !== 0);
    return theirs[index]?.name;
  }

  // ---------------------------------------------------------------------------------- as the guest

  configuration(kind: Kind, offset: number, size: number, value?: number): number {
    const slot = KINDS.indexOf(kind) + 1;
    this.ports.write(0xcf8, 4, (0x8000_0000 | (slot << 11) | (offset & 0xfc)) >>> 0);
    if (value === undefined) return this.ports.read(0xcfc + (offset & 3), size);
    this.ports.write(0xcfc + (offset & 3), size, value);
    return value;
  }

  /** Does what a bell, or the network, makes a device do. */
  bounded(what: string, act: () => void): void {
    const before = this.#ram.reads;
    act();
    const reads = this.#ram.reads - before;
    if (reads > BELL_READS_MAX) this.excesses.push(`${what} makes a device read ${reads} times`);
  }

  bar(kind: Kind, index: number): number {
    return (this.configuration(kind, 0x10 + 4 * index, 4) & ~15) >>> 0;
  }

  // ---------------------------------------------------------------------------------- what devices may store to

  /** Everything that the rings allow a device to write now; what they allowed before stays allowed: it may be late. */
  allow(): void {
    for (const kind of KINDS) {
      for (const queue of this.functions[kind].device.queues) {
        if (!queue.enabled) continue;
        this.#add(Number(queue.deviceArea), 6 + 8 * queue.size);
        this.#allowTable(Number(queue.descriptorArea), queue.size, true);
      }
    }
  }

  #allowTable(at: number, size: number, indirect: boolean): void {
    for (let index = 0; index < Math.min(size, 1024); index++) {
      const descriptor = at + 16 * index;
      if (descriptor + 16 > RAM_BYTES) return;
      const address = this.guest.readU32(descriptor)! + this.guest.readU32(descriptor + 4)! * 2 ** 32;
      const length = this.guest.readU32(descriptor + 8)!;
      const flags = this.guest.readU16(descriptor + 12)!;
      if (flags & INDIRECT && indirect) this.#allowTable(address, Math.floor(length / 16), false);
      else if (flags & WRITE) this.#add(address, length);
    }
  }

  #add(start: number, length: number): void {
    if (start < RAM_BYTES) this.#allowed.set(start * 2 ** 33 + length, { start, end: start + length });
  }

  #isAllowed(start: number, end: number): boolean {
    for (const range of this.#allowed.values()) if (start >= range.start && end <= range.end) return true;
    return false;
  }

  #stored(offset: number, bytes: Uint8Array): void {
    this.stores += 1;
    const end = offset + bytes.length;
    if (!this.#isAllowed(offset, end)) {
      // What was stored just now may itself be a descriptor.
      this.allow();
      if (!this.#isAllowed(offset, end))
        this.strayStores.push(`${offset.toString(16)} to ${end.toString(16)}`);
    }
    this.guest.bytes.set(bytes, offset);
  }
}

/** The driver of one device, which knows nothing but registers and rings. */
export class BoardDriver {
  readonly board: VirtioBoard;
  readonly kind: Kind;
  readonly base: number;
  queues: DriverQueue[] = [];
  #heap = HEAP;

  constructor(board: VirtioBoard, kind: Kind) {
    this.board = board;
    this.kind = kind;
    this.base = board.bar(kind, 0);
  }

  get device(): VirtioDevice {
    return this.board.functions[this.kind].device;
  }

  read(register: number, size: number): number {
    return Number(this.board.map.read(this.base + register, size));
  }

  write(register: number, size: number, value: number | bigint): void {
    this.board.allow();
    this.board.map.write(this.base + register, size, BigInt(value));
  }

  get needsReset(): boolean {
    return (this.read(REGISTER.status, 1) & NEEDS_RESET) !== 0;
  }

  ring(queue: number): void {
    this.board.bounded('a bell', () => this.write(REGISTER.bell + 4 * queue, 2, queue));
  }

  /** From reset to DRIVER_OK [virtio 3.1.1]; undefined features: all that are offered. */
  start(features?: bigint): this {
    this.write(REGISTER.status, 1, 0);
    this.write(REGISTER.status, 1, 3);
    for (const select of [0, 1]) {
      this.write(REGISTER.deviceFeatureSelect, 4, select);
      const offered = this.read(REGISTER.deviceFeature, 4);
      this.write(REGISTER.driverFeatureSelect, 4, select);
      this.write(
        REGISTER.driverFeature,
        4,
        features === undefined ? offered : (features >> BigInt(32 * select)) & 0xffff_ffffn,
      );
    }
    this.write(REGISTER.status, 1, 11);
    let at = RINGS;
    this.queues = [];
    // Registers that PCI does not show read as all ones.
    const count = Math.min(this.read(REGISTER.queueCount, 2), this.device.queues.length);
    for (let index = 0; index < count; index++) {
      const queue = new DriverQueue(this.board.guest, at, QUEUE_SIZE);
      this.board.guest.bytes.fill(0, queue.descriptors, queue.end);
      at = (queue.end + 15) & ~15;
      this.queues.push(queue);
      this.place(index, queue.descriptors, queue.available, queue.used, QUEUE_SIZE);
    }
    this.#heap = HEAP;
    this.write(REGISTER.status, 1, 15);
    return this;
  }

  place(
    index: number,
    descriptors: number | bigint,
    available: number | bigint,
    used: number | bigint,
    size: number,
  ): void {
    this.write(REGISTER.queueSelect, 2, index);
    this.write(REGISTER.queueSize, 2, size);
    this.write(REGISTER.descriptorArea, 8, descriptors);
    this.write(REGISTER.driverArea, 8, available);
    this.write(REGISTER.deviceArea, 8, used);
    this.write(REGISTER.queueEnable, 2, 1);
  }

  /** A chain of buffers: bytes to read, or a number of bytes to write. */
  add(queue: number, buffers: readonly (Uint8Array | number)[]): number {
    const placed = buffers.map((buffer) => {
      const length = typeof buffer === 'number' ? buffer : buffer.length;
      if (this.#heap + length > RAM_BYTES) this.#heap = HEAP;
      const address = this.#heap;
      this.#heap += (length + 15) & ~15;
      if (typeof buffer !== 'number') this.board.guest.write(address, buffer);
      return { address, length, write: typeof buffer === 'number' };
    });
    return this.queues[queue]!.add(placed);
  }

  /** The device answers a request of an honest driver, after a reset. */
  works(): boolean {
    while (this.board.block.pendingRequests().length > 0)
      this.board.block.complete(this.board.block.pendingRequests()[0]!.request, 'error', new Uint8Array(0));
    this.start();
    const header = new Uint8Array(16);
    header[0] = 8; // For a disk: GET_ID.
    const queue = this.queues.length - 1;
    this.add(
      queue,
      this.kind === 'rng' ? [8] : this.kind === 'block' ? [header, 20, 1] : [header, new Uint8Array(60)],
    );
    this.ring(queue);
    return this.queues[queue]!.takeUsed().length === 1 && !this.needsReset;
  }
}
