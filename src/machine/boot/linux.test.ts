import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { GuestMemory } from '../../device/device.ts';
import { E820, e820Map } from './boot-params.ts';
import { parseBzImage } from './bz-image.ts';
import { BOOT_COMMAND_LINE, BOOT_PARAMS, GIB, MIB, PAGE_BYTES, ramRanges } from './layout.ts';
import { type LinuxImage, loadLinux } from './linux.ts';
import { identityPageTables } from './page-tables.ts';

const SETUP_BYTES = 5 * 512;

/** The smallest file that is a bzImage to the boot protocol. */
function syntheticKernel(codeBytes = 4096): Uint8Array {
  const file = new Uint8Array(SETUP_BYTES + codeBytes);
  const view = new DataView(file.buffer);
  view.setUint8(0x1f1, 4);
  view.setUint32(0x1f4, codeBytes / 16, true);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x201, 0x6a);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, 0x3f, true);
  view.setUint32(0x238, 2047, true);
  view.setBigUint64(0x258, 0x100_0000n, true);
  view.setUint32(0x260, 8 * MIB, true);
  file.fill(0xc3, SETUP_BYTES);
  return file;
}

class SparseMemory implements GuestMemory {
  readonly pieces = new Map<number, Uint8Array>();
  readonly size: number;
  constructor(size: number) {
    this.size = size;
  }
  read(address: number, length: number): Uint8Array | undefined {
    for (const [start, bytes] of this.pieces) {
      if (address >= start && address + length <= start + bytes.length) {
        return bytes.slice(address - start, address - start + length);
      }
    }
    return new Uint8Array(length);
  }
  write(address: number, bytes: Uint8Array): boolean {
    if (!ramRanges(this.size).some((ram) => address >= ram.start && address + bytes.length <= ram.end)) {
      return false;
    }
    this.pieces.set(address, bytes);
    return true;
  }
  readU16 = () => undefined;
  readU32 = () => undefined;
  readU64 = () => undefined;
  writeU16 = () => false;
  writeU32 = () => false;
}

const image = (changes: Partial<LinuxImage> = {}): LinuxImage => ({
  kernel: syntheticKernel(),
  initrd: undefined,
  commandLine: 'console=ttyS0',
  memoryBytes: 64 * MIB,
  acpi: { tables: [{ address: 0xe0000, bytes: new Uint8Array(64) }], rsdpAddress: 0xe0000 },
  ...changes,
});

function load(changes: Partial<LinuxImage> = {}) {
  const given = image(changes);
  const memory = new SparseMemory(given.memoryBytes);
  return { memory, result: loadLinux(memory, given) };
}

function problem(changes: Partial<LinuxImage>): string {
  const { memory, result } = load(changes);
  expect(memory.pieces.size).toBe(0);
  if (result.ok) throw new Error('was loaded');
  expect(result.error).not.toContain('\n');
  return result.error;
}

function patched(change: (view: DataView) => void): Uint8Array {
  const kernel = syntheticKernel();
  change(new DataView(kernel.buffer));
  return kernel;
}

describe('direct boot of Linux', () => {
  it('enters 0x200 bytes into the code, at the preferred address, with RSI at the zero page', () => {
    const { memory, result } = load();
    if (!result.ok) throw new Error(result.error);
    expect(result.value.entry).toBe(0x100_0200n);
    expect(result.value.rsi).toBe(BigInt(BOOT_PARAMS));
    expect(memory.read(0x100_0000, 4096)).toEqual(new Uint8Array(4096).fill(0xc3));
  });

  it('hands over header, command line, initrd and RSDP in the zero page', () => {
    const initrd = new Uint8Array(5000).fill(7);
    const { memory } = load({ initrd });
    const page = new DataView(memory.read(BOOT_PARAMS, PAGE_BYTES)!.buffer);
    expect(page.getUint32(0x202, true)).toBe(0x53726448);
    expect(page.getUint8(0x210)).toBe(0xff);
    expect(page.getUint32(0x228, true)).toBe(BOOT_COMMAND_LINE);
    expect(page.getBigUint64(0x70, true)).toBe(0xe0000n);
    const at = page.getUint32(0x218, true);
    expect(at).toBe(64 * MIB - 2 * PAGE_BYTES);
    expect(memory.read(at, page.getUint32(0x21c, true))).toEqual(initrd);
    expect(new TextDecoder().decode(memory.read(BOOT_COMMAND_LINE, 14))).toBe('console=ttyS0\0');
  });

  it('describes RAM below the PCI hole and the rest above 4 GiB', () => {
    const usable = e820Map(3.5 * GIB).filter((entry) => entry.type === E820.ram);
    expect(usable).toEqual([
      { start: 0, end: 0x9fc00, type: 1 },
      { start: MIB, end: 0xc000_0000, type: 1 },
      { start: 4 * GIB, end: 4.5 * GIB, type: 1 },
    ]);
    expect(ramRanges(3 * GIB)).toEqual([{ start: 0, end: 3 * GIB }]);
  });

  it('keeps the initrd below the highest address that the kernel takes', () => {
    const { memory } = load({ memoryBytes: 3 * GIB, initrd: new Uint8Array(PAGE_BYTES) });
    expect(memory.pieces.has(0x8000_0000 - PAGE_BYTES)).toBe(true);
  });

  it('maps every 2 MiB of the first 4 GiB onto itself', () => {
    const tables = identityPageTables(0x9000);
    const view = new DataView(tables.bytes.buffer);
    const follow = (entry: bigint) => Number(entry & ~0xfffn) - 0x9000;
    for (const address of [0, 0x1234_5678, 0xbfff_ffff, 0xffff_ffff]) {
      const pointers = follow(view.getBigUint64(0, true));
      const directory = follow(view.getBigUint64(pointers + Math.floor(address / GIB) * 8, true));
      const entry = view.getBigUint64(directory + Math.floor((address % GIB) / (2 * MIB)) * 8, true);
      expect(entry).toBe((BigInt(address) & ~0x1f_ffffn) | 0x83n);
    }
  });

  it('refuses what is no kernel in one line and loads nothing', () => {
    expect(problem({ kernel: new Uint8Array() })).toMatch(/empty/);
    expect(problem({ kernel: new Uint8Array(100) })).toMatch(/not a Linux kernel/);
    expect(problem({ kernel: Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, ...new Uint8Array(9000)) })).toMatch(
      /ELF/,
    );
    expect(problem({ kernel: Uint8Array.of(0x1f, 0x8b, ...new Uint8Array(9000)) })).toMatch(/gzip/);
    expect(problem({ kernel: patched((view) => view.setUint16(0x206, 0x020a, true)) })).toMatch(/2\.10/);
    expect(problem({ kernel: patched((view) => view.setUint16(0x236, 0, true)) })).toMatch(/64-bit/);
    expect(problem({ kernel: patched((view) => view.setUint8(0x201, 0x10)) })).toMatch(/damaged/);
    expect(problem({ kernel: patched((view) => view.setBigUint64(0x258, 1n << 60n, true)) })).toMatch(
      /damaged/,
    );
  });

  it('refuses every truncation of a kernel', () => {
    const whole = syntheticKernel();
    for (const length of [0x210, 0x263, SETUP_BYTES, whole.length - 1]) {
      expect(problem({ kernel: whole.subarray(0, length) })).toMatch(/truncated/);
    }
  });

  it('refuses too little memory, and an initrd that does not fit, and says how much is needed', () => {
    expect(problem({ memoryBytes: 16 * MIB })).toMatch(/too little memory.* 24 MiB/);
    expect(problem({ memoryBytes: 4 * MIB })).toMatch(/at least/);
    expect(problem({ memoryBytes: 4 * GIB })).toMatch(/at most/);
    expect(problem({ memoryBytes: 64.5 * MIB })).toMatch(/whole number/);
    expect(problem({ memoryBytes: 32 * MIB, initrd: new Uint8Array(9 * MIB) })).toMatch(/initrd.*34 MiB/);
  });

  it('refuses a command line that the kernel could not hold', () => {
    expect(problem({ commandLine: 'x'.repeat(2048) })).toMatch(/2047/);
    expect(problem({ commandLine: 'a\nb' })).toMatch(/printable/);
  });

  const cached = cachedKernel();
  it.skipIf(cached === undefined)('takes a Debian kernel', () => {
    const kernel = readFileSync(cached!);
    const parsed = parseBzImage(kernel);
    if (!parsed.ok) throw new Error(parsed.error);
    expect(parsed.value.loadAddress).toBe(16 * MIB);
    expect(parsed.value.initSize).toBeGreaterThan(kernel.length);
    expect(load({ kernel, memoryBytes: 256 * MIB }).result.ok).toBe(true);
  });
});

/** A kernel unpacked by the image builder, when there is one. */
function cachedKernel(): string | undefined {
  const images = join(import.meta.dirname, '../../../.cache/images');
  if (!existsSync(images)) return undefined;
  const kernels = readdirSync(images).map((name) => join(images, name, 'vmlinuz'));
  return kernels.find((path) => existsSync(path));
}
