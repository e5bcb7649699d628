import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts';
import type { StepOutcome } from '../../src/host/debug-step/stepped-state.ts';
import { readAnswer, writeAnswer } from './captured-answer.ts';
import type { SiliconCase } from './case.ts';
import type { Form } from './form.ts';
import { FORMS, generateCase } from './generator.ts';
import { generateSequence, SEQUENCE_FORM } from './sequence.ts';

/**
 * Answers of a real processor, kept so that every host can check against them. A case is not stored: form and seed
 * make it again, and a checksum tells when they make another one than was captured. Stored is what changed.
 *
 * The file: one line of JSON (CapturedHead), then the answers of all forms one behind the other, deflated.
 */
export interface Captured {
  readonly processor: string;
  readonly forms: readonly CapturedForm[];
}

export interface CapturedForm {
  readonly name: string;
  readonly seed: number;
  readonly count: number;
  /** Of the cases. */
  readonly check: number;
  readonly answers: Uint8Array;
}

interface CapturedHead {
  readonly processor: string;
  /** Seed of the first case of each form; those of the others follow it. */
  readonly seed: number;
  readonly forms: readonly [name: string, count: number, check: number, bytes: number][];
}

export const CAPTURED_FILE = 'tests/data/silicon-answers.bin';
const NEWLINE = 0x0a;

export function formName(form: Form): string {
  return `${form.mnemonic} ${form.encoding}`;
}

/** The name under which sequences of instructions stand. */
export const SEQUENCE = formName(SEQUENCE_FORM);

export function readCaptured(root: string): Captured {
  const file = readFileSync(join(root, CAPTURED_FILE));
  const end = file.indexOf(NEWLINE);
  const head = JSON.parse(file.toString('utf8', 0, end)) as CapturedHead;
  const body = inflateRawSync(file.subarray(end + 1));
  let at = 0;
  const forms = head.forms.map(([name, count, check, bytes]) => {
    at += bytes;
    return { name, seed: head.seed, count, check, answers: body.subarray(at - bytes, at) };
  });
  return { processor: head.processor, forms };
}

export function printCaptured(processor: string, forms: readonly CapturedForm[]): Uint8Array {
  const head: CapturedHead = {
    processor,
    seed: forms[0]!.seed,
    forms: forms.map(({ name, count, check, answers }) => [name, count, check, answers.length]),
  };
  const body = deflateRawSync(Buffer.concat(forms.map(({ answers }) => answers)), { level: 9 });
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), body]);
}

/** Cases of one form that follow `seed`, with what the processor answered to them. */
export function captureForm(
  name: string,
  seed: number,
  cases: readonly SiliconCase[],
  outcomes: readonly StepOutcome[],
): CapturedForm {
  const writer = new ByteWriter();
  const check = new Checksum();
  for (const [index, given] of cases.entries()) {
    check.add(given);
    writeAnswer(writer, given, outcomes[index]!);
  }
  return { name, seed, count: cases.length, check: check.value, answers: writer.finish() };
}

/** Makes the cases again, each with the answer. Throws at the end when they are not those that were captured. */
export function* restore(
  form: CapturedForm,
): Generator<{ readonly given: SiliconCase; readonly expected: StepOutcome }> {
  const reader = new ByteReader(form.answers);
  const check = new Checksum();
  for (let index = 0; index < form.count; index += 1) {
    const given = makeCase(form.name, form.seed + index);
    check.add(given);
    yield { given, expected: readAnswer(reader, given) };
  }
  if (check.value !== form.check) {
    throw new Error(`${form.name}: the generator changed; capture again (docs/HACKING.md)`);
  }
}

const FORMS_BY_NAME = new Map(FORMS.map((form) => [formName(form), form]));

export function makeCase(name: string, seed: number): SiliconCase {
  if (name === SEQUENCE) return generateSequence(seed);
  const form = FORMS_BY_NAME.get(name);
  if (!form) throw new Error(`there is no form ${name} any more; capture again (docs/HACKING.md)`);
  return generateCase(form, seed);
}

/** FNV-1a over words. */
class Checksum {
  value = 0x811c9dc5;

  add(given: SiliconCase): void {
    this.#word(given.mode);
    this.#word(Number(given.rflags));
    this.#word(given.mxcsr);
    this.#word((given.x87.fcw << 16) | given.x87.fsw);
    this.#word(given.x87.ftw);
    for (const byte of given.code) this.#word(byte);
    for (const value of given.gpr) this.#wide(value);
    for (const value of given.xmm) this.#wide(value);
    for (const value of given.x87.st) this.#wide(value);
    for (const { address, bytes } of given.memory) {
      this.#wide(address);
      for (const byte of bytes) this.#word(byte);
    }
  }

  #word(value: number): void {
    this.value = Math.imul(this.value ^ value, 0x01000193) >>> 0;
  }

  #wide(value: bigint): void {
    this.#word(Number(BigInt.asUintN(32, value ^ (value >> 32n) ^ (value >> 64n) ^ (value >> 96n))));
  }
}
