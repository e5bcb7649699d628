import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { GuestNanoseconds } from '../base/units.ts';

/** What a device may know of the rest of the machine. No clock, no randomness, no I/O: see the one door. */

/** A level-sensitive interrupt line into the interrupt controllers. */
export interface InterruptLine {
  set(level: boolean): void;
}

/** Receives a message-signalled interrupt: a 32-bit write of `data` to physical `address`. */
export interface MessageInterrupts {
  send(address: bigint, data: number): void;
}

/** One timer of a device. It fires when guest time reaches its deadline, before the next instruction. */
export interface Timer {
  readonly deadline: GuestNanoseconds | undefined;
  arm(deadline: GuestNanoseconds): void;
  disarm(): void;
}

export interface GuestClock {
  /** Guest time at the exact current count. */
  now(): GuestNanoseconds;
  /** Creates a timer. Timers due at the same time fire in the order of their creation. */
  timer(name: string, fire: () => void): Timer;
}

/**
 * Guest RAM as devices see it (DMA). Addresses and lengths come from the guest: every access is checked, and
 * one that is not wholly RAM gives undefined / false and changes nothing. Stores keep the engine's caches of
 * code and translations exact.
 */
export interface GuestMemory {
  /** A copy of the bytes, or undefined when the range is not wholly RAM. */
  read(address: number, length: number): Uint8Array | undefined;
  write(address: number, bytes: Uint8Array): boolean;
  readU16(address: number): number | undefined;
  readU32(address: number): number | undefined;
  readU64(address: number): bigint | undefined;
  writeU16(address: number, value: number): boolean;
  writeU32(address: number, value: number): boolean;
}

/** A range of I/O ports. `size` is 1, 2 or 4 bytes; a read returns an unsigned value of that size. */
export interface PortHandler {
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
}

/** A range of memory-mapped registers. `offset` is from the range's start; `size` is 1, 2, 4 or 8 bytes. */
export interface MmioHandler {
  readMmio(offset: number, size: number): bigint;
  writeMmio(offset: number, size: number, value: bigint): void;
}

/** Where devices claim ports and physical ranges. Implemented by the machine. */
export interface Bus {
  ports(first: number, last: number, handler: PortHandler): void;
  /** Returns a handle whose range can be moved (PCI BARs) or switched off. */
  mmio(address: number, length: number, handler: MmioHandler): MmioRange;
}

export interface MmioRange {
  /** Moves the range; undefined switches it off. */
  place(address: number | undefined): void;
}

/**
 * A device has state, and all of it is in `save`: the digest, snapshots and clones are made of it. `load`
 * restores exactly what `save` wrote, timers included.
 */
export interface Device {
  readonly name: string;
  reset(): void;
  save(writer: ByteWriter): void;
  load(reader: ByteReader): void;
}
