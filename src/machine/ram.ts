import type { GuestMemory } from '../device/device.ts';
import type { PhysicalMap } from '../engine/physical-map.ts';

/** Guest RAM for devices. Stores go through the engine, which keeps its caches exact. */
export class Ram implements GuestMemory {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #map: PhysicalMap;
  readonly #store: (offset: number, bytes: Uint8Array) => void;
  readonly #word = new Uint8Array(4);

  constructor(bytes: Uint8Array, map: PhysicalMap, store: (offset: number, bytes: Uint8Array) => void) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#map = map;
    this.#store = store;
  }

  /** RAM offset when the whole range is RAM and contiguous, else -1. */
  #range(address: number, length: number): number {
    if (!Number.isSafeInteger(address) || address < 0 || length < 0) return -1;
    const offset = this.#map.ramOffset(address);
    if (offset < 0 || length === 0) return offset;
    const last = this.#map.ramOffset(address + length - 1);
    return last === offset + length - 1 ? offset : -1;
  }

  read(address: number, length: number): Uint8Array | undefined {
    const offset = this.#range(address, length);
    return offset < 0 ? undefined : this.#bytes.slice(offset, offset + length);
  }

  write(address: number, bytes: Uint8Array): boolean {
    const offset = this.#range(address, bytes.length);
    if (offset < 0) return false;
    this.#store(offset, bytes);
    return true;
  }

  readU16(address: number): number | undefined {
    const offset = this.#range(address, 2);
    return offset < 0 ? undefined : this.#view.getUint16(offset, true);
  }

  readU32(address: number): number | undefined {
    const offset = this.#range(address, 4);
    return offset < 0 ? undefined : this.#view.getUint32(offset, true);
  }

  readU64(address: number): bigint | undefined {
    const offset = this.#range(address, 8);
    return offset < 0 ? undefined : this.#view.getBigUint64(offset, true);
  }

  writeU16(address: number, value: number): boolean {
    this.#word[0] = value;
    this.#word[1] = value >>> 8;
    return this.write(address, this.#word.subarray(0, 2));
  }

  writeU32(address: number, value: number): boolean {
    for (let index = 0; index < 4; index++) this.#word[index] = value >>> (index * 8);
    return this.write(address, this.#word);
  }
}
