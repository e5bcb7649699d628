import { describe, expect, it } from 'vitest';
import {
  buffer,
  device,
  eisaId,
  integer,
  ioPorts,
  irqLine,
  name,
  namePath,
  packageOf,
  producedRange,
  RANGE_BUS,
  RANGE_MEMORY,
  resources,
  scope,
} from './aml.ts';

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Expected bytes worked out from the grammar of ACPI chapter 20. */
describe('AML', () => {
  it('encodes names', () => {
    expect(hex(namePath('_HID'))).toBe('5f484944');
    expect(hex(namePath('\\_S5'))).toBe('5c5f53355f');
    expect(hex(namePath('\\_SB.PCI0'))).toBe('5c2e5f53425f50434930');
    expect(hex(namePath('A.B.C'))).toBe('2f03415f5f5f425f5f5f435f5f5f');
    expect(() => namePath('TOOLONG')).toThrow(RangeError);
  });

  it('encodes integers in the least space', () => {
    expect([0, 1, 2, 0xff, 0x100, 0x10000, 2 ** 32].map((value) => hex(integer(value)))).toEqual([
      '00',
      '01',
      '0a02',
      '0aff',
      '0b0001',
      '0c00000100',
      '0e0000000001000000',
    ]);
  });

  it('encodes package lengths of one, two and three bytes', () => {
    expect(hex(packageOf(integer(5), integer(0)))).toBe('1205020a0500');
    expect(hex(scope('\\_SB', new Uint8Array(0x39)).subarray(0, 2))).toBe('103f');
    const long = buffer(new Uint8Array(100));
    expect(hex(long.subarray(0, 5))).toBe('1148060a64');
    expect(long).toHaveLength(1 + 0x68);
    const longer = buffer(new Uint8Array(5000));
    expect(hex(longer.subarray(0, 7))).toBe('118e38010b8813');
    expect(longer).toHaveLength(1 + 0x138e);
  });

  it('encodes identifiers, devices and resources', () => {
    expect(hex(eisaId('PNP0A03'))).toBe('0c41d00a03');
    expect(hex(device('COM1', name('_UID', integer(1))))).toBe('5b820b434f4d31085f55494401');
    expect(hex(resources(ioPorts(0x3f8, 8), irqLine(4)))).toBe('11100a0d4701f803f803010822100079' + '00');
    expect(hex(producedRange(2, RANGE_BUS, 0, 0xff))).toBe('880d00020c00' + '00000000ff0000000001');
    expect(hex(producedRange(4, RANGE_MEMORY, 0xe0000000, 0xfebfffff))).toBe(
      '871700000c01' + '00000000' + '000000e0' + 'ffffbffe' + '00000000' + '0000c01e',
    );
  });
});
