import { type BzImage, SETUP_HEADER } from './bz-image.ts';
import {
  ACPI_END,
  ACPI_START,
  EBDA_START,
  HIGH_MEMORY_START,
  LOW_MEMORY_END,
  PAGE_BYTES,
  ramRanges,
} from './layout.ts';

/** Memory types of an address range descriptor [ACPI 15.1]. */
export const E820 = { ram: 1, reserved: 2, acpiReclaimable: 3 } as const;

export interface E820Entry {
  readonly start: number;
  readonly end: number;
  readonly type: (typeof E820)[keyof typeof E820];
}

/** What the kernel is told about memory. Everything that is not listed may be used for devices. */
export function e820Map(memoryBytes: number): readonly E820Entry[] {
  const [low, ...high] = ramRanges(memoryBytes);
  return [
    { start: 0, end: EBDA_START, type: E820.ram },
    { start: EBDA_START, end: LOW_MEMORY_END, type: E820.reserved },
    { start: ACPI_START, end: ACPI_END, type: E820.acpiReclaimable },
    { start: ACPI_END, end: HIGH_MEMORY_START, type: E820.reserved },
    { start: HIGH_MEMORY_START, end: low!.end, type: E820.ram },
    ...high.map((range) => ({ ...range, type: E820.ram })),
  ];
}

/** Offsets in the zero page [Linux/x86 Boot Protocol, "Zero Page"]. */
const ACPI_RSDP_ADDRESS = 0x070;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_ENTRY_BYTES = 20;
/** A boot loader without a registered number. */
const LOADER_UNDEFINED = 0xff;
const VIDEO_MODE_NORMAL = 0xffff;

export interface BootParams {
  readonly image: BzImage;
  readonly memoryBytes: number;
  readonly commandLineAddress: number;
  readonly initrd: { readonly address: number; readonly size: number } | undefined;
  readonly rsdpAddress: number;
}

/** The zero page. The screen info stays zero: there is no text screen, and the kernel adds no VGA console. */
export function bootParamsPage(params: BootParams): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  const view = new DataView(page.buffer);
  page.set(params.image.header, SETUP_HEADER.start);
  view.setUint8(SETUP_HEADER.loaderType, LOADER_UNDEFINED);
  view.setUint16(SETUP_HEADER.videoMode, VIDEO_MODE_NORMAL, true);
  view.setUint32(SETUP_HEADER.commandLineAddress, params.commandLineAddress, true);
  view.setUint32(SETUP_HEADER.initrdAddress, params.initrd?.address ?? 0, true);
  view.setUint32(SETUP_HEADER.initrdSize, params.initrd?.size ?? 0, true);
  view.setBigUint64(SETUP_HEADER.setupData, 0n, true);
  view.setBigUint64(ACPI_RSDP_ADDRESS, BigInt(params.rsdpAddress), true);

  const map = e820Map(params.memoryBytes);
  view.setUint8(E820_ENTRIES, map.length);
  for (const [index, entry] of map.entries()) {
    const at = E820_TABLE + index * E820_ENTRY_BYTES;
    view.setBigUint64(at, BigInt(entry.start), true);
    view.setBigUint64(at + 8, BigInt(entry.end - entry.start), true);
    view.setUint32(at + 16, entry.type, true);
  }
  return page;
}
