import { failed, ok, type Result } from '../../base/result.ts';
import type { GuestMemory } from '../../device/device.ts';
import { bootParamsPage } from './boot-params.ts';
import { type BzImage, parseBzImage } from './bz-image.ts';
import {
  ACPI_END,
  ACPI_START,
  BDA_BASE_MEMORY_KIB,
  BDA_EBDA_SEGMENT,
  BOOT_COMMAND_LINE,
  BOOT_GDT,
  BOOT_PARAMS,
  BOOT_STACK,
  EBDA_START,
  KIB,
  MIB,
  memorySizeProblem,
  PAGE_BYTES,
  ramRanges,
} from './layout.ts';
import { identityPageTables } from './page-tables.ts';

/** Bytes to put at guest-physical addresses before the guest starts. */
export interface PlacedBytes {
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface LinuxImage {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array | undefined;
  readonly commandLine: string;
  readonly memoryBytes: number;
  readonly acpi: { readonly tables: readonly PlacedBytes[]; readonly rsdpAddress: number };
}

/**
 * What the processor must look like at the first instruction [Linux/x86 Boot Protocol, "64-bit Boot Protocol"]:
 * long mode with paging, flat segments from the GDT, interrupts off, RSI at the zero page.
 */
export interface LinuxEntry {
  readonly entry: bigint;
  /** Address of the zero page. */
  readonly rsi: bigint;
  readonly rsp: bigint;
  readonly cr3: bigint;
  readonly gdt: { readonly base: bigint; readonly limit: number };
  readonly codeSelector: number;
  readonly dataSelector: number;
}

const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
/** Null, unused, 64-bit code, flat data: base 0, limit 4 GiB [SDM 3A 3.4.5]. */
const GDT = [0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn];

/** Puts the kernel and all it needs into RAM. Nothing is written unless everything fits. */
export function loadLinux(memory: GuestMemory, image: LinuxImage): Result<LinuxEntry> {
  const sizeProblem = memorySizeProblem(image.memoryBytes);
  if (sizeProblem !== undefined) return failed(sizeProblem);
  const parsed = parseBzImage(image.kernel);
  if (!parsed.ok) return parsed;
  const kernel = parsed.value;
  const commandLine = commandLineBytes(image.commandLine, kernel);
  if (!commandLine.ok) return commandLine;

  const lowEnd = ramRanges(image.memoryBytes)[0]!.end;
  const kernelEnd = kernel.loadAddress + kernel.initSize;
  if (kernelEnd > lowEnd) {
    return failed(
      `too little memory: the kernel needs ${Math.ceil(kernelEnd / MIB)} MiB, the machine has ${image.memoryBytes / MIB} MiB`,
    );
  }
  const initrd = placeInitrd(image.initrd, kernel, kernelEnd, lowEnd);
  if (!initrd.ok) return initrd;
  for (const { address, bytes } of image.acpi.tables) {
    if (address < ACPI_START || address + bytes.length > ACPI_END) {
      return failed(`an ACPI table at 0x${address.toString(16)} lies outside the area kept for them`);
    }
  }

  const page = bootParamsPage({
    image: kernel,
    memoryBytes: image.memoryBytes,
    commandLineAddress: BOOT_COMMAND_LINE,
    initrd: initrd.value && { address: initrd.value.address, size: initrd.value.bytes.length },
    rsdpAddress: image.acpi.rsdpAddress,
  });
  const pageTables = identityPageTables();
  const pieces: PlacedBytes[] = [
    { address: BDA_EBDA_SEGMENT, bytes: u16(EBDA_START >> 4) },
    { address: BDA_BASE_MEMORY_KIB, bytes: u16(EBDA_START / KIB) },
    { address: BOOT_GDT, bytes: new Uint8Array(BigUint64Array.from(GDT).buffer) },
    pageTables,
    { address: BOOT_PARAMS, bytes: page },
    { address: BOOT_COMMAND_LINE, bytes: commandLine.value },
    ...image.acpi.tables,
    { address: kernel.loadAddress, bytes: kernel.code },
    ...(initrd.value ? [initrd.value] : []),
  ];
  for (const { address, bytes } of pieces) {
    if (!memory.write(address, bytes))
      return failed(`no RAM at 0x${address.toString(16)} to load the kernel`);
  }
  return ok({
    entry: BigInt(kernel.entry),
    rsi: BigInt(BOOT_PARAMS),
    rsp: BigInt(BOOT_STACK),
    cr3: BigInt(pageTables.address),
    gdt: { base: BigInt(BOOT_GDT), limit: GDT.length * 8 - 1 },
    codeSelector: BOOT_CS,
    dataSelector: BOOT_DS,
  });
}

/** As high in low memory as the kernel can reach: far from where it decompresses and relocates itself. */
function placeInitrd(
  bytes: Uint8Array | undefined,
  kernel: BzImage,
  kernelEnd: number,
  lowEnd: number,
): Result<PlacedBytes | undefined> {
  if (bytes === undefined || bytes.length === 0) return ok(undefined);
  const end = Math.min(lowEnd, kernel.initrdAddressMax + 1);
  const start = end - bytes.length;
  const address = start - (((start % PAGE_BYTES) + PAGE_BYTES) % PAGE_BYTES);
  if (address >= kernelEnd) return ok({ address, bytes });
  const needed = kernelEnd + bytes.length + PAGE_BYTES;
  return failed(
    `the initrd is too big: ${Math.ceil(bytes.length / MIB)} MiB do not fit beside the kernel` +
      (needed <= kernel.initrdAddressMax ? `; give the machine ${Math.ceil(needed / MIB)} MiB` : ''),
  );
}

function commandLineBytes(text: string, kernel: BzImage): Result<Uint8Array> {
  const bytes = new Uint8Array(text.length + 1);
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code < 0x20 || code > 0x7e) return failed('the kernel command line may hold printable ASCII only');
    bytes[index] = code;
  }
  if (text.length > kernel.commandLineMax) {
    return failed(
      `the kernel command line has ${text.length} characters; this kernel takes ${kernel.commandLineMax}`,
    );
  }
  return ok(bytes);
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >> 8);
}
