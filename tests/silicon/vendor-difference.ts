import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { SiliconCase } from './case.ts';

/**
 * Where processors of other families than the followed one (AMD Zen) do otherwise, although the manual does not call
 * the result undefined. Each line was seen on an Intel processor (Sapphire Rapids); the captured answers of a Zen
 * judge these cases everywhere. A case that differs there, in nothing but what lines name, is counted by the lines and
 * is no difference. docs/CPU.md has the same list.
 */
export interface VendorDifference {
  readonly what: string;
  /** Differences, as compare.ts writes them, that this is about. */
  readonly concerns: RegExp;
  readonly applies: (seen: SeenDifference) => boolean;
}

interface SeenDifference {
  readonly given: SiliconCase;
  /** The processor's. */
  readonly theirs: StepOutcome;
  readonly ours: StepOutcome;
}

const PAGE = 4096;
const RCX = 1;
const ARITHMETIC = 0x8d5n;
const ALIGNMENT_CHECK = 0x40000n;
const UNDERFLOW = 0x10;
const EXCEPTION_SUMMARY = 0x80;
const FOUR_GIB = 2n ** 32n;
const OPERAND_MAX = 512n;
const PREFIX = new Set([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]);

const EVERYTHING = /^/;
const EXCEPTION = /^exception/;
const MEMORY = /^memory/;
const X87_STACK = /^(fsw|ftw|st\d)/;

export const VENDOR_DIFFERENCES: readonly VendorDifference[] = [
  {
    what: 'PUSH of a segment register, 32 bits: a store of 16 bits, the upper half stays [SDM 2 PUSH]',
    concerns: EVERYTHING,
    applies: ({ given, ours }) =>
      given.form.mnemonic === 'push segment' &&
      given.mode === 32 &&
      given.operandSize === 4 &&
      (ours.exception === null || ours.exception.vector === 17 || vectorOf(ours) === 14),
  },
  {
    what: 'REP CMPS, REP SCAS that fault: flags as before the instruction [SDM 2 REP]',
    concerns: /^rflags/,
    applies: ({ given, theirs }) =>
      theirs.exception !== null &&
      given.repeated &&
      /^(cmps|scas)$/.test(given.form.mnemonic) &&
      (theirs.rflags & ARITHMETIC) === (given.rflags & ARITHMETIC),
  },
  {
    what: 'REPE CMPSB, both operands fault: the destination is read first',
    concerns: /^(exception|rflags)/,
    applies: ({ given, theirs, ours }) =>
      given.repeated &&
      given.form.mnemonic === 'cmps' &&
      given.form.opcode[0] === 0xa6 &&
      theirs.exception !== null &&
      ours.exception !== null,
  },
  {
    what: 'unaligned operands of 128 bits (MOVUPS and the like): no #AC [SDM 2 MOVUPS]',
    concerns: EVERYTHING,
    applies: ({ given, theirs, ours }) =>
      (given.rflags & ALIGNMENT_CHECK) !== 0n &&
      vectorOf(ours) === 17 &&
      vectorOf(theirs) !== 17 &&
      /^(mov|movdq|lddqu|maskmovdqu)$/.test(given.form.mnemonic) &&
      given.form.opcode[0] === 0x0f,
  },
  {
    what: 'an operand across 4 GiB: its pages are asked for first [SDM 3 limit checking]',
    concerns: EXCEPTION,
    applies: ({ given, theirs, ours }) =>
      given.mode === 32 &&
      (vectorOf(ours) === 13 || vectorOf(ours) === 12) &&
      theirs.exception?.vector === 14 &&
      theirs.exception.cr2 >= FOUR_GIB - OPERAND_MAX,
  },
  {
    what: '#AC and #GP, #SS at one access: #AC first',
    concerns: EXCEPTION,
    applies: ({ theirs, ours }) =>
      vectorOf(theirs) === 17 && (vectorOf(ours) === 13 || vectorOf(ours) === 12),
  },
  {
    what: 'FXSAVE, FXRSTOR of a misaligned area that reaches beyond the stack segment: #GP, not #SS',
    concerns: EXCEPTION,
    applies: ({ given, theirs, ours }) =>
      /^(fxsave|fxrstor)$/.test(given.form.mnemonic) &&
      // Beyond the last address a case has no operand of its own.
      (given.operand === undefined || given.operand % 16 !== 0) &&
      vectorOf(ours) === 12 &&
      vectorOf(theirs) === 13,
  },
  {
    what: 'CALL to an address that is not canonical: the return address is on the stack',
    concerns: MEMORY,
    applies: ({ given, theirs }) => given.form.mnemonic === 'call' && vectorOf(theirs) === 13,
  },
  {
    what: '67 REP without an iteration (a count of zero, a fault in the first): RCX, RSI, RDI lose their upper halves',
    concerns: /^(rcx|rsi|rdi):/,
    applies: ({ given, theirs, ours }) =>
      given.mode === 64 &&
      given.repeated &&
      hasPrefix(given, 0x67) &&
      theirs.gpr.every((value, index) => BigInt.asUintN(32, value ^ ours.gpr[index]!) === 0n) &&
      (theirs.exception !== null || BigInt.asUintN(32, given.gpr[RCX]!) === 0n),
  },
  {
    what: 'MOVSXD to 16 bits: reads 16 bits [SDM 2 MOVSXD]',
    concerns: EVERYTHING,
    applies: ({ given, theirs, ours }) =>
      given.form.mnemonic === 'movsxd' &&
      given.operandSize === 2 &&
      (theirs.exception ?? ours.exception) !== null,
  },
  {
    what: 'MMX stores that fault: the x87 stack is set up for MMX already',
    concerns: X87_STACK,
    applies: ({ given, theirs }) =>
      theirs.exception !== null && /^(movntq|maskmovq|mmx movd|mmx movq)$/.test(given.form.mnemonic),
  },
  {
    what: 'stores of 80 bits across pages: the part on the first page is stored',
    concerns: MEMORY,
    applies: ({ given, theirs }) =>
      /^(fst|fbstp)$/.test(given.form.mnemonic) && vectorOf(theirs) === 14 && acrossPages(given, 10),
  },
  {
    what: 'x87 stores whose exception is not masked: the operand is not looked at',
    concerns: /^(exception|rip|fsw)/,
    applies: ({ given, theirs, ours }) =>
      /^(fst|fist|fbstp)$/.test(given.form.mnemonic) &&
      theirs.exception === null &&
      ours.exception !== null &&
      (theirs.x87.fsw & EXCEPTION_SUMMARY) !== 0,
  },
  {
    what: 'masked stores that fault: which byte CR2 tells',
    concerns: EXCEPTION,
    applies: ({ given, theirs, ours }) =>
      given.form.setup === 'mask-store' && vectorOf(theirs) === 14 && vectorOf(ours) === 14,
  },
  {
    what: 'BOUND: the lower bound is compared before the upper one is read',
    concerns: /^(exception|rip)/,
    applies: ({ given, theirs, ours }) =>
      given.form.mnemonic === 'bound' && vectorOf(theirs) === 5 && ours.exception !== null,
  },
  {
    what: 'FPREM, FSCALE with an exact result that is denormal, underflow not masked: no exception',
    concerns: /^(fsw|st0)/,
    applies: ({ given, theirs, ours }) =>
      /^(fprem|fscale)$/.test(given.form.mnemonic) &&
      (given.x87.fcw & UNDERFLOW) === 0 &&
      ((theirs.x87.fsw ^ ours.x87.fsw) & 0x3f) === UNDERFLOW,
  },
  {
    what: 'transcendental functions: whether a tiny result counts as an underflow',
    concerns: /^fsw/,
    applies: ({ given, theirs, ours }) =>
      given.form.inexact === 'transcendental' && ((theirs.x87.fsw ^ ours.x87.fsw) & ~0x220) === UNDERFLOW,
  },
];

/** The lines that tell, together, of all that was found; none when something is left. */
export function vendorDifferences(found: readonly string[], seen: SeenDifference): VendorDifference[] {
  const lines = VENDOR_DIFFERENCES.filter((line) => line.applies(seen));
  const told = found.map((difference) => lines.find((line) => line.concerns.test(difference)));
  return told.includes(undefined) ? [] : [...new Set(told)].filter((line) => line !== undefined);
}

function vectorOf(outcome: StepOutcome): number | undefined {
  return outcome.exception?.vector;
}

function hasPrefix({ code }: SiliconCase, prefix: number): boolean {
  for (const byte of code) {
    if (byte === prefix) return true;
    if (!PREFIX.has(byte)) return false;
  }
  return false;
}

function acrossPages({ operand }: SiliconCase, bytes: number): boolean {
  return operand !== undefined && (operand % PAGE) + bytes > PAGE;
}
