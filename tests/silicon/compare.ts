import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { REGISTER_NAMES, toHex } from '../../src/host/debug-step/json.ts';
import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { SiliconCase } from './case.ts';

/**
 * Where an engine's answer differs from the processor's, one line each; none when they agree. What the manual leaves
 * undefined is compared too when the answers are of the family of processors that Lockstep follows there. Never
 * compared: the last bit of transcendental functions with what tells of its rounding (C1), and MXCSR_MASK, in which
 * processors tell of features.
 */

const MANY_STORES = /^(fxsave|fnsave|fnstenv|pusha|enter)$/;
const PRECISION = 0x20;
const C1 = 0x200;
/** From the guard page below its half on, the host's kernel hides what is mapped. */
const KERNEL_HALF = (1n << 47n) - 0x1000n;
/** Relative error of RCPSS and RSQRTSS [SDM 2B RCPPS]. Two answers may lie on either side. */
const RECIPROCAL_ERROR = 2 * 1.5 * 2 ** -12;
const TRANSCENDENTAL_ULPS = 1n;

export function differences(
  given: SiliconCase,
  expected: StepOutcome,
  actual: StepOutcome,
  sameFamily: boolean,
): string[] {
  const found: string[] = [];
  if (!sameFamily && isSmallBranch(given)) return found;
  const differ = (what: string, want: bigint | number, got: bigint | number) => {
    if (want !== got) found.push(`${what}: 0x${got.toString(16)}, the processor has 0x${want.toString(16)}`);
  };
  const wanted = exceptionText(expected);
  const got = exceptionText(actual);
  if (wanted !== got) found.push(`exception: ${got}, the processor has ${wanted}`);
  if (!expected.exception && !actual.exception) differ('retired', expected.retired, actual.retired);

  // POPA that faults half-way has loaded some registers or none, by the model of processor.
  const partial = !sameFamily && given.form.mnemonic === 'popa' && expected.exception !== null;
  const registers = partial ? 0 : given.mode === 32 ? 8 : 16;
  const width = given.mode === 32 ? 32 : 64;
  for (let index = 0; index < registers; index += 1) {
    const cut = (value: bigint) => BigInt.asUintN(width, value);
    differ(REGISTER_NAMES[index]!, cut(expected.gpr[index]!), cut(actual.gpr[index]!));
  }
  differ('rip', expected.rip, actual.rip);
  const undefinedFlags = expected.exception === null ? given.undefinedFlags : given.undefinedAtFault;
  const mask = sameFamily ? -1n : ~BigInt(undefinedFlags ?? given.undefinedFlags);
  if ((expected.rflags & mask) !== (actual.rflags & mask)) {
    const text = `${flagText(actual.rflags)}, the processor has ${flagText(expected.rflags)}`;
    found.push(`rflags: ${text} (before: ${flagText(given.rflags)})`);
  }
  const vectors = given.mode === 32 ? 8 : 16;
  for (let index = 0; index < vectors; index += 1) {
    const [want, have] = [expected.xmm[index]!, actual.xmm[index]!];
    if (want === have) continue;
    if (!sameFamily && given.form.inexact === 'reciprocal' && nearVectors(want, have)) continue;
    differ(`xmm${index}`, want, have);
  }
  differ('mxcsr', expected.mxcsr, actual.mxcsr);
  compareX87(given, expected, actual, sameFamily, differ);
  compareMemory(given, expected, actual, sameFamily, found);
  return found;
}

/** 66 before a near branch of 64-bit code: AMD's processors take 16 bits, Intel's ignore it. */
function isSmallBranch({ form, mode, operandSize }: SiliconCase): boolean {
  return mode === 64 && operandSize === 2 && /^(jcc|jmp|call|ret|loop)$/.test(form.mnemonic);
}

function compareX87(
  given: SiliconCase,
  expected: StepOutcome,
  actual: StepOutcome,
  sameFamily: boolean,
  differ: (what: string, want: bigint | number, got: bigint | number) => void,
): void {
  const inexact = given.form.inexact === 'transcendental';
  const undefinedStatus =
    (sameFamily ? 0 : given.form.undefinedStatus) | (inexact ? C1 | (sameFamily ? 0 : PRECISION) : 0);
  differ('fcw', expected.x87.fcw, actual.x87.fcw);
  differ('fsw', expected.x87.fsw & ~undefinedStatus, actual.x87.fsw & ~undefinedStatus);
  differ('ftw', expected.x87.ftw, actual.x87.ftw);
  for (let index = 0; index < 8; index += 1) {
    const [want, have] = [expected.x87.st[index]!, actual.x87.st[index]!];
    if (inexact && near80(want, have)) continue;
    differ(`st${index}`, want, have);
  }
}

function compareMemory(
  given: SiliconCase,
  expected: StepOutcome,
  actual: StepOutcome,
  sameFamily: boolean,
  found: string[],
): void {
  // A store of many parts that faults in one of them may have made the others.
  const partial = !sameFamily && expected.exception?.vector === 14;
  if (partial && MANY_STORES.test(given.form.mnemonic)) return;
  const ignored = ignoredBytes(given, sameFamily);
  for (const [chunk, { address, bytes }] of expected.memory.entries()) {
    const have = actual.memory[chunk]!.bytes;
    for (let index = 0; index < bytes.length; index += 1) {
      const at = Number(address) + index;
      if (bytes[index] === have[index] || ignored(at)) continue;
      const run = (from: Uint8Array) => toHex(from.subarray(index, index + 16));
      found.push(`memory 0x${at.toString(16)}: ${run(have)}, the processor has ${run(bytes)}`);
      break;
    }
  }
}

/** Instruction and operand pointers, and what else an image holds that depends on the model of processor. */
function ignoredBytes(given: SiliconCase, sameFamily: boolean): (address: number) => boolean {
  const at = given.operand;
  if (at === undefined) return () => false;
  const between = (from: number, to: number) => (address: number) =>
    address >= at + from && address < at + to;
  switch (given.form.mnemonic) {
    case 'fxsave': {
      const pointers = between(6, 24);
      const maskAndRest = between(28, 32);
      if (sameFamily) return maskAndRest;
      const unused = between(given.mode === 32 ? 288 : 416, 512);
      return (address) => pointers(address) || maskAndRest(address) || unused(address);
    }
    case 'fnstenv':
    case 'fnsave':
      if (sameFamily) return () => false;
      return given.operandSize === 2 ? between(6, 14) : between(12, 28);
    default:
      return () => false;
  }
}

function exceptionText(outcome: StepOutcome): string {
  const { exception } = outcome;
  if (!exception) return 'none';
  let { errorCode } = exception;
  // The host's kernel hides from programs which of its own pages are mapped.
  if (exception.vector === 14 && exception.cr2 >= KERNEL_HALF) errorCode &= ~1;
  const address = exception.vector === 14 ? ` at 0x${exception.cr2.toString(16)}` : '';
  return `#${exception.vector}(${errorCode})${address}`;
}

const FLAG_NAMES: readonly [bigint, string][] = [
  [0x1n, 'CF'],
  [0x4n, 'PF'],
  [0x10n, 'AF'],
  [0x40n, 'ZF'],
  [0x80n, 'SF'],
  [0x200n, 'IF'],
  [0x400n, 'DF'],
  [0x800n, 'OF'],
  [0x4000n, 'NT'],
  [0x40000n, 'AC'],
  [0x200000n, 'ID'],
];

function flagText(flags: bigint): string {
  const names = FLAG_NAMES.filter(([bit]) => flags & bit).map(([, name]) => name);
  return `0x${flags.toString(16)} ${names.join(' ')}`;
}

function nearVectors(want: bigint, have: bigint): boolean {
  for (let lane = 0n; lane < 128n; lane += 32n) {
    const bits = (value: bigint) => Number((value >> lane) & 0xffff_ffffn);
    if (bits(want) === bits(have)) continue;
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, bits(want));
    view.setUint32(4, bits(have));
    const [one, other] = [view.getFloat32(0), view.getFloat32(4)];
    // Results at the edge of the normal range may be flushed to zero by one and not by the other.
    if (Math.abs(one) < 2 ** -125 && Math.abs(other) < 2 ** -125 && one * other >= 0) continue;
    if (!(Math.abs(one - other) <= Math.abs(one) * RECIPROCAL_ERROR)) return false;
  }
  return true;
}

function near80(want: bigint, have: bigint): boolean {
  const [one, other] = [position(want), position(have)];
  const distance = one > other ? one - other : other - one;
  return distance <= TRANSCENDENTAL_ULPS;
}

/** Consecutive values have consecutive positions: the explicit integer bit is left out. */
function position(bits: bigint): bigint {
  const sign = bits >> 79n;
  const exponent = (bits >> 64n) & 0x7fffn;
  const magnitude = (exponent << 63n) | (bits & 0x7fff_ffff_ffff_ffffn);
  return sign ? -magnitude : magnitude;
}

/** What a debugger would show for the case's bytes. */
export function disassemble(given: SiliconCase): string {
  const directory = mkdtempSync(join(tmpdir(), 'silicon-'));
  try {
    const file = join(directory, 'code');
    writeFileSync(file, given.code);
    const machine = given.mode === 64 ? 'i386:x86-64' : 'i386';
    const text = execFileSync(
      'objdump',
      ['-D', '-b', 'binary', '-m', machine, '-M', 'intel', `--adjust-vma=${given.at}`, file],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const lines = text.split('\n').filter((line) => /^\s*[0-9a-f]+:\t.*\t/.test(line));
    const wanted = given.form.mnemonic === 'sequence' ? lines : lines.slice(0, 1);
    return wanted.map((line) => line.split('\t').at(-1)?.trim()).join('; ');
  } catch {
    return '(objdump is not there)';
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
