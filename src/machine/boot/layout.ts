/**
 * The guest-physical address map. RAM starts at 0 and stops at the PCI hole; what does not fit below goes on at
 * 4 GiB. A map is part of the machine: both sides of a pair, and a replay, have the same one.
 */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const PAGE_BYTES = 4096;

/** [3 GiB, 4 GiB) holds PCI windows, IOAPIC, local APIC and the reset vector, and no RAM. */
export const RAM_HOLE_START = 0xc000_0000;
export const RAM_HOLE_END = 0x1_0000_0000;
export const MEMORY_BYTES_MAX = 3.5 * GIB;
export const MEMORY_BYTES_MIN = 16 * MIB;

/** Where the direct loader puts what the kernel reads before it has its own tables. */
export const BOOT_GDT = 0x8000;
/** PML4, PDPT and four page directories. */
export const BOOT_PAGE_TABLES = 0x9000;
export const BOOT_PARAMS = 0x10000;
export const BOOT_COMMAND_LINE = 0x20000;
/** Stack top for the first instructions; the kernel sets its own at once. */
export const BOOT_STACK = 0x8_0000;

/** BIOS data area words that a kernel reads to find the end of low memory [64-bit boot]. */
export const BDA_EBDA_SEGMENT = 0x40e;
export const BDA_BASE_MEMORY_KIB = 0x413;
export const EBDA_START = 0x9_fc00;
export const LOW_MEMORY_END = 0xa_0000;

/** ACPI tables and the RSDP: inside [E0000, 100000), where a scan for the RSDP looks [ACPI 5.2.5.1]. */
export const ACPI_START = 0xe_0000;
export const ACPI_END = 0xf_0000;
/** Video memory and option ROMs are below it, the BIOS above; RAM is ordinary from here on. */
export const HIGH_MEMORY_START = 0x10_0000;

export interface AddressRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** Guest-physical ranges that are RAM, ascending. */
export function ramRanges(memoryBytes: number): readonly AddressRange[] {
  const low = Math.min(memoryBytes, RAM_HOLE_START);
  const below = { start: 0, end: low };
  return memoryBytes === low
    ? [below]
    : [below, { start: RAM_HOLE_END, end: RAM_HOLE_END + memoryBytes - low }];
}

/** Undefined when a machine may have that much RAM, else one line that says why not. */
export function memorySizeProblem(memoryBytes: number): string | undefined {
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes % MIB !== 0) {
    return 'memory must be a whole number of MiB';
  }
  if (memoryBytes < MEMORY_BYTES_MIN) return `memory must be at least ${MEMORY_BYTES_MIN / MIB} MiB`;
  if (memoryBytes > MEMORY_BYTES_MAX) return `memory must be at most ${MEMORY_BYTES_MAX / MIB} MiB`;
  return undefined;
}
