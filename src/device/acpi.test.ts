import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildAcpiTables } from './acpi.ts';
import { pciIrq } from './pci.ts';

const { tables, rsdpAddress } = buildAcpiTables();
const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const signature = (bytes: Uint8Array) => String.fromCharCode(...bytes.subarray(0, 4));
const at = (address: number) => tables.find((table) => table.address === address)?.bytes;
const find = (name: string) => tables.find((table) => signature(table.bytes) === name)!;
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset);

function hasIasl(): boolean {
  try {
    execFileSync('iasl', ['-v'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

describe('ACPI tables', () => {
  it('lie apart in the BIOS area, the RSDP where a scan looks', () => {
    let end = 0xe0000;
    for (const { address, bytes } of tables) {
      expect(address).toBeGreaterThanOrEqual(end);
      end = address + bytes.length;
    }
    expect(end).toBeLessThanOrEqual(0x100000);
    expect(rsdpAddress % 16).toBe(0);
    expect(() => buildAcpiTables({ address: 0xfff00 })).toThrow(RangeError);
  });

  it('have right checksums and lengths', () => {
    const rsdp = at(rsdpAddress)!;
    expect(String.fromCharCode(...rsdp.subarray(0, 8))).toBe('RSD PTR ');
    expect(sum(rsdp.subarray(0, 20))).toBe(0);
    expect(sum(rsdp)).toBe(0);
    for (const { bytes } of tables.slice(1)) {
      expect(view(bytes).getUint32(4, true)).toBe(bytes.length);
      if (signature(bytes) !== 'FACS') expect(sum(bytes)).toBe(0);
    }
  });

  it('are all reached from the RSDP, by 32 and by 64 bits', () => {
    const rsdp = view(at(rsdpAddress)!);
    const rsdt = at(rsdp.getUint32(16, true))!;
    const xsdt = at(Number(rsdp.getBigUint64(24, true)))!;
    expect([signature(rsdt), signature(xsdt)]).toEqual(['RSDT', 'XSDT']);
    const names = [36, 40].map((offset) => signature(at(view(rsdt).getUint32(offset, true))!));
    expect(names).toEqual(['FACP', 'APIC']);
    const wide = [36, 44].map((offset) => signature(at(Number(view(xsdt).getBigUint64(offset, true)))!));
    expect(wide).toEqual(names);
    const fadt = view(find('FACP').bytes);
    expect(fadt.byteLength).toBe(268);
    expect(fadt.getUint32(36, true)).toBe(find('FACS').address);
    expect(Number(fadt.getBigUint64(140, true))).toBe(find('DSDT').address);
    expect(find('FACS').address % 64).toBe(0);
  });

  it('name the ports of the board at the offsets of the FADT', () => {
    const fadt = view(find('FACP').bytes);
    expect(fadt.getUint16(46, true)).toBe(9);
    expect([56, 64, 76, 80].map((offset) => fadt.getUint32(offset, true))).toEqual([
      0x600, 0x604, 0x608, 0x620,
    ]);
    expect([88, 89, 91, 92].map((offset) => fadt.getUint8(offset))).toEqual([4, 2, 4, 4]);
    expect(fadt.getUint8(108)).toBe(0x32);
    expect(fadt.getUint32(112, true)).toBe(0x565);
    expect(Number(fadt.getBigUint64(120, true))).toBe(0xcf9);
    expect(fadt.getUint8(128)).toBe(6);
    expect([148, 172, 208, 220].map((offset) => Number(fadt.getBigUint64(offset + 4, true)))).toEqual([
      0x600, 0x604, 0x608, 0x620,
    ]);
  });

  it.skipIf(!hasIasl())('are understood by the reference disassembler and compile again (needs iasl)', () => {
    const folder = mkdtempSync(join(tmpdir(), 'acpi-'));
    try {
      for (const { bytes } of tables.slice(1)) writeFileSync(join(folder, `${signature(bytes)}.dat`), bytes);
      for (const name of ['DSDT', 'FACP', 'APIC', 'FACS', 'RSDT', 'XSDT']) {
        const said = execFileSync('iasl', ['-d', `${name}.dat`], {
          cwd: folder,
          stdio: 'pipe',
          encoding: 'utf8',
        });
        expect(said).not.toMatch(/error|invalid|warning/i);
      }
      const source = readFileSync(join(folder, 'DSDT.dsl'), 'utf8');
      expect(source).toContain('EisaId ("PNP0A03")');
      expect(source).toMatch(/Name \(\\_S5, Package \(0x04\)/);
      const compiled = execFileSync('iasl', ['-oa', '-p', 'again', 'DSDT.dsl'], {
        cwd: folder,
        stdio: 'pipe',
        encoding: 'utf8',
      });
      expect(compiled).toMatch(/ 0 Errors, 0 Warnings/);
      const again = readFileSync(join(folder, 'again.aml'));
      expect(again.subarray(36)).toEqual(Buffer.from(find('DSDT').bytes.subarray(36)));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('route INTA of every slot as the board is wired', () => {
    expect([0, 1, 2, 31].map((slot) => pciIrq(slot, 0))).toEqual([10, 11, 10, 11]);
    expect(pciIrq(1, 1)).toBe(10);
  });
});
