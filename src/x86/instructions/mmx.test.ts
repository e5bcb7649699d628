import { describe, expect, it } from 'vitest';
import { decode } from '../decoder.ts';
import type { Lowering } from '../instruction.ts';
import { X87 } from '../state.ts';
import { OPCODES } from './all.ts';
import { MMX_ROWS } from './mmx.ts';

function decoded(hex: string) {
  const bytes = Uint8Array.from(hex.match(/../g)!, (pair) => Number.parseInt(pair, 16));
  const result = decode(bytes, 64, OPCODES);
  return typeof result === 'string' ? undefined : result;
}

interface Record {
  readonly name: string;
  readonly a: number | undefined;
  readonly b: number | undefined;
}

/** The micro-operations that an instruction lowers to. */
function records(hex: string): Record[] {
  const { instruction, row } = decoded(hex)!;
  const found: Record[] = [];
  const note = (operation: { name: string }, fields: { a?: number; b?: number } = {}) => {
    found.push({ name: operation.name, a: fields.a, b: fields.b });
  };
  const out: Lowering = {
    emit: note,
    emit32: note,
    call: note,
    system: note,
    orSystem: note,
    fault: (vector) => note({ name: `fault ${vector}` }),
    stackSize: 8,
    checksSegments: false,
    isNull: () => false,
    offset: 0,
    nextOffset: instruction.length,
  };
  row.lower(instruction, out);
  return found;
}

const PREFIX = { np: '', '66': '66', f2: 'f2', f3: 'f3' } as const;
/** One encoding of each row, with a register and with memory where it has them. */
const encodings = MMX_ROWS.flatMap((row) => {
  const head = `${PREFIX[row.prefix!]}${row.opcode.toString(16).padStart(4, '0')}`;
  if (!row.modrm) return [head];
  const reg = (row.digit ?? 3) << 3;
  return (['register', 'memory'] as const)
    .filter((kind) => row.operand === undefined || row.operand === kind)
    .map((kind) => {
      const modrm = (kind === 'register' ? 0xc5 : 0x06) | reg;
      return `${head}${modrm.toString(16).padStart(2, '0')}${row.immediate === 'b' ? '01' : ''}`;
    });
});

describe('MMX', () => {
  it('shares opcodes with SSE by prefix', () => {
    const names: readonly [string, string | undefined][] = [
      ['0fd6c8', undefined],
      ['660fd6c8', 'movq'],
      ['f30fd6c8', 'movq2dq'],
      ['f20fd6c8', 'movdq2q'],
      ['0f6cc8', undefined],
      ['660f6cc8', 'punpcklqdq'],
      ['0f73d801', undefined],
      ['0f77', 'emms'],
      ['660f77', undefined],
      ['0fe7c8', undefined],
      ['0f2ac8', 'cvtpi2ps'],
      ['f30f2ac8', 'cvtsi2ss'],
      ['660f2cc8', 'cvttpd2pi'],
    ];
    for (const [hex, name] of names) expect(decoded(hex)?.row.mnemonic, hex).toBe(name);
  });

  it('delivers a waiting x87 exception before anything else, except where no MM register is named', () => {
    for (const hex of encodings) {
      const [first] = records(hex);
      if (/^(66)?0f2a1e/.test(hex)) expect(first!.name, hex).not.toBe('mmx-check');
      else expect(first!.name, hex).toBe('mmx-check');
    }
  });

  it('reads and writes memory before it changes the x87 unit', () => {
    for (const hex of encodings) {
      const names = records(hex).map(({ name }) => name);
      const change = names.findIndex((name) => /^mmx-(enter|write|leave)/.test(name));
      const access = names.findLastIndex((name) => /^(load|store)/.test(name));
      if (change >= 0) expect(change, `${hex}: ${names}`).toBeGreaterThan(access);
    }
  });

  it('has eight registers, whatever REX says', () => {
    // PADDB mm3, mm5 with and without REX.R and REX.B.
    expect(records('450ffcdd')).toEqual(records('0ffcdd'));
    const write = records('450ffcdd').find(({ name }) => name === 'mmx-write')!;
    expect(write.a).toBe(X87 + 3 * 16);
  });

  it('reads four bytes only where the manual says mm/m32', () => {
    const narrow = encodings.filter((hex) => records(hex).some(({ name }) => name === 'load-vector32'));
    expect(narrow).toEqual(['0f6e1e', '0f601e', '0f611e', '0f621e']);
  });
});
