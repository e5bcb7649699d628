import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { printCase, toHex } from '../../src/host/debug-step/json.ts';
import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import type { SiliconCase } from './case.ts';
import type { Form } from './form.ts';
import { FORMS, generateCase } from './generator.ts';
import { generateSequence, SEQUENCE_FORM } from './sequence.ts';

/**
 * Answers of a real processor, kept so that every host can check against them. A case is not stored: form and seed
 * make it again, and a checksum tells when they make another one than was captured. Stored is what changed.
 */
export interface Captured {
  readonly processor: string;
  readonly entries: readonly CapturedEntry[];
}

/** One line of the file. */
export interface CapturedEntry {
  readonly form: string;
  readonly seed: number;
  readonly check: string;
  readonly change: Change;
}

/** Values that differ from before the instruction, in hexadecimal. */
interface Change {
  /** RIP minus `at`. */
  rip: string;
  retired?: number;
  exception?: [vector: number, errorCode: number, cr2: string];
  gpr?: Record<string, string>;
  rflags?: string;
  xmm?: Record<string, string>;
  mxcsr?: string;
  x87?: [fcw: string, fsw: string, ftw: string];
  st?: Record<string, string>;
  /** Runs of changed bytes by address. */
  memory?: Record<string, string>;
}

export const CAPTURED_FILE = 'tests/silicon/captured.jsonl';

export function formName(form: Form): string {
  return `${form.mnemonic} ${form.encoding}`;
}

/** The name under which sequences of instructions stand. */
export const SEQUENCE = formName(SEQUENCE_FORM);

export function readCaptured(root: string): Captured {
  const [head, ...lines] = readFileSync(join(root, CAPTURED_FILE), 'utf8').trimEnd().split('\n');
  const { processor } = JSON.parse(head!) as { processor: string };
  const entries = lines.map((line) => {
    const [form, seed, check, change] = JSON.parse(line) as [string, number, string, Change];
    return { form, seed, check, change };
  });
  return { processor, entries };
}

export function printCaptured(captured: Captured): string {
  const lines = captured.entries.map(({ form, seed, check, change }) =>
    JSON.stringify([form, seed, check, change]),
  );
  return `${[JSON.stringify({ processor: captured.processor }), ...lines].join('\n')}\n`;
}

export function capture(given: SiliconCase, outcome: StepOutcome): CapturedEntry {
  const change: Change = { rip: hex(BigInt.asUintN(64, outcome.rip - given.at)) };
  const several = (before: readonly bigint[], after: readonly bigint[]) => {
    const found = after.flatMap((value, index) => (value === before[index] ? [] : [[index, hex(value)]]));
    return found.length === 0 ? undefined : (Object.fromEntries(found) as Record<string, string>);
  };
  if (outcome.exception) {
    const { vector, errorCode, cr2 } = outcome.exception;
    change.exception = [vector, errorCode, hex(cr2)];
  } else if (outcome.retired !== 1) {
    change.retired = outcome.retired;
  }
  const gpr = several(given.gpr, outcome.gpr);
  if (gpr) change.gpr = gpr;
  if (outcome.rflags !== given.rflags) change.rflags = hex(outcome.rflags);
  const xmm = several(given.xmm, outcome.xmm);
  if (xmm) change.xmm = xmm;
  if (outcome.mxcsr !== given.mxcsr) change.mxcsr = hex(outcome.mxcsr);
  const words = ({ x87 }: SiliconCase | StepOutcome) => [x87.fcw, x87.fsw, x87.ftw].map(hex);
  if (words(outcome).join() !== words(given).join()) {
    change.x87 = words(outcome) as [string, string, string];
  }
  const st = several(given.x87.st, outcome.x87.st);
  if (st) change.st = st;
  const memory = changedMemory(given, outcome);
  if (memory) change.memory = memory;
  return { form: formName(given.form), seed: given.seed, check: checksum(given), change };
}

function changedMemory(given: SiliconCase, outcome: StepOutcome): Record<string, string> | undefined {
  const runs: Record<string, string> = {};
  for (const [chunk, { address, bytes }] of given.memory.entries()) {
    const after = outcome.memory[chunk]!.bytes;
    for (let index = 0; index < bytes.length; index += 1) {
      if (bytes[index] === after[index]) continue;
      let end = index + 1;
      while (end < bytes.length && bytes[end] !== after[end]) end += 1;
      runs[hex(address + BigInt(index))] = toHex(after.subarray(index, end));
      index = end;
    }
  }
  return Object.keys(runs).length === 0 ? undefined : runs;
}

/** Remakes the case and what the processor answered; undefined when the generator makes another case now. */
export function restore(
  entry: CapturedEntry,
): { readonly given: SiliconCase; readonly expected: StepOutcome } | undefined {
  const given = remake(entry);
  if (!given) return undefined;
  if (checksum(given) !== entry.check) return undefined;
  const { change } = entry;
  const several = (before: readonly bigint[], changed: Record<string, string> | undefined) =>
    before.map((value, index) => (changed?.[index] === undefined ? value : BigInt(changed[index])));
  const [fcw, fsw, ftw] = change.x87?.map(Number) ?? [given.x87.fcw, given.x87.fsw, given.x87.ftw];
  const memory = given.memory.map(({ address, bytes }) => ({ address, bytes: bytes.slice() }));
  for (const [start, run] of Object.entries(change.memory ?? {})) {
    const at = BigInt(start);
    const chunk = memory.find(({ address, bytes }) => at >= address && at < address + BigInt(bytes.length))!;
    chunk.bytes.set(Buffer.from(run, 'hex'), Number(at - chunk.address));
  }
  const expected: StepOutcome = {
    rip: BigInt.asUintN(64, given.at + BigInt(change.rip)),
    retired: change.retired ?? 1,
    exception: change.exception
      ? { vector: change.exception[0], errorCode: change.exception[1], cr2: BigInt(change.exception[2]) }
      : null,
    gpr: several(given.gpr, change.gpr),
    rflags: BigInt(change.rflags ?? given.rflags),
    xmm: several(given.xmm, change.xmm),
    mxcsr: Number(change.mxcsr ?? given.mxcsr),
    x87: { fcw: fcw!, fsw: fsw!, ftw: ftw!, st: several(given.x87.st, change.st) },
    memory,
  };
  return { given, expected };
}

const FORMS_BY_NAME = new Map(FORMS.map((form) => [formName(form), form]));

function remake({ form, seed }: CapturedEntry): SiliconCase | undefined {
  if (form === SEQUENCE) return generateSequence(seed);
  const known = FORMS_BY_NAME.get(form);
  return known && generateCase(known, seed);
}

function checksum(given: SiliconCase): string {
  const text = printCase(given);
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return value.toString(16);
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
