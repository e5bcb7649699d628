import { ByteWriter } from '../base/bytes.ts';
import { GPE0_PORT, PM1_CONTROL_PORT, PM1_EVENT_PORT, SCI_IRQ } from './acpi-power.ts';
import { dsdtBody } from './dsdt.ts';
import { IO_APIC_BASE, IO_APIC_ID } from './io-apic.ts';
import { LOCAL_APIC_BASE } from './local-apic.ts';
import { PCI_IRQS } from './pci.ts';
import { PM_TIMER_PORT } from './pm-timer.ts';
import { RESET_PORT, RESET_VALUE } from './reset-control.ts';

/** The last KiB of this area end at the top of the first MiB, where systems look for the RSDP [ACPI 5.2.5.1]. */
const AREA_FIRST = 0xe0000;
const AREA_LAST = 0xfffff;

const HEADER_SIZE = 36;
const OEM = 'LCKSTP';
const TABLE_OEM = 'LOCKSTEP';

export interface AcpiOptions {
  /** Where the tables go; inside 0xE0000..0xFFFFF, where the e820 map must say "reserved". */
  readonly address?: number;
}

export interface AcpiTable {
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface AcpiTables {
  readonly tables: readonly AcpiTable[];
  readonly rsdpAddress: number;
}

/** The ACPI tables of this board, to be put into guest memory as they are. */
export function buildAcpiTables({ address = AREA_FIRST }: AcpiOptions = {}): AcpiTables {
  const tables: AcpiTable[] = [];
  let next = address;
  const place = (bytes: Uint8Array): number => {
    const at = Math.ceil(next / 64) * 64;
    next = at + bytes.length;
    if (at < AREA_FIRST || next - 1 > AREA_LAST) throw new RangeError('the ACPI tables leave their area');
    tables.push({ address: at, bytes });
    return at;
  };
  // The RSDP stands first, where a scan meets it at once; it is known last.
  const rsdpAddress = place(new Uint8Array(36));
  const facs = place(buildFacs());
  const dsdt = place(buildTable('DSDT', 2, dsdtBody()));
  const fadt = place(buildFadt(facs, dsdt));
  const madt = place(buildMadt());
  const rsdt = place(buildTable('RSDT', 1, new ByteWriter().u32(fadt).u32(madt).finish()));
  const xsdt = place(buildTable('XSDT', 1, new ByteWriter().u64(BigInt(fadt)).u64(BigInt(madt)).finish()));
  tables[0] = { address: rsdpAddress, bytes: buildRsdp(rsdt, xsdt) };
  return { tables, rsdpAddress };
}

function ascii(text: string, length: number): Uint8Array {
  return Uint8Array.from(text.padEnd(length).slice(0, length), (character) => character.charCodeAt(0));
}

/** Sets the byte at `at` so that the first `length` bytes sum to zero. */
function checksum(bytes: Uint8Array, at: number, length = bytes.length): void {
  bytes[at] = 0;
  let sum = 0;
  for (let index = 0; index < length; index++) sum += bytes[index]!;
  bytes[at] = -sum;
}

/** A table with its header [ACPI 5.2.6]. */
function buildTable(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new ByteWriter()
    .raw(ascii(signature, 4))
    .u32(HEADER_SIZE + body.length)
    .u8(revision)
    .u8(0)
    .raw(ascii(OEM, 6))
    .raw(ascii(TABLE_OEM, 8))
    .u32(1)
    .raw(ascii('LSTP', 4))
    .u32(1)
    .raw(body)
    .finish();
  checksum(bytes, 9);
  return bytes;
}

/** [ACPI 5.2.5.3] */
function buildRsdp(rsdt: number, xsdt: number): Uint8Array {
  const bytes = new ByteWriter()
    .raw(ascii('RSD PTR ', 8))
    .u8(0)
    .raw(ascii(OEM, 6))
    .u8(2)
    .u32(rsdt)
    .u32(36)
    .u64(BigInt(xsdt))
    .u32(0)
    .finish();
  checksum(bytes, 8, 20);
  checksum(bytes, 32);
  return bytes;
}

/** [ACPI 5.2.10]: only the global lock and a waking vector, which nobody here uses. */
function buildFacs(): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set(ascii('FACS', 4));
  bytes[4] = bytes.length;
  bytes[32] = 2;
  return bytes;
}

function ioAddress(writer: ByteWriter, port: number, bytes: number, accessSize: number): void {
  if (port === 0) writer.raw(new Uint8Array(12));
  else
    writer
      .u8(1)
      .u8(bytes * 8)
      .u8(0)
      .u8(accessSize)
      .u64(BigInt(port));
}

const BYTE_ACCESS = 1;
const WORD_ACCESS = 2;
const DWORD_ACCESS = 3;

/** [ACPI 5.2.9], revision 5: full hardware, always in ACPI mode, one sleeping state. */
function buildFadt(facs: number, dsdt: number): Uint8Array {
  const wbinvd = 1 << 0;
  const c1 = 1 << 2;
  const noSleepButton = 1 << 5;
  const noFixedRtc = 1 << 6;
  const timer32 = 1 << 8;
  const resetRegister = 1 << 10;
  // Devices on the ISA bus; neither a keyboard controller (nothing is plugged in) nor VGA.
  const bootFlags = 0x0001 | 0x0004;
  const body = new ByteWriter()
    .u32(facs)
    .u32(dsdt)
    .u8(0)
    .u8(4) // enterprise server
    .u16(SCI_IRQ)
    .u32(0) // no SMI command port: there is no legacy mode to leave
    .u32(0) // ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    .u32(PM1_EVENT_PORT)
    .u32(0)
    .u32(PM1_CONTROL_PORT)
    .u32(0)
    .u32(0)
    .u32(PM_TIMER_PORT)
    .u32(GPE0_PORT)
    .u32(0)
    .raw(Uint8Array.of(4, 2, 0, 4, 4, 0, 0, 0)) // the lengths of the blocks above
    .u16(0xffff) // no C2
    .u16(0xffff) // no C3
    .u32(0)
    .raw(Uint8Array.of(0, 0, 0, 0, 0x32)) // duty cycle, alarms of the RTC; its century
    .u16(bootFlags)
    .u8(0)
    .u32(wbinvd | c1 | noSleepButton | noFixedRtc | timer32 | resetRegister);
  ioAddress(body, RESET_PORT, 1, BYTE_ACCESS);
  body.u8(RESET_VALUE).u16(0).u8(0);
  body.u64(BigInt(facs)).u64(BigInt(dsdt));
  ioAddress(body, PM1_EVENT_PORT, 4, WORD_ACCESS);
  ioAddress(body, 0, 0, 0);
  ioAddress(body, PM1_CONTROL_PORT, 2, WORD_ACCESS);
  ioAddress(body, 0, 0, 0);
  ioAddress(body, 0, 0, 0);
  ioAddress(body, PM_TIMER_PORT, 4, DWORD_ACCESS);
  ioAddress(body, GPE0_PORT, 4, BYTE_ACCESS);
  ioAddress(body, 0, 0, 0);
  ioAddress(body, 0, 0, 0); // sleep control and status: only without the fixed hardware
  ioAddress(body, 0, 0, 0);
  return buildTable('FACP', 5, body.finish());
}

/** [ACPI 5.2.12] */
function buildMadt(): Uint8Array {
  const hasPic = 1;
  const highLevel = 0x0d;
  const lowLevel = 0x0f;
  const body = new ByteWriter().u32(LOCAL_APIC_BASE).u32(hasPic);
  body.u8(0).u8(8).u8(0).u8(0).u32(1); // processor 0 has APIC ID 0 and is enabled
  body.u8(1).u8(12).u8(IO_APIC_ID).u8(0).u32(IO_APIC_BASE).u32(0);
  const override = (irq: number, pin: number, flags: number) =>
    body.u8(2).u8(10).u8(0).u8(irq).u32(pin).u16(flags);
  override(0, 2, 0);
  override(SCI_IRQ, SCI_IRQ, highLevel);
  for (const irq of PCI_IRQS) override(irq, irq, lowLevel);
  body.u8(4).u8(6).u8(0xff).u16(0).u8(1); // NMI at LINT1 of every processor
  return buildTable('APIC', 3, body.finish());
}
