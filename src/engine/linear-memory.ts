import type { Outcome, PendingFault, Privilege } from '../x86/cpu.ts';
import { ABORTED } from '../x86/cpu.ts';
import { VECTOR } from '../x86/faults.ts';
import { ACCESS_READ, ACCESS_WRITE, type AccessKind } from '../x86/paging.ts';
import {
  ACCESS_SEGMENT,
  CPL,
  type CpuState,
  RIP,
  SEGMENT,
  SEGMENT_BASE,
  SEGMENT_UNNAMED,
  type Size,
} from '../x86/state.ts';
import { dataBreakpointsAt } from '../x86/system/debug-register.ts';
import { code64 } from '../x86/system/mode.ts';
import { mayAccess } from '../x86/system/segment-check.ts';
import type { CodeCache } from './code-cache.ts';
import { type EngineLayout, PAGE, PAGE_FLAG } from './layout.ts';
import { type Mmu, RESTART } from './mmu.ts';
import type { PhysicalMap } from './physical-map.ts';

/**
 * Guest memory at linear addresses, without the translation cache: walks, devices, pages that are watched. An
 * access with side effects beyond RAM (a device's register, a store into code or into a live page table) is only
 * made while one instruction runs alone; otherwise it asks for that.
 */
export class LinearMemory {
  readonly #state: CpuState;
  readonly #layout: EngineLayout;
  readonly #map: PhysicalMap;
  readonly #u8: Uint8Array;
  readonly mmu: Mmu;
  readonly code: CodeCache;
  /** Called before a device is accessed: the exact count must be known. */
  readonly #beforeDevice: () => void;

  /** True while one instruction runs alone, so accesses with side effects may be made. */
  stepping = false;
  /** Breakpoints on data or ports that the instruction met, as bits 3:0 of DR6; their trap follows it. */
  breakpointsMet = 0;
  /** A vector, or RESTART: nothing was changed, and the access has to be made by a single step. */
  #pending: number | undefined;
  /** What is pending says that the address cannot be: it is not canonical, or beyond the segment's limit. */
  #outOfRange = false;
  /** The fault that is to be taken; vector -1 when there is none, error code -1 when it has none. */
  #faultVector = -1;
  #faultError = -1;
  #faultLow = 0;
  #faultHigh = 0;

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    state: CpuState,
    map: PhysicalMap,
    mmu: Mmu,
    code: CodeCache,
    beforeDevice: () => void,
  ) {
    this.#state = state;
    this.#layout = layout;
    this.#map = map;
    this.#u8 = new Uint8Array(buffer);
    this.mmu = mmu;
    this.code = code;
    this.#beforeDevice = beforeDevice;
  }

  // ------------------------------------------------------------------------------------------ faults

  /** Nothing is pending: an instruction begins. */
  begin(): void {
    this.#pending = undefined;
  }

  get restartWanted(): boolean {
    return this.#pending === RESTART;
  }

  raise(vector: number, errorCode: number): void {
    this.#faultVector = vector;
    this.#faultError = errorCode;
  }

  /** The last translation failed at this address. */
  raisePageFault(low: number, high: number): void {
    this.#faultLow = low;
    this.#faultHigh = high;
    this.raise(this.mmu.faultVector, this.mmu.faultError);
  }

  /** The access that failed was to the stack: what is #GP elsewhere, an address out of range, is #SS there. */
  stackFault(): void {
    if (this.#outOfRange && this.#pending === VECTOR.generalProtection) this.fault(VECTOR.stack, 0);
  }

  fault(vector: number, errorCode?: number): Outcome {
    this.#outOfRange = false;
    this.#pending = vector;
    this.raise(vector, errorCode ?? -1);
    return ABORTED;
  }

  takeFault(): PendingFault | undefined {
    if (this.#faultVector < 0) return undefined;
    const address = (BigInt(this.#faultHigh >>> 0) << 32n) | BigInt(this.#faultLow >>> 0);
    const fault = { vector: this.#faultVector, errorCode: Math.max(this.#faultError, 0), address };
    this.#faultVector = -1;
    this.#pending = undefined;
    return fault;
  }

  // ------------------------------------------------------------------------------------------ accesses

  /** Physical page of a linear address, or -1 with the fault pending. */
  #translate(low: number, high: number, access: AccessKind, user: boolean): number {
    const page = this.mmu.translate(low, high, access, user);
    if (page >= 0) return page;
    this.raisePageFault(low, high);
    this.#pending = this.mmu.faultVector;
    this.#outOfRange = true;
    return -1;
  }

  /** False with #GP or #SS pending: the access reaches beyond its segment, or is of a kind that the segment forbids. */
  #withinSegment(low: number, size: number, write: boolean): boolean {
    if (!this.mmu.segmented) return true;
    const state = this.#state;
    const segment = state.i32[ACCESS_SEGMENT >> 2]!;
    if (segment === SEGMENT_UNNAMED) return true;
    const offset = (low - state.get32(SEGMENT_BASE + segment * 8)) >>> 0;
    if (mayAccess(state, segment, offset, size, write)) return true;
    this.fault(segment === SEGMENT.ss ? VECTOR.stack : VECTOR.generalProtection, 0);
    return false;
  }

  /**
   * False with #GP pending: the access reaches beyond what an address can be. In 64-bit code the lower half of the
   * canonical addresses ends at 2^47, elsewhere a flat segment at 4 GiB [SDM 1 3.3.7.1, 3A 5.3].
   */
  #withinLimit(low: number, high: number, size: number): boolean {
    if ((low >>> 0) + size <= 0x1_0000_0000) return true;
    if (high === 0 ? code64(this.#state) : high !== CANONICAL_END_HIGH) return true;
    return this.#refuse();
  }

  /** The same for what is `at` bytes into an operand of several parts. */
  #partWithinLimit(low: number, high: number, size: number, at: number): boolean {
    // It begins where the part before it ended.
    if (at > 0 && low === 0 && high === 1 && !code64(this.#state)) return this.#refuse();
    return this.#withinLimit(low, high, size);
  }

  #refuse(): false {
    this.fault(VECTOR.generalProtection, 0);
    this.#outOfRange = true;
    return false;
  }

  /**
   * False with #AC pending: the running program wants aligned accesses and this one is not. A processor looks at
   * this before it translates.
   */
  #aligned(low: number, high: number, size: number, user: boolean): boolean {
    if (!this.mmu.alignmentChecked || !user || (low & (size - 1)) === 0) return true;
    // An address that is not canonical comes first.
    const upper = high >> 15;
    if (upper !== 0 && upper !== -1) return this.#refuse();
    this.fault(VECTOR.alignment, 0);
    return false;
  }

  /**
   * False with a restart pending: the access meets a data breakpoint, so its instruction has to run alone
   * [SDM 3B 17.2.4, 17.2.5]. Met when a byte of it is in the range that DR0..3 and DR7 tell.
   */
  #watched(low: number, high: number, size: number, write: boolean): boolean {
    const met = this.mmu.watched ? dataBreakpointsAt(this.#state, low, high, size, write) : 0;
    if (met === 0) return true;
    this.breakpointsMet |= met;
    if (!this.stepping) this.#pending = RESTART;
    return this.stepping;
  }

  /** What an access has to pass before it is translated; false: something is pending. */
  permitted(low: number, high: number, size: number, user: boolean, write: boolean): boolean {
    return this.#withinSegment(low, size, write) && this.#permittedLinear(low, high, size, user, write);
  }

  #permittedLinear(low: number, high: number, size: number, user: boolean, write: boolean): boolean {
    return (
      this.#withinLimit(low, high, size) &&
      this.#aligned(low, high, size, user) &&
      this.#watched(low, high, size, write)
    );
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
      this.mmu.fill(low, high, offset, user);
      if (forWrite && !this.#mayStore(offset + inPage, size)) return false;
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
    if (forWrite && first >= 0 && !this.#mayStore(first + inPage, head)) return false;
    if (forWrite && next >= 0 && !this.#mayStore(next, size - head)) return false;
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
    if (!this.stepping) {
      this.#pending = RESTART;
      return false;
    }
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
      this.mmu.fill(low, high, offset, user);
      if (!this.#mayStore(offset + inPage, size)) return false;
      this.#storeRam(offset + inPage, value, 0, size);
      return true;
    }
    const head = PAGE - inPage;
    const nextLow = ((low & ~0xfff) + PAGE) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, ACCESS_WRITE, user);
    if (second < 0) return false;
    const first = this.#map.ramOffset(page);
    const next = this.#map.ramOffset(second);
    if (first < 0 || next < 0) {
      if (!this.stepping) {
        this.#pending = RESTART;
        return false;
      }
    }
    if (first >= 0 && !this.#mayStore(first + inPage, head)) return false;
    if (next >= 0 && !this.#mayStore(next, size - head)) return false;
    this.#writePart(page + inPage, value, 0, head);
    this.#writePart(second, value, head, size - head);
    return true;
  }

  #writePart(address: number, value: Uint8Array, at: number, length: number): void {
    const offset = this.#map.ramOffset(address);
    if (offset >= 0) {
      this.#storeRam(offset, value, at, length);
      return;
    }
    for (let index = 0; index < length; index++)
      this.#map.write(address + index, 1, BigInt(value[at + index]!));
  }

  #writeDevice(address: number, value: Uint8Array, size: number): boolean {
    if (!this.stepping) {
      this.#pending = RESTART;
      return false;
    }
    this.#beforeDevice();
    for (let at = 0; at < size; at += 8) {
      let bits = 0n;
      for (let index = Math.min(8, size - at) - 1; index >= 0; index--)
        bits = (bits << 8n) | BigInt(value[at + index]!);
      this.#map.write(address + at, Math.min(8, size), bits);
    }
    return true;
  }

  /** False: the store has an effect that only a single step may have; a restart is pending. */
  #mayStore(offset: number, size: number): boolean {
    if (this.stepping) return true;
    const page = Math.floor(offset / PAGE);
    const flags = this.mmu.flags[page]!;
    if (flags === 0) return true;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code && this.code.touches(page, inPage, size)) {
      this.#pending = RESTART;
      return false;
    }
    if (
      flags & PAGE_FLAG.table &&
      this.mmu.tableStores.mayChangeTranslation(page, inPage, size) &&
      !this.mmu.tableStores.changesOnlyData(page, inPage, size)
    ) {
      this.#pending = RESTART;
      return false;
    }
    return true;
  }

  /** Stores within one RAM page, with all that follows from it. `alone`: no block goes on behind it. */
  #storeRam(offset: number, value: Uint8Array, at: number, length: number, alone = this.stepping): void {
    const page = Math.floor(offset / PAGE);
    const flags = this.mmu.flags[page]!;
    const to = this.#layout.ram + offset;
    this.mmu.dirty[page] = 1;
    const inPage = offset % PAGE;
    if (flags & PAGE_FLAG.code) this.code.invalidate(page, inPage, length);
    if (flags & PAGE_FLAG.table) {
      const first = inPage & ~7;
      const before = this.#u8.slice(
        to - inPage + first,
        to - inPage + Math.min(PAGE, (inPage + length + 7) & ~7),
      );
      for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
      this.mmu.tableStores.stored(page, before, first, alone);
      return;
    }
    for (let index = 0; index < length; index++) this.#u8[to + index] = value[at + index]!;
  }

  /** A store by a device: within RAM, may cross pages. */
  storePhysical(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, PAGE - ((offset + at) % PAGE));
      const page = Math.floor((offset + at) / PAGE);
      if (this.mmu.flags[page] === 0) {
        this.#u8.set(bytes.subarray(at, at + length), this.#layout.ram + offset + at);
        this.mmu.dirty[page] = 1;
      } else {
        this.#storeRam(offset + at, bytes, at, length, true);
      }
      at += length;
    }
  }

  // ------------------------------------------------------------------------------------------ for slow-path code (x86/cpu.ts)

  #user(privilege: Privilege | undefined): boolean {
    return privilege !== 'supervisor' && this.#state.get32(CPL) === 3;
  }

  /** Tables are read without a segment. */
  #throughSegment(low: number, size: number, write: boolean, privilege: Privilege | undefined): boolean {
    return privilege === 'supervisor' || this.#withinSegment(low, size, write);
  }

  readonly #scratch = new Uint8Array(16);
  readonly #scratchView = new DataView(this.#scratch.buffer);

  load(size: Size, linear: bigint, privilege?: Privilege): bigint | undefined {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (!this.#throughSegment(low, size, false, privilege)) return undefined;
    if (!this.#permittedLinear(low, high, size, this.#user(privilege), false)) return undefined;
    return this.#load(low, high, size, privilege);
  }

  #load(low: number, high: number, size: Size, privilege: Privilege | undefined): bigint | undefined {
    if (!this.read(low, high, this.#scratch, size, this.#user(privilege), false)) return undefined;
    return this.#scratchView.getBigUint64(0, true);
  }

  store(size: Size, linear: bigint, value: bigint, privilege?: Privilege): boolean {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (!this.#throughSegment(low, size, true, privilege)) return false;
    if (!this.#permittedLinear(low, high, size, this.#user(privilege), true)) return false;
    return this.#store(low, high, size, value, privilege);
  }

  #store(low: number, high: number, size: Size, value: bigint, privilege: Privilege | undefined): boolean {
    this.#scratchView.setBigUint64(0, BigInt.asUintN(64, value), true);
    return this.write(low, high, this.#scratch, size, this.#user(privilege));
  }

  loadBytes(linear: bigint, length: number, privilege?: Privilege): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    const user = this.#user(privilege);
    if (!this.#throughSegment(lowHalf(linear), length, false, privilege)) return undefined;
    if (!this.#withinLimit(lowHalf(linear), highHalf(linear), firstPart(length))) return undefined;
    if (!this.#aligned(lowHalf(linear), highHalf(linear), alignmentOf(length), user)) return undefined;
    if (!this.#watched(lowHalf(linear), highHalf(linear), length, false)) return undefined;
    for (let at = 0; at < length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const part = Math.min(8, length - at, PAGE - Number(address & 0xfffn));
      const size: Size = part >= 8 ? 8 : part >= 4 ? 4 : part >= 2 ? 2 : 1;
      if (!this.#partWithinLimit(lowHalf(address), highHalf(address), size, at)) return undefined;
      const value = this.#load(lowHalf(address), highHalf(address), size, privilege);
      if (value === undefined) return undefined;
      for (let index = 0; index < size; index++)
        bytes[at + index] = Number((value >> BigInt(index * 8)) & 0xffn);
      at += size;
    }
    return bytes;
  }

  storeBytes(linear: bigint, bytes: Uint8Array, privilege?: Privilege): boolean {
    const user = this.#user(privilege);
    if (!this.#throughSegment(lowHalf(linear), bytes.length, true, privilege)) return false;
    if (!this.#withinLimit(lowHalf(linear), highHalf(linear), firstPart(bytes.length))) return false;
    if (!this.#aligned(lowHalf(linear), highHalf(linear), alignmentOf(bytes.length), user)) return false;
    if (!this.#accessible(linear, bytes.length, ACCESS_WRITE, user)) return false;
    if (!this.#watched(lowHalf(linear), highHalf(linear), bytes.length, true)) return false;
    for (let at = 0; at < bytes.length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const part = Math.min(8, bytes.length - at, PAGE - Number(address & 0xfffn));
      const size: Size = part >= 8 ? 8 : part >= 4 ? 4 : part >= 2 ? 2 : 1;
      let value = 0n;
      for (let index = size - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[at + index]!);
      if (!this.#store(lowHalf(address), highHalf(address), size, value, privilege)) return false;
      at += size;
    }
    return true;
  }

  probe(linear: bigint, length: number, access: 'read' | 'write', privilege?: Privilege): boolean {
    const user = this.#user(privilege);
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    return (
      this.#throughSegment(lowHalf(linear), length, access === 'write', privilege) &&
      this.#withinLimit(lowHalf(linear), highHalf(linear), firstPart(length)) &&
      this.#aligned(lowHalf(linear), highHalf(linear), probeAlignment(length), user) &&
      this.#accessible(linear, length, kind, user)
    );
  }

  #accessible(linear: bigint, length: number, kind: AccessKind, user: boolean): boolean {
    for (let at = 0; at < length; ) {
      const address = BigInt.asUintN(64, linear + BigInt(at));
      const low = lowHalf(address);
      const high = highHalf(address);
      if (!this.#partWithinLimit(low, high, 1, at)) return false;
      const page = this.#translate(low, high, kind, user);
      if (page < 0) return false;
      const part = Math.min(length - at, PAGE - (low & 0xfff));
      const offset = this.#map.ramOffset(page);
      if (offset < 0 && !this.stepping) {
        this.#pending = RESTART;
        return false;
      }
      if (offset >= 0 && kind === ACCESS_WRITE && !this.#mayStore(offset + (low & 0xfff), part)) return false;
      at += part;
    }
    return true;
  }

  /** RAM pages of the tables that the last span to be read was found through. */
  #sourceTables: readonly number[] = [];

  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (this.mmu.segmented && privilege !== 'supervisor') return undefined;
    if (length === 0 || (low & 0xfff) + length > PAGE || this.mmu.alignmentChecked || this.mmu.watched)
      return undefined;
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    const page = this.mmu.translate(low, high, kind, this.#user(privilege));
    if (page < 0) return undefined;
    const offset = this.#map.ramOffset(page);
    if (offset < 0) return undefined;
    // Bytes stored in bulk may be entries of the very tables that the accesses go through.
    this.mmu.watchTables(low, high);
    const index = Math.floor(offset / PAGE);
    if (access === 'read') this.#sourceTables = this.mmu.walkedTables();
    if (access === 'write') {
      if (this.mmu.flags[index] !== 0 && !this.#becomesData(index, low & 0xfff, length)) return undefined;
      this.mmu.dirty[index] = 1;
    }
    const from = this.#layout.ram + offset + (low & 0xfff);
    return this.#u8.subarray(from, from + length);
  }

  /**
   * May these bytes of a watched page be stored at once? Pages of tables and code that were given up are cleared and
   * filled like any other, so what hangs on them is dropped; but not the storing instruction, or the tables that it
   * is fetched through, or this very access, or the source's: those take effect from one iteration to the next.
   */
  #becomesData(page: number, inPage: number, length: number): boolean {
    const flags = this.mmu.flags[page]!;
    const code = (flags & PAGE_FLAG.code) !== 0 && this.code.touches(page, inPage, length);
    const table =
      (flags & PAGE_FLAG.table) !== 0 && this.mmu.tableStores.mayChangeTranslation(page, inPage, length);
    if (!code && !table) return true;
    if (!this.stepping || length < BULK) return false;
    if (table && (this.mmu.walkedTables().includes(page) || this.#sourceTables.includes(page))) return false;
    if (!this.#isFetchedElsewhere(page)) return false;
    if (table) {
      this.mmu.tableStores.letGo(page);
      // It may have let everything go, and there may be more to store before the instruction is fetched again.
      this.#isFetchedElsewhere(page);
    }
    if (code) this.code.invalidate(page, inPage, length);
    return true;
  }

  /**
   * Is it certain that the instruction before RIP has no byte in the RAM page, and is not fetched through it as a
   * table? The tables that it is fetched through are watched from now on.
   */
  #isFetchedElsewhere(page: number): boolean {
    if (!code64(this.#state)) return false;
    const rip = this.#state.get64(RIP);
    for (const back of [1n, INSTRUCTION_BYTES]) {
      const offset = this.mmu.codeOffset(BigInt.asUintN(64, rip - back), true);
      // Its first byte may be anywhere between: what cannot be fetched holds none.
      if (offset < 0 && back === 1n) return false;
      if (offset >= 0 && (offset === page * PAGE || this.mmu.walkedTables().includes(page))) return false;
    }
    return true;
  }
}

/** What is shorter is not worth dropping all that hangs on a page. */
const BULK = 64;
/** No instruction is longer [SDM 2A 2.3.11]. */
const INSTRUCTION_BYTES = 15n;

/** Upper half of the last canonical addresses below 2^47. */
const CANONICAL_END_HIGH = 0x7fff;

function lowHalf(linear: bigint): number {
  return Number(linear & 0xffff_ffffn) | 0;
}

function highHalf(linear: bigint): number {
  return Number((linear >> 32n) & 0xffff_ffffn) | 0;
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
