import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { type GuestNanoseconds, guestNanoseconds } from '../base/units.ts';
import type { Bus, Device, GuestClock, MmioHandler, MmioRange, PortHandler, Timer } from './device.ts';

/** The machine's side of the device contract, as small as device tests need it. */

class FakeTimer implements Timer {
  deadline: GuestNanoseconds | undefined;
  readonly fire: () => void;

  constructor(fire: () => void) {
    this.fire = fire;
  }

  arm(deadline: GuestNanoseconds): void {
    this.deadline = deadline;
  }

  disarm(): void {
    this.deadline = undefined;
  }
}

export class FakeClock implements GuestClock {
  readonly #timers: FakeTimer[] = [];
  #now = 0n;

  now(): GuestNanoseconds {
    return guestNanoseconds(this.#now);
  }

  timer(_name: string, fire: () => void): Timer {
    const timer = new FakeTimer(fire);
    this.#timers.push(timer);
    return timer;
  }

  /** Lets guest time pass and fires what falls due, each timer at its own deadline. */
  advance(nanoseconds: bigint | number): void {
    const until = this.#now + BigInt(nanoseconds);
    for (;;) {
      let next: FakeTimer | undefined;
      for (const timer of this.#timers) {
        if (timer.deadline === undefined || timer.deadline > until) continue;
        if (next?.deadline === undefined || timer.deadline < next.deadline) next = timer;
      }
      if (next?.deadline === undefined) break;
      if (next.deadline > this.#now) this.#now = next.deadline;
      next.disarm();
      next.fire();
    }
    this.#now = until;
  }

  /** Jumps without stopping at deadlines: they are all late, as after a long adjustment. */
  jump(nanoseconds: bigint | number): void {
    this.#now += BigInt(nanoseconds);
    this.advance(0);
  }

  get nextDeadline(): bigint | undefined {
    let first: bigint | undefined;
    for (const { deadline } of this.#timers) {
      if (deadline !== undefined && (first === undefined || deadline < first)) first = deadline;
    }
    return first;
  }
}

interface FakeRange {
  address: number | undefined;
  readonly length: number;
  readonly handler: MmioHandler;
}

export class FakeBus implements Bus {
  readonly #ports = new Map<number, PortHandler>();
  readonly #ranges: FakeRange[] = [];

  ports(first: number, last: number, handler: PortHandler): void {
    for (let port = first; port <= last; port++) {
      if (this.#ports.has(port)) throw new Error(`port ${port.toString(16)} claimed twice`);
      this.#ports.set(port, handler);
    }
  }

  mmio(address: number, length: number, handler: MmioHandler): MmioRange {
    const range: FakeRange = { address, length, handler };
    this.#ranges.push(range);
    return {
      place(to) {
        range.address = to;
      },
    };
  }

  input(port: number, size = 1): number {
    return this.#ports.get(port)?.readPort(port, size) ?? 2 ** (8 * size) - 1;
  }

  output(port: number, value: number, size = 1): void {
    this.#ports.get(port)?.writePort(port, size, value);
  }

  read(address: number, size = 4): number {
    const range = this.#at(address);
    return range ? Number(range.handler.readMmio(address - range.address!, size)) : -1;
  }

  write(address: number, value: number, size = 4): void {
    const range = this.#at(address);
    range?.handler.writeMmio(address - range.address!, size, BigInt(value));
  }

  #at(address: number): FakeRange | undefined {
    return this.#ranges.find(
      (range) =>
        range.address !== undefined && address >= range.address && address < range.address + range.length,
    );
  }
}

export function savedBytes(device: Device): Uint8Array {
  const writer = new ByteWriter();
  device.save(writer);
  return writer.finish();
}

/** Loads `bytes` into a device and says how many were left over. */
export function loadBytes(device: Device, bytes: Uint8Array): number {
  const reader = new ByteReader(bytes);
  device.load(reader);
  return reader.remaining;
}
