import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/x86/instruction.ts';
import { OPCODES } from '../../src/x86/instructions/all.ts';
import { opcodeIndex, PREFIX_CLASS, slotIndex } from '../../src/x86/opcode-map.ts';
import { kindsOf } from './coverage.ts';
import type { Form } from './form.ts';
import { FORMS, generateCase } from './generator.ts';

/** Rows that no program can run alone and compare, and who judges them instead. */
const JUDGED_ELSEWHERE: readonly [reason: string, rows: RegExp][] = [
  ['answers differ from one time or processor to the next', /^(rdtsc|cpuid|rdrand|rdseed)$/],
  [
    "descriptor tables are the host kernel's (src/x86/system tests; tests/programs: modes-32)",
    /^(pop (7|17|1f|fa1|fa9)|mov 8e|l[defgs]s|lss|callf|jmpf|retf|iret|ver[rw]|lar|lsl)\b/,
  ],
  ['leaves the program, or is not in long mode on AMD processors', /^(syscall|sysenter|sysexit|int1)$/],
  ['UMIP of the host, which the guest has not', /^(sldt|str|sgdt|sidt|smsw)$/],
  ['user code may, but the harness would lose its bases', /^wr[fg]sbase$/],
];

const SEEDS_MAX = 500;

/** The rows that encodings of a form lead to, in any mode of it. */
function rowsOf(form: Form): Row[] {
  const escaped = form.opcode[0] === 0x0f;
  const first = escaped ? 0x0f00 | form.opcode[1]! : form.opcode[0]!;
  const behind = form.opcode.slice(escaped ? 2 : 1);
  const found: Row[] = [];
  for (let low = 0; low < (form.plusRegister && behind.length === 0 ? 8 : 1); low += 1) {
    const slots = OPCODES[opcodeIndex(first + low)];
    if (!slots) continue;
    for (const long of form.modes === 'both' ? [false, true] : [form.modes === 'long']) {
      for (const prefix of form.prefix === 'any' ? [0, 1] : [PREFIX_CLASS[form.prefix]]) {
        for (const [digit, register] of modrmsOf(form, behind)) {
          const row = slots.rows[slotIndex(long, prefix, digit, register)];
          if (row) found.push(row);
        }
      }
    }
  }
  return found;
}

function modrmsOf(form: Form, behind: readonly number[]): [digit: number, register: boolean][] {
  if (!form.modrm) {
    return behind.length > 0 ? [[(behind[0]! >> 3) & 7, true]] : [[0, false]];
  }
  const digits = form.digit === undefined ? [0, 1, 2, 3, 4, 5, 6, 7] : [form.digit];
  return digits.flatMap((digit) =>
    [false, true]
      .filter((register) => form.operand === undefined || (form.operand === 'register') === register)
      .map((register): [number, boolean] => [digit, register]),
  );
}

function name(row: Row): string {
  return [row.mnemonic, row.opcode.toString(16), row.digit, row.prefix, row.operand, row.modes]
    .filter((part) => part !== undefined)
    .join(' ');
}

const judgedElsewhere = (row: Row) =>
  JUDGED_ELSEWHERE.some(([, rows]) => rows.test(row.mnemonic) || rows.test(name(row)));

const allRows = new Set(OPCODES.flatMap((slots) => slots?.rows ?? []).filter((row) => row !== undefined));
const compared = new Set(FORMS.flatMap(rowsOf));

describe('the forms that are compared with a processor', () => {
  it('are all that the opcode map has, but for a list with reasons', () => {
    const missing = [...allRows].filter((row) => !compared.has(row) && !judgedElsewhere(row));
    expect(missing.map(name)).toEqual([]);
  });

  it('and the list names nothing that is compared', () => {
    const idle = JUDGED_ELSEWHERE.filter(
      ([, rows]) => ![...allRows].some((row) => rows.test(name(row)) || rows.test(row.mnemonic)),
    );
    expect(idle).toEqual([]);
    expect([...compared].filter(judgedElsewhere).map(name)).toEqual([]);
  });

  it('reach every kind of operand in both widths of code', () => {
    const missing: string[] = [];
    for (const form of FORMS) {
      const modes = form.modes === 'both' ? [64, 32] : [form.modes === 'long' ? 64 : 32];
      const wanted = new Set(kindsOf(form).flatMap((kind) => modes.map((mode) => `${kind} ${mode}`)));
      for (let seed = 0; seed < SEEDS_MAX && wanted.size > 0; seed += 1) {
        const given = generateCase(form, seed);
        wanted.delete(`${given.operandKind} ${given.mode}`);
      }
      for (const kind of wanted) missing.push(`${form.mnemonic} ${form.encoding}, ${kind}`);
    }
    expect(missing).toEqual([]);
  });
});
