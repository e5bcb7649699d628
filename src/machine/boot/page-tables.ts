import { BOOT_PAGE_TABLES, PAGE_BYTES } from './layout.ts';

const PRESENT_WRITABLE = 0x3n;
const PAGE_SIZE_2M = 0x80n;
const DIRECTORIES = 4;
const ENTRIES = 512;

export interface PageTables {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/**
 * Maps the first 4 GiB onto themselves in 2 MiB pages [SDM 3A 4.5]: the kernel's 64-bit entry wants itself, the
 * zero page and the command line mapped, and makes its own tables from there.
 */
export function identityPageTables(address = BOOT_PAGE_TABLES): PageTables {
  const bytes = new Uint8Array((2 + DIRECTORIES) * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  const pointers = PAGE_BYTES;
  view.setBigUint64(0, BigInt(address + pointers) | PRESENT_WRITABLE, true);
  for (let directory = 0; directory < DIRECTORIES; directory += 1) {
    const offset = (2 + directory) * PAGE_BYTES;
    view.setBigUint64(pointers + directory * 8, BigInt(address + offset) | PRESENT_WRITABLE, true);
    for (let entry = 0; entry < ENTRIES; entry += 1) {
      const physical = BigInt(directory * ENTRIES + entry) << 21n;
      view.setBigUint64(offset + entry * 8, physical | PAGE_SIZE_2M | PRESENT_WRITABLE, true);
    }
  }
  return { address, bytes };
}
