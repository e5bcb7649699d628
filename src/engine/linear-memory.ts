import type { Privilege } from '../x86/cpu.ts';
import { ACCESS_READ, ACCESS_WRITE, type AccessKind } from '../x86/paging.ts';
import type { CpuState, Size } from '../x86/state.ts';
import { AccessRules } from './access-rules.ts';
import { BulkSpans } from './bulk-spans.ts';
import type { CodeCache } from './code-cache.ts';
import { type EngineLayout, PAGE } from './layout.ts';
import { highHalf, lowHalf, runsAsUser } from './linear-address.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';
import type { PhysicalMap } from './physical-map.ts';
import { RamStores } from './ram-stores.ts';

/**
 * Guest memory at linear addresses, without the translation cache: walks, devices, pages that are watched. An access that
 * is not made says why in what is pending.
 */
export class LinearMemory {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly #mmu: Mmu;
  /** Called before a device is accessed: the exact count must be known. */
  readonly #beforeDevice: () => void;

  readonly #pending: Pending;
  readonly #rules: AccessRules;
  readonly #stores: RamStores;
  readonly #spans: BulkSpans;

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    state: CpuState,
    map: PhysicalMap,
    mmu: Mmu,
    code: CodeCache,
    pending: Pending,
    beforeDevice: () => void,
  ) {
    this.#state = state;
    this.#layout = layout;
    this.#map = map;
    this.#u8 = new Uint8Array(buffer);
    this.#mmu = mmu;
    this.#pending = pending;
    this.#rules = new AccessRules(state, mmu, pending);
    this.#stores = new RamStores(buffer, layout, mmu, code, pending);
    this.#spans = new BulkSpans({ buffer, layout, state, map, mmu, code, pending });
    this.#beforeDevice = beforeDevice;
  }

  // ------------------------------------------------------------------------------------------ accesses

  /** Physical page of a linear address, or -1 with the fault pending. */
  #translate(low: number, high: number, access: AccessKind, user: boolean): number {
    const page = this.#mmu.translate(low, high, access, user);
    if (page >= 0) return page;
    this.#pending.untranslated(low, high);
    return -1;
  }

  /** What an access has to pass before it is read or written here; false: something is pending. */
  permitted(low: number, high: number, size: number, user: boolean, write: boolean): boolean {
    return this.#rules.permitted(low, high, size, user, write);
  }

  /** Reads `size` bytes at a linear address into `into`, zero-padded to 8. */
  read(low: number, high: number, into: Uint8Array, size: number, user: boolean, forWrite: boolean): boolean {
    const kind = forWrite ? ACCESS_WRITE : ACCESS_READ;
    const inPage = low & 0xfff;
    const page = this.#translate(low, high, kind, user);
    if (page < 0) return false;
    if (inPage + size <= PAGE) {
      const offset = this.#map.ramOffset(page);
      if (offset < 0) return this.#readDevice(page + inPage, into, size);
      this.#mmu.fill(low, high, offset, user);
      if (forWrite && !this.#stores.mayStore(offset + inPage, size)) return false;
      const from = this.#layout.ram + offset + inPage;
      if (size < 8) into.fill(0, 0, 8);
      for (let index = 0; index < size; index++) into[index] = this.#u8[from + index]!;
      return true;
    }
    const head = PAGE - inPage;
    const nextLow = ((low & ~0xfff) + PAGE) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, kind, user);
    if (second < 0) return false;
    if (size < 8) into.fill(0, 0, 8);
    const first = this.#map.ramOffset(page);
    const next = this.#map.ramOffset(second);
    if (forWrite && first >= 0 && !this.#stores.mayStore(first + inPage, head)) return false;
    if (forWrite && next >= 0 && !this.#stores.mayStore(next, size - head)) return false;
    return this.#readPart(page + inPage, into, 0, head) && this.#readPart(second, into, head, size - head);
  }

  #readPart(address: number, into: Uint8Array, at: number, length: number): boolean {
    const offset = this.#map.ramOffset(address);
    if (offset < 0) {
      // A device access that crosses pages is made byte by byte.
      for (let index = 0; index < length; index++) {
        if (!this.#readDevice(address + index, into.subarray(at + index), 1)) return false;
      }
      return true;
    }
    const from = this.#layout.ram + offset;
    for (let index = 0; index < length; index++) into[at + index] = this.#u8[from + index]!;
    return true;
  }

  #readDevice(address: number, into: Uint8Array, size: number): boolean {
    if (!this.#pending.alone()) return false;
    if (size === 16)
      return this.#readDevice(address, into, 8) && this.#readDevice(address + 8, into.subarray(8), 8);
    this.#beforeDevice();
    const value = this.#map.read(address, size);
    for (let index = 0; index < Math.min(8, into.length); index++) {
      into[index] = index < size ? Number((value >> BigInt(index * 8)) & 0xffn) : 0;
    }
    return true;
  }

  write(low: number, high: number, value: Uint8Array, size: number, user: boolean): boolean {
    const inPage = low & 0xfff;
    const page = this.#translate(low, high, ACCESS_WRITE, user);
    if (page < 0) return false;
    if (inPage + size <= PAGE) {
      const offset = this.#map.ramOffset(page);
      if (offset < 0) return this.#writeDevice(page + inPage, value, size);
      // First, because it watches the tables that the page hangs on: the store may be to one of them.
      this.#mmu.fill(low, high, offset, user);
      if (!this.#stores.mayStore(offset + inPage, size)) return false;
      this.#stores.store(offset + inPage, value, 0, size);
      return true;
    }
    const head = PAGE - inPage;
    const nextLow = ((low & ~0xfff) + PAGE) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, ACCESS_WRITE, user);
    if (second < 0) return false;
    const first = this.#map.ramOffset(page);
    const next = this.#map.ramOffset(second);
    if ((first < 0 || next < 0) && !this.#pending.alone()) return false;
    if (first >= 0 && !this.#stores.mayStore(first + inPage, head)) return false;
    if (next >= 0 && !this.#stores.mayStore(next, size - head)) return false;
    this.#writePart(page + inPage, value, 0, head);
    this.#writePart(second, value, head, size - head);
    return true;
  }

  #writePart(address: number, value: Uint8Array, at: number, length: number): void {
    const offset = this.#map.ramOffset(address);
    if (offset >= 0) {
      this.#stores.store(offset, value, at, length);
      return;
    }
    for (let index = 0; index < length; index++)
      this.#map.write(address + index, 1, BigInt(value[at + index]!));
  }

  #writeDevice(address: number, value: Uint8Array, size: number): boolean {
    if (!this.#pending.alone()) return false;
    this.#beforeDevice();
    for (let at = 0; at < size; at += 8) {
      let bits = 0n;
      for (let index = Math.min(8, size - at) - 1; index >= 0; index--)
        bits = (bits << 8n) | BigInt(value[at + index]!);
      this.#map.write(address + at, Math.min(8, size), bits);
    }
    return true;
  }

  /** A store by a device: within RAM, may cross pages. */
  storePhysical(offset: number, bytes: Uint8Array): void {
    this.#stores.storePhysical(offset, bytes);
  }

  // ------------------------------------------------------------------------------------------ for slow-path code (x86/cpu.ts)

  #user(privilege: Privilege | undefined): boolean {
    return runsAsUser(this.#state, privilege);
  }

  readonly #scratch = new Uint8Array(16);
  readonly #scratchView = new DataView(this.#scratch.buffer);

  load(size: Size, linear: bigint, privilege?: Privilege): bigint | undefined {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (!this.#rules.throughSegment(low, size, false, privilege)) return undefined;
    if (!this.#rules.permittedLinear(low, high, size, this.#user(privilege), false)) return undefined;
    return this.#load(low, high, size, privilege);
  }

  #load(low: number, high: number, size: Size, privilege: Privilege | undefined): bigint | undefined {
    if (!this.read(low, high, this.#scratch, size, this.#user(privilege), false)) return undefined;
    return this.#scratchView.getBigUint64(0, true);
  }

  store(size: Size, linear: bigint, value: bigint, privilege?: Privilege): boolean {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (!this.#rules.throughSegment(low, size, true, privilege)) return false;
    if (!this.#rules.permittedLinear(low, high, size, this.#user(privilege), true)) return false;
    return this.#store(low, high, size, value, privilege);
  }

  #store(low: number, high: number, size: Size, value: bigint, privilege: Privilege | undefined): boolean {
    this.#scratchView.setBigUint64(0, BigInt.asUintN(64, value), true);
    return this.write(low, high, this.#scratch, size, this.#user(privilege));
  }

  loadBytes(linear: bigint, length: number, privilege?: Privilege): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    const user = this.#user(privilege);
    let low = lowHalf(linear);
    let high = highHalf(linear);
    if (!this.#rules.throughSegment(low, length, false, privilege)) return undefined;
    if (!this.#rules.withinLimit(low, high, firstPart(length))) return undefined;
    if (!this.#rules.aligned(low, high, alignmentOf(length), user)) return undefined;
    if (!this.#rules.watched(low, high, length, false)) return undefined;
    for (let at = 0; at < length; ) {
      const size = partSize(length - at, low);
      if (!this.#rules.partWithinLimit(low, high, size, at)) return undefined;
      if (!this.read(low, high, this.#scratch, size, user, false)) return undefined;
      for (let index = 0; index < size; index++) bytes[at + index] = this.#scratch[index]!;
      at += size;
      if ((low >>> 0) + size > 0xffff_ffff) high = (high + 1) | 0;
      low = (low + size) | 0;
    }
    return bytes;
  }

  storeBytes(linear: bigint, bytes: Uint8Array, privilege?: Privilege): boolean {
    const { length } = bytes;
    const user = this.#user(privilege);
    let low = lowHalf(linear);
    let high = highHalf(linear);
    if (!this.#rules.throughSegment(low, length, true, privilege)) return false;
    if (!this.#rules.withinLimit(low, high, firstPart(length))) return false;
    if (!this.#rules.aligned(low, high, alignmentOf(length), user)) return false;
    if (!this.#accessible(linear, length, ACCESS_WRITE, user)) return false;
    if (!this.#rules.watched(low, high, length, true)) return false;
    for (let at = 0; at < length; ) {
      const size = partSize(length - at, low);
      for (let index = 0; index < size; index++) this.#scratch[index] = bytes[at + index]!;
      if (!this.write(low, high, this.#scratch, size, user)) return false;
      at += size;
      if ((low >>> 0) + size > 0xffff_ffff) high = (high + 1) | 0;
      low = (low + size) | 0;
    }
    return true;
  }

  probe(linear: bigint, length: number, access: 'read' | 'write', privilege?: Privilege): boolean {
    const user = this.#user(privilege);
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    return (
      this.#rules.throughSegment(lowHalf(linear), length, access === 'write', privilege) &&
      this.#rules.withinLimit(lowHalf(linear), highHalf(linear), firstPart(length)) &&
      this.#rules.aligned(lowHalf(linear), highHalf(linear), probeAlignment(length), user) &&
      this.#accessible(linear, length, kind, user)
    );
  }

  #accessible(linear: bigint, length: number, kind: AccessKind, user: boolean): boolean {
    for (let at = 0; at < length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const low = lowHalf(address);
      const high = highHalf(address);
      if (!this.#rules.partWithinLimit(low, high, 1, at)) return false;
      const page = this.#translate(low, high, kind, user);
      if (page < 0) return false;
      const part = Math.min(length - at, PAGE - (low & 0xfff));
      const offset = this.#map.ramOffset(page);
      if (offset < 0 && !this.#pending.alone()) return false;
      if (offset >= 0 && kind === ACCESS_WRITE && !this.#stores.mayStore(offset + (low & 0xfff), part))
        return false;
      at += part;
    }
    return true;
  }

  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined {
    return this.#spans.of(linear, length, access, privilege);
  }
}

/** Bytes of an operand that are accessed at once: so many are left, from an address that ends in `low`. */
function partSize(left: number, low: number): Size {
  const part = Math.min(left, PAGE - (low & 0xfff));
  return part >= 8 ? 8 : part >= 4 ? 4 : part >= 2 ? 2 : 1;
}

/** How much of an operand is looked at first: all but of 80-bit values and of state areas. */
function firstPart(length: number): number {
  return length > 16 || length === 10 ? 8 : length;
}

/** What #AC asks of an operand that is looked at before it is stored; a masked store is one of 8 bytes, or two. */
function probeAlignment(length: number): number {
  if (length === 10 || length === 16) return 8;
  return (length & (length - 1)) === 0 ? length : 1;
}

/** What #AC asks of an operand of many bytes: an 80-bit value as 8, the x87's environment as its fields. */
function alignmentOf(length: number): number {
  if (length === 10) return 8;
  return length === 14 || length === 94 ? 2 : 4;
}
