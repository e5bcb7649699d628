import { describe, expect, it } from 'vitest';
import type { Row } from './instruction.ts';
import { buildOpcodeMap, opcodeIndex, PREFIX_CLASS, slotIndex } from './opcode-map.ts';

function row(mnemonic: string, more: Partial<Row> = {}): Row {
  return { opcode: 0x0f10, mnemonic, modrm: true, immediate: 'none', lower: () => {}, ...more };
}

describe('the opcode map', () => {
  it('refuses rows that overlap', () => {
    expect(() => buildOpcodeMap([row('one')], [row('two')])).toThrow(/overlaps/);
    expect(() => buildOpcodeMap([row('one', { digit: 1 })], [row('two', { operand: 'memory' })])).toThrow(
      /overlaps/,
    );
    expect(() => buildOpcodeMap([row('one', { prefix: 'f3' })], [row('two', { prefix: 'f3' })])).toThrow(
      /overlaps/,
    );
  });

  it('refuses rows that disagree about ModRM', () => {
    expect(() => buildOpcodeMap([row('one', { digit: 1 }), row('two', { modrm: false })])).toThrow(/ModRM/);
  });

  it('lets digit, operand and mode part rows', () => {
    const map = buildOpcodeMap([
      row('one', { digit: 1, operand: 'memory' }),
      row('two', { digit: 1, operand: 'register', modes: 'long' }),
      row('three', { digit: 1, operand: 'register', modes: 'legacy' }),
    ]);
    const rows = map[opcodeIndex(0x0f10)]!.rows;
    expect(rows[slotIndex(true, PREFIX_CLASS.np, 1, false)]!.mnemonic).toBe('one');
    expect(rows[slotIndex(true, PREFIX_CLASS.f2, 1, true)]!.mnemonic).toBe('two');
    expect(rows[slotIndex(false, PREFIX_CLASS['66'], 1, true)]!.mnemonic).toBe('three');
    expect(rows[slotIndex(true, PREFIX_CLASS.np, 2, true)]).toBeUndefined();
  });

  it('prefers the row that names the mandatory prefix', () => {
    const map = buildOpcodeMap([row('named', { prefix: 'f3' }), row('any')]);
    const rows = map[opcodeIndex(0x0f10)]!.rows;
    expect(rows[slotIndex(true, PREFIX_CLASS.f3, 0, true)]!.mnemonic).toBe('named');
    expect(rows[slotIndex(true, PREFIX_CLASS['66'], 0, true)]!.mnemonic).toBe('any');
  });
});
