import { type CpuState, CR0, CR3, CR4, EFER } from './state.ts';
import { CR0_BIT, CR4_BIT, EFER_BIT } from './system/mode.ts';

/**
 * The page walk [SDM 3A 4]: a pure function of guest memory and control registers. It runs on every miss of the
 * translation cache, so it computes with 32-bit halves and with doubles below 2^52, and allocates nothing.
 *
 * A/D bits are written only when the whole walk has succeeded and the access is allowed: a faulting access
 * leaves the tables as they were.
 */
export interface PhysicalMemory {
  /** The 32-bit word at a multiple of 4, unsigned. All ones where there is no RAM. */
  read32(address: number): number;
  /** Where there is no RAM, nothing happens. Tells the engine, like any store to a page-table page. */
  write32(address: number, value: number): void;
}

export const PHYSICAL_ADDRESS_BITS = 40;

export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;
export const ACCESS_EXECUTE = 2;
export type AccessKind = typeof ACCESS_READ | typeof ACCESS_WRITE | typeof ACCESS_EXECUTE;

/**
 * What a finished walk allows without another walk, for both privileges. A write bit is present only when the
 * dirty flag is already set, so the first write to a clean page walks again.
 */
export const ALLOW = {
  supervisorRead: 1,
  supervisorWrite: 2,
  supervisorExecute: 4,
  userRead: 8,
  userWrite: 16,
  userExecute: 32,
} as const;
const USER_SHIFT = 3;

/** Reused from walk to walk. */
export class WalkResult {
  /** Physical address of the linear address's byte. */
  address = 0;
  /** Physical address of the 4 KiB page that holds it. */
  page = 0;
  /** log2 of the translation's size: 12, 21, 22 or 30. */
  sizeBits = 12;
  /** Bits of ALLOW. */
  allowed = 0;
  /** Page tables' entries that the walk read, as physical addresses: the translation hangs on them. */
  readonly entries = new Float64Array(4);
  entryCount = 0;
  /** After a walk that returned false: 13 (not canonical) or 14. */
  vector = 0;
  errorCode = 0;
}

const PRESENT = 0x1;
const WRITABLE = 0x2;
const USER = 0x4;
const ACCESSED = 0x20;
const DIRTY = 0x40;
const LARGE = 0x80;

const ERROR_PRESENT = 1;
const ERROR_WRITE = 2;
const ERROR_USER = 4;
const ERROR_RESERVED = 8;
const ERROR_FETCH = 16;

/** Bits 51:40 in the high half: beyond the physical address width, reserved. */
const HIGH_RESERVED = 0x000f_ff00;
const HIGH_ADDRESS = 0x0000_00ff;
const NO_EXECUTE = 0x8000_0000;
/** Bits 62:52, reserved in PAE paging and ignored in 4-level paging. */
const HIGH_IGNORED = 0x7ff0_0000;

/** Physical address in a 64-bit entry or CR3, flags cut off. */
function frame(low: number, high: number): number {
  return ((low & 0xffff_f000) >>> 0) + (high & HIGH_ADDRESS) * 0x1_0000_0000;
}

/**
 * Translates a linear address for one access. True: `result` holds the translation, and A/D bits are set. False:
 * `result` holds the fault. `user` is the privilege of the access (CPL 3 and not an implicit supervisor access).
 */
export function walk(
  memory: PhysicalMemory,
  state: CpuState,
  linearLow: number,
  linearHigh: number,
  access: AccessKind,
  user: boolean,
  result: WalkResult,
): boolean {
  result.entryCount = 0;
  const cr0 = state.u32[CR0 >>> 2]!;
  if ((cr0 & CR0_BIT.pg) === 0) {
    finish(result, linearLow >>> 0, 0, 12);
    result.allowed = 0x3f;
    return true;
  }
  const cr4 = state.u32[CR4 >>> 2]!;
  if ((cr4 & CR4_BIT.pae) === 0) return walk32(memory, state, linearLow >>> 0, access, user, result);
  return walkPae(memory, state, linearLow >>> 0, linearHigh, access, user, result);
}

/** 4-level paging [SDM 3A 4.5] and PAE paging [SDM 3A 4.4]: 64-bit entries. */
function walkPae(
  memory: PhysicalMemory,
  state: CpuState,
  low: number,
  linearHigh: number,
  access: AccessKind,
  user: boolean,
  result: WalkResult,
): boolean {
  const efer = state.u32[EFER >>> 2]!;
  const long = (efer & EFER_BIT.lma) !== 0;
  const nxe = (efer & EFER_BIT.nxe) !== 0;
  const reserved = HIGH_RESERVED | (nxe ? 0 : NO_EXECUTE) | (long ? 0 : HIGH_IGNORED);
  const cr3Low = state.u32[CR3 >>> 2]!;
  let level: number;
  let table: number;
  if (long) {
    // Bits 63:47 must be equal; bit 47 is bit 15 of the high half.
    if ((linearHigh << 16) >> 16 !== (linearHigh | 0)) {
      result.vector = 13;
      result.errorCode = 0;
      return false;
    }
    level = 4;
    table = frame(cr3Low, state.u32[(CR3 >>> 2) + 1]!);
  } else {
    level = 3;
    table = (cr3Low & 0xffff_ffe0) >>> 0;
  }
  // Of all entries that have them: R/W, U/S and the accessed flag.
  let common = WRITABLE | USER | ACCESSED;
  let noExecute = 0;
  for (; ; level -= 1) {
    let index: number;
    if (level === 4) index = (linearHigh >>> 7) & 0x1ff;
    else if (level === 3) index = long ? ((linearHigh & 0x7f) << 2) | (low >>> 30) : low >>> 30;
    else if (level === 2) index = (low >>> 21) & 0x1ff;
    else index = (low >>> 12) & 0x1ff;
    const at = table + index * 8;
    const entryLow = memory.read32(at);
    result.entries[result.entryCount++] = at;
    if ((entryLow & PRESENT) === 0) return fault(result, 0, access, user, nxe);
    const entryHigh = memory.read32(at + 4);
    if ((entryHigh & reserved) !== 0) return fault(result, ERROR_RESERVED, access, user, nxe);
    if (level === 3 && !long) {
      // A PDPTE of PAE paging has no rights and no accessed flag; bits 2:1 and 8:5 are reserved.
      if ((entryLow & 0x1e6) !== 0 || (entryHigh & NO_EXECUTE) !== 0) {
        return fault(result, ERROR_RESERVED, access, user, nxe);
      }
      table = frame(entryLow, entryHigh);
      continue;
    }
    common &= entryLow;
    noExecute |= entryHigh;
    const large = level !== 1 && (entryLow & LARGE) !== 0;
    if (large && level === 4) return fault(result, ERROR_RESERVED, access, user, nxe);
    if (level !== 1 && !large) {
      table = frame(entryLow, entryHigh);
      continue;
    }
    const sizeBits = level === 1 ? 12 : level === 2 ? 21 : 30;
    const offsetMask = (1 << sizeBits) - 1;
    // Bit 12 of a large page's entry is PAT; the bits above it up to the page's size are reserved.
    if (large && (entryLow & offsetMask & 0xffff_e000) !== 0) {
      return fault(result, ERROR_RESERVED, access, user, nxe);
    }
    if (!settle(memory, state, common, entryLow, noExecute, access, user, nxe, long ? 0 : 1, result))
      return false;
    finish(result, ((entryLow & ~offsetMask) | (low & offsetMask)) >>> 0, entryHigh & HIGH_ADDRESS, sizeBits);
    return true;
  }
}

/** 32-bit paging [SDM 3A 4.3], with PSE-36. */
function walk32(
  memory: PhysicalMemory,
  state: CpuState,
  low: number,
  access: AccessKind,
  user: boolean,
  result: WalkResult,
): boolean {
  const directoryAt = ((state.u32[CR3 >>> 2]! & 0xffff_f000) >>> 0) + (low >>> 22) * 4;
  const directory = memory.read32(directoryAt);
  result.entries[result.entryCount++] = directoryAt;
  if ((directory & PRESENT) === 0) return fault(result, 0, access, user, false);
  if ((directory & LARGE) !== 0 && (state.u32[CR4 >>> 2]! & CR4_BIT.pse) !== 0) {
    // Bits 20:13 are physical address bits 39:32; bit 21 is reserved [SDM 3A 4.3].
    if ((directory & 0x20_0000) !== 0) return fault(result, ERROR_RESERVED, access, user, false);
    if (!settle(memory, state, directory, directory, 0, access, user, false, 0, result)) return false;
    finish(result, ((directory & 0xffc0_0000) | (low & 0x3f_ffff)) >>> 0, (directory >>> 13) & 0xff, 22);
    return true;
  }
  const tableAt = ((directory & 0xffff_f000) >>> 0) + ((low >>> 12) & 0x3ff) * 4;
  const entry = memory.read32(tableAt);
  result.entries[result.entryCount++] = tableAt;
  if ((entry & PRESENT) === 0) return fault(result, 0, access, user, false);
  if (!settle(memory, state, directory & entry, entry, 0, access, user, false, 0, result)) return false;
  finish(result, ((entry & 0xffff_f000) | (low & 0xfff)) >>> 0, 0, 12);
  return true;
}

/**
 * Decides the access [SDM 3A 4.6], then sets the accessed flags from the root down and the dirty flag of the
 * last entry. `common` are the rights and the accessed flag of all entries together, `leaf` is the last one.
 * Entries before `first` have no accessed flag.
 */
function settle(
  memory: PhysicalMemory,
  state: CpuState,
  common: number,
  leaf: number,
  noExecuteBits: number,
  access: AccessKind,
  user: boolean,
  nxe: boolean,
  first: number,
  result: WalkResult,
): boolean {
  const writeProtect = (state.u32[CR0 >>> 2]! & CR0_BIT.wp) !== 0;
  const noExecute = nxe && (noExecuteBits & NO_EXECUTE) !== 0;
  const writable = (common & WRITABLE) !== 0;
  let allowed = ALLOW.supervisorRead | (noExecute ? 0 : ALLOW.supervisorExecute);
  if (writable || !writeProtect) allowed |= ALLOW.supervisorWrite;
  if ((common & USER) !== 0) {
    allowed |= ALLOW.userRead | (noExecute ? 0 : ALLOW.userExecute) | (writable ? ALLOW.userWrite : 0);
  }
  const needed = (1 << access) << (user ? USER_SHIFT : 0);
  if ((allowed & needed) === 0) return fault(result, ERROR_PRESENT, access, user, nxe);

  const isWrite = access === ACCESS_WRITE;
  if ((common & ACCESSED) === 0 || (isWrite && (leaf & DIRTY) === 0)) {
    setFlags(memory, isWrite, first, result);
    if (isWrite) leaf |= DIRTY;
  }
  if ((leaf & DIRTY) === 0) allowed &= ~(ALLOW.supervisorWrite | ALLOW.userWrite);
  result.allowed = allowed;
  return true;
}

/** Sets the accessed flags, and of the last entry the dirty flag, where they are not set yet. */
function setFlags(memory: PhysicalMemory, isWrite: boolean, first: number, result: WalkResult): void {
  const last = result.entryCount - 1;
  for (let index = first; index <= last; index += 1) {
    const at = result.entries[index]!;
    const entry = memory.read32(at);
    const set = (entry | ACCESSED | (isWrite && index === last ? DIRTY : 0)) >>> 0;
    if (set !== entry) memory.write32(at, set);
  }
}

function finish(result: WalkResult, low: number, high: number, sizeBits: number): void {
  result.address = high * 0x1_0000_0000 + low;
  result.page = high * 0x1_0000_0000 + ((low & 0xffff_f000) >>> 0);
  result.sizeBits = sizeBits;
}

/** The error code of a page fault [SDM 3A 4.7]. A reserved bit is found in a present entry. */
function fault(result: WalkResult, cause: number, access: AccessKind, user: boolean, nxe: boolean): false {
  let code = cause;
  if (cause === ERROR_RESERVED) code |= ERROR_PRESENT;
  if (access === ACCESS_WRITE) code |= ERROR_WRITE;
  // The fetch flag is only reported when execution can be forbidden.
  if (access === ACCESS_EXECUTE && nxe) code |= ERROR_FETCH;
  if (user) code |= ERROR_USER;
  result.vector = 14;
  result.errorCode = code;
  return false;
}
