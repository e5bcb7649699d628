import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Decoded, decode, INSTRUCTION_LENGTH_MAX } from './decoder.ts';
import type { CodeSize } from './instruction.ts';
import { OPCODES } from './instructions/all.ts';

function bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
}

function decoded(text: string, codeSize: CodeSize = 64): Decoded {
  const result = decode(bytes(text), codeSize, OPCODES);
  if (typeof result === 'string') throw new Error(`${text}: ${result}`);
  return result;
}

/** Instructions as long as GNU objdump 2.40 takes them to be: lines of code size and bytes. */
const CAPTURED = readFileSync(join(import.meta.dirname, '../../tests/data/instruction-lengths.txt'), 'utf8')
  .trimEnd()
  .split('\n')
  .flatMap((line) => {
    const [size, ...instructions] = line.split(' ');
    return instructions.map((text) => ({ codeSize: Number(size) as CodeSize, code: bytes(text) }));
  });

describe('the decoder', () => {
  it('finds the lengths that objdump finds', () => {
    const wrong = CAPTURED.filter(({ code, codeSize }) => {
      const padded = new Uint8Array(INSTRUCTION_LENGTH_MAX).fill(0x90);
      padded.set(code);
      const result = decode(padded, codeSize, OPCODES);
      return typeof result === 'string' || result.instruction.length !== code.length;
    });
    expect(wrong).toEqual([]);
    expect(CAPTURED.length).toBeGreaterThan(1000);
  });

  it('asks for more bytes until the last one is there', () => {
    for (const { code, codeSize } of CAPTURED) {
      for (let length = 0; length < code.length; length++) {
        expect(decode(code.subarray(0, length), codeSize, OPCODES)).toBe('truncated');
      }
    }
  });

  it('takes any bytes at all', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 20 }),
        fc.constantFrom<CodeSize>(16, 32, 64),
        (code, codeSize) => {
          const result = decode(code, codeSize, OPCODES);
          if (typeof result !== 'string') {
            expect(result.instruction.length).toBeLessThanOrEqual(Math.min(code.length, 15));
          }
        },
      ),
      { numRuns: 5000, seed: 1 },
    );
  });

  it('refuses what is longer than 15 bytes', () => {
    expect(decoded('66 66 66 66 66 66 66 66 66 66 66 66 66 66 90').instruction.length).toBe(15);
    expect(decode(bytes('66'.repeat(15)), 64, OPCODES)).toBe('too-long');
    expect(decode(bytes(`${'66'.repeat(11)} 81 04 24 01 00`), 64, OPCODES)).toBe('too-long');
  });

  it('counts a REX prefix only just before the opcode', () => {
    expect(decoded('48 89 d8').instruction.operandSize).toBe(8);
    expect(decoded('48 66 89 d8').instruction).toMatchObject({ operandSize: 2, rex: false, rexW: false });
    expect(decoded('66 48 89 d8').instruction.operandSize).toBe(8);
    expect(decoded('4c 89 c8', 32).row.mnemonic).toBe('dec');
  });

  it('defaults to 64 bits where the manual says so', () => {
    expect(decoded('50').instruction.operandSize).toBe(8);
    expect(decoded('66 50').instruction.operandSize).toBe(2);
    expect(decoded('50', 32).instruction.operandSize).toBe(4);
    expect(decoded('e8 00000000').instruction.operandSize).toBe(8);
    expect(decoded('01 d8').instruction.operandSize).toBe(4);
    expect(decoded('01 d8', 16).instruction.operandSize).toBe(2);
  });

  it('forms addresses of 64 bits', () => {
    const memory = (text: string) => decoded(text).instruction.memory;
    expect(memory('8b 05 10000000')).toMatchObject({ base: undefined, ripRelative: true, displacement: 16 });
    expect(memory('8b 04 25 f0ffffff')).toMatchObject({
      base: undefined,
      index: undefined,
      displacement: -16,
    });
    expect(memory('42 8b 04 a3')).toMatchObject({ base: 3, index: 12, scale: 2 });
    expect(memory('8b 04 24')).toMatchObject({ base: 4, index: undefined, segment: 'ss' });
    expect(memory('41 8b 45 80')).toMatchObject({ base: 13, displacement: -128, segment: 'ds' });
    expect(memory('8b 04 6d 00000000')).toMatchObject({ base: undefined, index: 5, scale: 1, segment: 'ds' });
  });

  it('keeps only FS and GS of the segment prefixes in 64-bit code', () => {
    expect(decoded('2e 8b 03').instruction.memory!.segment).toBe('ds');
    expect(decoded('65 3e 8b 03').instruction.memory!.segment).toBe('gs');
    expect(decoded('65 3e 8b 03', 32).instruction.memory!.segment).toBe('ds');
  });

  it('forms addresses of 16 bits', () => {
    const memory = (text: string) => decoded(text, 16).instruction.memory;
    expect(memory('8b 00')).toMatchObject({ base: 3, index: 6, segment: 'ds' });
    expect(memory('8b 02')).toMatchObject({ base: 5, index: 6, segment: 'ss' });
    expect(memory('8b 06 fe ff')).toMatchObject({ base: undefined, displacement: -2, segment: 'ds' });
    expect(memory('8b 46 fe')).toMatchObject({ base: 5, index: undefined, displacement: -2, segment: 'ss' });
  });

  it('names the memory of string instructions', () => {
    expect(decoded('64 a4').instruction.memory).toMatchObject({ base: 6, segment: 'fs' });
    expect(decoded('64 aa').instruction.memory).toMatchObject({ base: 7, segment: 'es' });
    expect(decoded('26 a6', 32).instruction.memory).toMatchObject({ base: 6, segment: 'es' });
  });

  it('sign-extends immediates as their form says', () => {
    expect(decoded('83 c0 ff').instruction.immediate).toBe(-1n);
    expect(decoded('48 05 00000080').instruction.immediate).toBe(-0x8000_0000n);
    expect(decoded('48 b8 00000000000000ff').instruction.immediate).toBe(-(1n << 56n));
    expect(decoded('c8 1000 03').instruction).toMatchObject({ immediate: 16n, immediate2: 3 });
    expect(decoded('a1 8877665544332211').instruction.memory!.absolute).toBe(0x1122334455667788n);
    expect(decoded('ea 78563412 ffee', 32).instruction).toMatchObject({ immediate: 0x12345678n });
  });

  it('allows LOCK only where memory is changed', () => {
    expect(decode(bytes('f0 01 03'), 64, OPCODES)).toHaveProperty('instruction.lock', true);
    expect(decode(bytes('f0 01 c3'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('f0 03 03'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('f0 39 03'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('f0 90'), 64, OPCODES)).toBe('undefined');
  });

  it('has the hints of later processors as what they were before', () => {
    expect(decoded('f3 0f bc c3').row.mnemonic).toBe('bsf');
    expect(decoded('f3 0f bd c3').row.mnemonic).toBe('bsr');
    expect(decoded('f3 90').row.mnemonic).toBe('nop');
    expect(decoded('f3 0f 1e fa').row.mnemonic).toBe('nop');
    expect(decoded('0f 1f 84 00 00000000').instruction.length).toBe(8);
    expect(decode(bytes('f3 0f b8 c3'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('c5 f8 77'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('0f 0b'), 64, OPCODES)).toBe('undefined');
    expect(decode(bytes('48 0f c7 0e'), 64, OPCODES)).toHaveProperty('row.mnemonic', 'cmpxchg8b');
  });
});
