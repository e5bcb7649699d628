import type { GuestMemory } from '../../device.ts';

/** Guest RAM for tests: one array with holes that are not RAM (ROM, device registers). */
export class GuestRam implements GuestMemory {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #holes: readonly { readonly start: number; readonly end: number }[];

  constructor(size: number, holes: readonly { readonly start: number; readonly end: number }[] = []) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.#holes = holes;
  }

  read(address: number, length: number): Uint8Array | undefined {
    return this.#isRam(address, length) ? this.bytes.slice(address, address + length) : undefined;
  }

  write(address: number, bytes: Uint8Array): boolean {
    if (!this.#isRam(address, bytes.length)) return false;
    this.bytes.set(bytes, address);
    return true;
  }

  readU16(address: number): number | undefined {
    return this.#isRam(address, 2) ? this.#view.getUint16(address, true) : undefined;
  }

  readU32(address: number): number | undefined {
    return this.#isRam(address, 4) ? this.#view.getUint32(address, true) : undefined;
  }

  readU64(address: number): bigint | undefined {
    return this.#isRam(address, 8) ? this.#view.getBigUint64(address, true) : undefined;
  }

  writeU16(address: number, value: number): boolean {
    if (!this.#isRam(address, 2)) return false;
    this.#view.setUint16(address, value, true);
    return true;
  }

  writeU32(address: number, value: number): boolean {
    if (!this.#isRam(address, 4)) return false;
    this.#view.setUint32(address, value, true);
    return true;
  }

  #isRam(address: number, length: number): boolean {
    if (!Number.isInteger(address) || !Number.isInteger(length) || address < 0 || length < 0) {
      throw new Error(`a device asked for ${length} bytes at ${address}: not even an address`);
    }
    if (address + length > this.bytes.length) return false;
    return !this.#holes.some((hole) => address < hole.end && hole.start < address + length);
  }
}
