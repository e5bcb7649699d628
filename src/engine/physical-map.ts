import { assert } from '../base/assert.ts';
import type { MmioHandler, MmioRange } from '../device/device.ts';

/** Start of the hole for PCI and the local APIC; RAM beyond it continues at 4 GiB. */
export const HOLE_START = 0xc000_0000;
export const HIGH_START = 0x1_0000_0000;

interface Region {
  start: number | undefined;
  readonly length: number;
  readonly handler: MmioHandler;
}

/** Which guest physical address is RAM, which is a device, which is nothing. */
export class PhysicalMap {
  readonly #lowBytes: number;
  readonly #ramBytes: number;
  readonly #regions: Region[] = [];

  constructor(ramBytes: number) {
    this.#ramBytes = ramBytes;
    this.#lowBytes = Math.min(ramBytes, HOLE_START);
  }

  /** Offset into RAM, or -1 when the address is not RAM. */
  ramOffset(address: number): number {
    if (address < this.#lowBytes) return address;
    if (address < HIGH_START) return -1;
    const offset = address - HIGH_START + this.#lowBytes;
    return offset < this.#ramBytes ? offset : -1;
  }

  /** The guest physical address of a RAM offset. */
  address(offset: number): number {
    return offset < this.#lowBytes ? offset : offset - this.#lowBytes + HIGH_START;
  }

  mmio(address: number, length: number, handler: MmioHandler): MmioRange {
    assert(length > 0, 'a range of registers is not empty');
    const region: Region = { start: address, length, handler };
    this.#regions.push(region);
    return {
      place(at) {
        region.start = at;
      },
    };
  }

  /** Unclaimed addresses read all ones. */
  read(address: number, size: number): bigint {
    const region = this.#region(address, size);
    const ones = (1n << BigInt(size * 8)) - 1n;
    return region === undefined ? ones : region.handler.readMmio(address - region.start!, size) & ones;
  }

  write(address: number, size: number, value: bigint): void {
    const region = this.#region(address, size);
    region?.handler.writeMmio(address - region.start!, size, BigInt.asUintN(size * 8, value));
  }

  /** RAM is looked up first, so a BAR placed over it is hidden, as behind a real memory controller. */
  #region(address: number, size: number): Region | undefined {
    for (const region of this.#regions) {
      if (region.start === undefined) continue;
      if (address >= region.start && address + size <= region.start + region.length) return region;
    }
    return undefined;
  }
}
