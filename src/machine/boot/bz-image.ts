import { failed, ok, type Result } from '../../base/result.ts';

/**
 * The setup header of a Linux bzImage [Linux/x86 Boot Protocol, "The Real-Mode Kernel Header"]. Offsets are from
 * the start of the file, and equally from the start of the zero page.
 */
export const SETUP_HEADER = {
  start: 0x1f1,
  setupSectors: 0x1f1,
  systemSize: 0x1f4,
  videoMode: 0x1fa,
  bootFlag: 0x1fe,
  jump: 0x200,
  magic: 0x202,
  version: 0x206,
  loaderType: 0x210,
  loadFlags: 0x211,
  initrdAddress: 0x218,
  initrdSize: 0x21c,
  commandLineAddress: 0x228,
  initrdAddressMax: 0x22c,
  alignment: 0x230,
  relocatable: 0x234,
  extendedLoadFlags: 0x236,
  commandLineMax: 0x238,
  setupData: 0x250,
  preferredAddress: 0x258,
  initSize: 0x260,
  /** First byte after the fields that we read. */
  end: 0x264,
} as const;

const BOOT_FLAG = 0xaa55;
/** "HdrS", little-endian. */
const MAGIC = 0x5372_6448;
/** 2.12 brought xloadflags, and with it the promise of a 64-bit entry point. */
const VERSION_MIN = 0x020c;
const LOADED_HIGH = 0x01;
const XLF_KERNEL_64 = 0x01;
const SECTOR = 512;
/** The 64-bit entry point, from the start of the protected-mode code. */
const ENTRY_64 = 0x200;
/** The zero page ends the setup header before the space for e820 [boot_params]. */
const HEADER_LIMIT = 0x290;

export interface BzImage {
  /** The header's bytes, to be copied into the zero page at SETUP_HEADER.start. */
  readonly header: Uint8Array;
  /** What is loaded at `loadAddress`. */
  readonly code: Uint8Array;
  readonly loadAddress: number;
  readonly entry: number;
  /** Bytes of RAM from loadAddress on that the kernel uses before it has read the memory map. */
  readonly initSize: number;
  /** Highest address that the last byte of an initrd may have. */
  readonly initrdAddressMax: number;
  /** Longest command line, without its terminating zero. */
  readonly commandLineMax: number;
}

export function parseBzImage(file: Uint8Array): Result<BzImage> {
  if (file.length === 0) return failed('the kernel file is empty');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < SETUP_HEADER.magic + 4 || view.getUint32(SETUP_HEADER.magic, true) !== MAGIC) {
    return failed(`not a Linux kernel: ${whatItIs(file)}; give the bzImage (vmlinuz) of an x86-64 kernel`);
  }
  if (file.length < SETUP_HEADER.end) return failed('the kernel is truncated: its setup header is cut off');
  if (view.getUint16(SETUP_HEADER.bootFlag, true) !== BOOT_FLAG) {
    return failed('not a Linux kernel: the boot flag 0xAA55 is missing');
  }
  const version = view.getUint16(SETUP_HEADER.version, true);
  if (version < VERSION_MIN) {
    const text = `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
    return failed(`the kernel speaks boot protocol ${text}; 2.12 or newer (Linux 3.8) is needed`);
  }
  if ((view.getUint16(SETUP_HEADER.extendedLoadFlags, true) & XLF_KERNEL_64) === 0) {
    return failed('the kernel has no 64-bit entry point: an x86-64 kernel is needed');
  }
  if ((view.getUint8(SETUP_HEADER.loadFlags) & LOADED_HIGH) === 0) {
    return failed('the kernel is a zImage that loads below 1 MiB; a bzImage is needed');
  }

  const setupBytes = ((view.getUint8(SETUP_HEADER.setupSectors) || 4) + 1) * SECTOR;
  const codeBytes = view.getUint32(SETUP_HEADER.systemSize, true) * 16;
  if (codeBytes <= ENTRY_64) return failed('the kernel is damaged: its header gives no size');
  if (file.length < setupBytes + codeBytes) {
    return failed(`the kernel is truncated: ${file.length} bytes of ${setupBytes + codeBytes} are there`);
  }
  const headerEnd = SETUP_HEADER.jump + 2 + view.getUint8(SETUP_HEADER.jump + 1);
  if (headerEnd < SETUP_HEADER.end || headerEnd > HEADER_LIMIT) {
    return failed('the kernel is damaged: its setup header has an impossible length');
  }

  const preferred = view.getBigUint64(SETUP_HEADER.preferredAddress, true);
  const initSize = view.getUint32(SETUP_HEADER.initSize, true);
  if (preferred < 0x10_0000n || preferred >= 0xc000_0000n || preferred % 0x1000n !== 0n) {
    return failed('the kernel is damaged: its preferred load address is impossible');
  }
  const loadAddress = Number(preferred);
  return ok({
    header: file.slice(SETUP_HEADER.start, headerEnd),
    // What follows the counted size (a signature) belongs to the boot chain, but loading it does no harm and
    // some builds count in whole paragraphs and leave a tail.
    code: file.subarray(setupBytes),
    loadAddress,
    entry: loadAddress + ENTRY_64,
    initSize: Math.max(initSize, file.length - setupBytes),
    initrdAddressMax: view.getUint32(SETUP_HEADER.initrdAddressMax, true),
    commandLineMax: view.getUint32(SETUP_HEADER.commandLineMax, true),
  });
}

/** Names the usual mistakes. */
function whatItIs(file: Uint8Array): string {
  const starts = (...bytes: number[]) => bytes.every((byte, index) => file[index] === byte);
  if (starts(0x7f, 0x45, 0x4c, 0x46)) return 'it is an ELF file (vmlinux?)';
  if (starts(0x1f, 0x8b)) return 'it is a gzip file (an initrd?)';
  if (starts(0x30, 0x37, 0x30, 0x37, 0x30)) return 'it is a cpio archive (an initrd?)';
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'it is a zstd file (an initrd?)';
  if (starts(0x21, 0x3c, 0x61, 0x72, 0x63, 0x68, 0x3e)) return 'it is a Debian package; unpack it first';
  return 'its setup header has no "HdrS" mark';
}
