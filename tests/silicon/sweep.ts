import { type Form, form } from './form.ts';

/**
 * Forms for the whole opcode map, whatever the bytes mean: what is undefined must raise #UD in the engine too,
 * and what is defined must have the same length and effect. Left out is what a program cannot run alone, what
 * depends on the host's tables, and what this host's processor has and Lockstep's does not offer.
 */

const PREFIX_BYTES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f];
/** Breakpoints, system calls, segment loads, far transfers, VEX EVEX XOP, flags with TF, undefined lengths of x87. */
const ONE_BYTE_LEFT_OUT = new Set([
  ...PREFIX_BYTES,
  ...[0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x62, 0x63, 0x8c, 0x8e, 0x8f, 0x9a, 0x9c, 0x9d, 0xc4, 0xc5],
  ...[
    0xc2, 0xc3, 0xc8, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe8, 0xe9, 0xea, 0xeb,
    0xf1,
  ],
  ...[0x6c, 0x6d, 0x6e, 0x6f, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf],
  ...[0xff, 0xd9, 0xdb, 0xdd, 0xdf],
]);
const TWO_BYTE_LEFT_OUT = new Set([
  ...[0x00, 0x01, 0x02, 0x03, 0x05, 0x07, 0x0e, 0x0f, 0x24, 0x26, 0x31, 0x33, 0x34, 0x35, 0x37, 0x38, 0x3a],
  ...[0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xae, 0xb2, 0xb4, 0xb5, 0xc7, 0x0d, 0x01, 0xa6, 0xa7, 0x30, 0x32],
]);
/** 0F opcodes with meanings beyond SSE2, or for MMX, under some prefixes: `np 66 f3 f2` that are left out. */
const PREFIXES_LEFT_OUT: Readonly<Record<number, string>> = {
  18: 'f3 f2',
  22: 'f3',
  43: 'f3 f2',
  120: 'np 66 f3 f2',
  121: 'np 66 f3 f2',
  124: '66 f2',
  125: '66 f2',
  184: 'f3',
  188: 'f3',
  189: 'f3',
  208: '66 f2',
  240: 'f2',
};
const MMX = [
  [0x60, 0x6b],
  [0x6e, 0x76],
  [0x7e, 0x7f],
  [0xd1, 0xfe],
  [0xc4, 0xc5],
] as const;
const MMX_OPERANDS = new Set([0x2a, 0x2c, 0x2d]);

function leftOut(opcode: number, prefix: string): boolean {
  if (TWO_BYTE_LEFT_OUT.has(opcode)) return true;
  if (PREFIXES_LEFT_OUT[opcode]?.includes(prefix)) return true;
  if (prefix === 'np' && MMX.some(([first, last]) => opcode >= first && opcode <= last)) return true;
  if ((prefix === 'np' || prefix === '66') && MMX_OPERANDS.has(opcode)) return true;
  return opcode === 0xd6 && (prefix === 'f2' || prefix === 'f3');
}

export const SWEEP_FORMS: readonly Form[] = sweepForms();

function sweepForms(): Form[] {
  const forms: Form[] = [];
  const hex = (value: number) => value.toString(16).toUpperCase().padStart(2, '0');
  const options = { undefined: 'oszapc', undefinedStatus: 0x4700 };
  for (let opcode = 0; opcode < 256; opcode += 1) {
    if (!ONE_BYTE_LEFT_OUT.has(opcode) && (opcode & 0xf0) !== 0x40) {
      forms.push(form('sweep', `${hex(opcode)} /r xx`, options));
    }
    // Jcc goes anywhere, and the bytes behind it are no immediates.
    if ((opcode & 0xf0) === 0x80) continue;
    for (const prefix of ['np', '66', 'f3', 'f2']) {
      if (!leftOut(opcode, prefix))
        forms.push(form('sweep', `${prefix.toUpperCase()} 0F ${hex(opcode)} /r xx`, options));
    }
  }
  return forms;
}
