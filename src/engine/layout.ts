import { assert } from '../base/assert.ts';

/**
 * Where things lie in the shared wasm memory. Everything is addressed through values handed in at run time, so
 * nothing here is baked into compiled code but the sizes.
 */
export interface EngineLayout {
  /** vCPU state (x86/state.ts). */
  readonly cpu: number;
  /** TLB_CONTEXTS translation caches, one after the other. */
  readonly tlb: number;
  readonly tlbEntries: number;
  /** One byte for TLB_CHUNK bytes of the translation caches: something was filled in there. */
  readonly tlbTouched: number;
  readonly jumpCache: number;
  /** REGIONS * PERMIT.count permits. */
  readonly permits: number;
  /** For each region an i32: so often it is entered until it is grown anew. */
  readonly regionHeat: number;
  readonly arena: number;
  readonly arenaRecords: number;
  /** For each RAM page one byte of PAGE_FLAG. */
  readonly pageFlags: number;
  /** For each RAM page one byte: written since the last digest. */
  readonly pageDirty: number;
  /** For each RAM page an i32: slots of entries that let it be written (tlb.ts). */
  readonly pageWriters: number;
  /** For each RAM page an i32: what it translates, when it is a table (table-place.ts). */
  readonly pagePlaces: number;
  readonly ram: number;
  readonly ramBytes: number;
  /** Size of the memory in 64 KiB pages. */
  readonly pages: number;
}

/** Address spaces (with their privilege) whose translations are kept at the same time. */
export const TLB_CONTEXTS = 8;

/**
 * A translation cache entry: the linear page when reads may use it, the same for writes, and what to add to the
 * low 32 bits of a linear address to get the wasm address. A tag of all ones matches nothing.
 */
export const TLB_ENTRY = { readTag: 0, writeTag: 8, addend: 16, size: 32 } as const;
export const TLB_ENTRIES_DEFAULT = 8192;
/** Emptying looks at pieces of this many bytes. */
export const TLB_CHUNK = 512;

/** Jump cache: linear address of a block -> its header record, valid within one epoch. */
export const JUMP_ENTRY = { pc: 0, epoch: 8, record: 12, size: 16 } as const;
export const JUMP_ENTRIES = 32768;

/** Slot of an address in an epoch. Address spaces share kernel addresses, so the epoch takes part. */
export function jumpSlot(low: number, high: number, epoch: number): number {
  return (low ^ ((low >>> 14) | (high << 18)) ^ (epoch << 9)) & (JUMP_ENTRIES - 1);
}

/** A record of a micro-operation: operation, a, b, c as 16 bits each, then the 64-bit immediate. */
export const RECORD = { operation: 0, a: 2, b: 4, c: 6, immediate: 8, high: 12, size: 16 } as const;

export const PAGE = 4096;
/** What keeps a RAM page from being written without a slow path. */
export const PAGE_FLAG = { code: 1, table: 2 } as const;

/** A header's record: a is the entry, this the number of the region that has the block, or 0. */
export const HEADER_REGION = 4;
/** Compiled regions that can be called at a time. */
export const REGIONS = 4096;
/**
 * For each region `count` slots, chosen by the low bits of the epoch: entering it with this base is given (`yes`) or
 * denied in the epoch. From `no` on the denials count up to 0, and then the pages are looked at again. Epoch 0 is
 * never used.
 */
export const PERMIT = {
  base: 0,
  epoch: 8,
  given: 12,
  size: 16,
  shift: 4,
  count: 8,
  yes: 1,
  no: -100,
} as const;

/** What of the guest's code is known at a time, at least and at most: 350,000 instructions and four times as many. */
const ARENA_RECORDS_MIN = 1 << 20;
const ARENA_RECORDS_MAX = 1 << 22;

/**
 * When the arena is full everything is forgotten, with what was compiled, and a compiler of C alone runs through a million
 * instructions. What a block costs outside the arena is more than its records: so a guest of 256 MiB has the least, one of 1 GiB the most.
 */
function arenaRecordsFor(ramBytes: number): number {
  return Math.min(ARENA_RECORDS_MAX, Math.max(ARENA_RECORDS_MIN, ramBytes / 256));
}

export function engineLayout(
  ramBytes: number,
  tlbEntries: number,
  arenaRecords = arenaRecordsFor(ramBytes),
): EngineLayout {
  assert(tlbEntries >= 16 && (tlbEntries & (tlbEntries - 1)) === 0, 'the TLB has a power of two of entries');
  assert(tlbEntries <= 32768, 'a slot of the TLB is named by 16 bits');
  assert(ramBytes % PAGE === 0 && ramBytes <= 3.5 * 2 ** 30, 'RAM is whole pages, at most 3.5 GiB');
  const cpu = 0x1000;
  const tlb = 0x10000;
  const tlbBytes = TLB_CONTEXTS * tlbEntries * TLB_ENTRY.size;
  const tlbTouched = tlb + tlbBytes;
  // Compiled code keeps marks in the low four bits of records' addresses.
  const jumpCache = Math.ceil((tlbTouched + tlbBytes / TLB_CHUNK) / RECORD.size) * RECORD.size;
  const permits = jumpCache + JUMP_ENTRIES * JUMP_ENTRY.size;
  const regionHeat = permits + REGIONS * PERMIT.count * PERMIT.size;
  const arena = regionHeat + REGIONS * 4;
  assert(arena % RECORD.size === 0, 'records are aligned');
  const ramPages = ramBytes / PAGE;
  const pagePlaces = arena + arenaRecords * RECORD.size;
  const pageWriters = pagePlaces + ramPages * 4;
  const pageFlags = pageWriters + ramPages * 4;
  const pageDirty = pageFlags + ramPages;
  const ram = Math.ceil((pageDirty + ramPages) / 65536) * 65536;
  const pages = Math.ceil((ram + ramBytes) / 65536);
  return {
    cpu,
    tlb,
    tlbEntries,
    tlbTouched,
    jumpCache,
    permits,
    regionHeat,
    arena,
    arenaRecords,
    pageFlags,
    pageDirty,
    pageWriters,
    pagePlaces,
    ram,
    ramBytes,
    pages,
  };
}
