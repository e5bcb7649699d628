import { describe, expect, it } from 'vitest';
import { decode } from '../decoder.ts';
import { OPCODES } from './all.ts';

function mnemonic(hex: string, codeSize: 16 | 32 | 64 = 64): string {
  const bytes = Uint8Array.from(hex.match(/../g)!, (pair) => Number.parseInt(pair, 16));
  const decoded = decode(bytes, codeSize, OPCODES);
  return typeof decoded === 'string' ? decoded : decoded.row.mnemonic;
}

describe('system rows', () => {
  it('answer for their encodings', () => {
    const encodings: Readonly<Record<string, string>> = {
      '0f05': 'syscall',
      '480f07': 'sysret',
      '48cf': 'iret',
      '0f01f8': 'swapgs',
      '0f0138': 'invlpg',
      '0f0110': 'lgdt',
      '0f20d8': 'mov',
      '440f22c0': 'mov',
      f3480faec8: 'rdgsbase',
      '0faee8': 'lfence',
      '0fae38': 'clflush',
      '48cb': 'retf',
      '48ff2f': 'jmpf',
      f36d: 'ins',
      '480fc7f0': 'rdrand',
      '0f00d8': 'ltr',
    };
    for (const [hex, name] of Object.entries(encodings)) expect(mnemonic(hex), hex).toBe(name);
  });

  it('leave undefined what CPUID does not offer', () => {
    // UD2, XGETBV, MONITOR, VMCALL, STAC, XSAVE, CLFLUSHOPT, RSM, INVPCID.
    for (const hex of [
      '0f0b',
      '0f01d0',
      '0f01c8',
      '0f01c1',
      '0f01cb',
      '0fae20',
      '660fae38',
      '0faa',
      '660f388200',
    ]) {
      expect(mnemonic(hex), hex).toBe('undefined');
    }
  });

  it('keep the old segment instructions out of 64-bit code', () => {
    expect(mnemonic('06')).toBe('undefined');
    expect(mnemonic('c400')).toBe('undefined');
    expect(mnemonic('9a000000000000')).toBe('undefined');
    expect(mnemonic('06', 32)).toBe('push');
    expect(mnemonic('c400', 32)).toBe('les');
    expect(mnemonic('9a0000000000001000', 32)).toBe('callf');
  });
});
