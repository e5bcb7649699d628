import type { SiliconCase } from './case.ts';
import type { DataKind, Form } from './form.ts';

/**
 * What a run has covered: how often each form ran with each kind of operand, and how often with operands, values
 * and modes at which instructions change their behaviour. Told by the least covered form.
 */

const KINDS = ['register', 'memory', 'none'] as const;
const VALUES = [
  'zero',
  'denormal',
  'normal',
  'infinity',
  'quiet NaN',
  'signaling NaN',
  'unsupported',
] as const;
type ValueClass = (typeof VALUES)[number];
const ROUNDINGS = ['to nearest', 'down', 'up', 'to zero'] as const;
const PRECISIONS = ['24 bits', 'reserved', '53 bits', '64 bits'] as const;
const PAGE = 4096;

interface FormCoverage {
  readonly form: Form;
  /** By what was counted: how often. */
  readonly counts: Map<string, number>;
}

export class Coverage {
  readonly #forms = new Map<Form, FormCoverage>();
  readonly #exceptions = new Map<string, number>();
  #cases = 0;

  add(given: SiliconCase, vector: number | undefined): void {
    this.#cases += 1;
    const outcome = vector === undefined ? 'none' : `#${vector}`;
    this.#exceptions.set(outcome, (this.#exceptions.get(outcome) ?? 0) + 1);
    const { form, operand } = given;
    let entry = this.#forms.get(form);
    if (!entry) {
      entry = { form, counts: new Map() };
      this.#forms.set(form, entry);
    }
    const { counts } = entry;
    const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
    count(`operand: ${given.operandKind}`);
    if (operand !== undefined) {
      const bytes = operandBytes(given);
      if (bytes > 1 && operand % bytes !== 0) count('unaligned');
      if (bytes > 1 && (operand % PAGE) + bytes > PAGE) count('across pages');
    }
    if (isSseFloat(form)) {
      count(`rounding ${ROUNDINGS[(given.mxcsr >> 13) & 3]}`);
      if (given.mxcsr & 0x40) count('denormals are zeros');
      if (given.mxcsr & 0x8000) count('flush to zero');
      for (const kind of sseValues(given)) count(`value: ${kind}`);
    } else if (isX87Float(form)) {
      count(`rounding ${ROUNDINGS[(given.x87.fcw >> 10) & 3]}`);
      count(`precision ${PRECISIONS[(given.x87.fcw >> 8) & 3]}`);
      for (const kind of x87Values(given)) count(`value: ${kind}`);
    }
  }

  /** Forms that did not run `least` times with every kind of operand that they ran with. */
  tooRare(least: number): string[] {
    const rare: string[] = [];
    for (const { form, counts } of this.#forms.values()) {
      for (const kind of kindsOf(form)) {
        const seen = counts.get(`operand: ${kind}`) ?? 0;
        if (seen < least) rare.push(`${form.mnemonic} ${form.encoding}, ${kind}: ${seen}`);
      }
    }
    return rare;
  }

  /** One line for each thing that is counted, with the form that has it least. */
  summary(): string[] {
    const lines = [`${this.#cases} cases of ${this.#forms.size} forms; how often each form ran with`];
    const whats: string[] = [...KINDS.map((kind) => `operand: ${kind}`), 'unaligned', 'across pages'];
    whats.push(...VALUES.map((value) => `value: ${value}`), ...ROUNDINGS.map((name) => `rounding ${name}`));
    whats.push(...PRECISIONS.map((name) => `precision ${name}`), 'denormals are zeros', 'flush to zero');
    for (const what of whats) {
      const having = [...this.#forms.values()].filter(({ form, counts }) => concerns(form, what, counts));
      if (having.length === 0) continue;
      const of = ({ counts }: FormCoverage) => counts.get(what) ?? 0;
      const least = having.reduce((one, other) => (of(other) < of(one) ? other : one));
      const total = having.reduce((sum, entry) => sum + of(entry), 0);
      const name = `${least.form.mnemonic} ${least.form.encoding}`;
      lines.push(
        `  ${what.padEnd(22)} ${String(having.length).padStart(4)} forms, at least ${of(least)} (${name}), ${total} in all`,
      );
    }
    const vectors = [...this.#exceptions].sort(([one], [other]) =>
      one.localeCompare(other, 'en', { numeric: true }),
    );
    lines.push(`  exceptions: ${vectors.map(([vector, seen]) => `${vector} ${seen}`).join(', ')}`);
    return lines;
  }

  /** Every count, a line for each form. */
  table(): string[] {
    return [...this.#forms.values()].map(({ form, counts }) => {
      const told = [...counts].map(([what, seen]) => `${what} ${seen}`).join('; ');
      return `${form.mnemonic} ${form.encoding}: ${told}`;
    });
  }
}

/** Kinds of operand that a form can have. */
export function kindsOf(form: Form): readonly ('register' | 'memory' | 'none')[] {
  if (form.mnemonic === 'sequence') return ['none'];
  if (form.modrm) return form.operand ? [form.operand] : ['register', 'memory'];
  if (form.setup === 'string' || form.immediates.includes('mo')) return ['memory'];
  return [form.plusRegister ? 'register' : 'none'];
}

/** Whether a form should have any of what is counted. */
function concerns(form: Form, what: string, counts: ReadonlyMap<string, number>): boolean {
  if (what.startsWith('operand: ')) {
    return (kindsOf(form) as readonly string[]).includes(what.slice('operand: '.length));
  }
  // What is never there by the kind of form (one byte wide, not a float) has no count at all.
  return (counts.get(what) ?? 0) > 0;
}

const isX87 = (form: Form) => form.opcode[0]! >= 0xd8 && form.opcode[0]! <= 0xdf;
const X87_CONTROL =
  /^(fldcw|fnstcw|fnstsw|fnclex|fninit|fldenv|fnstenv|frstor|fnsave|ud|fnop|ffree|fdecstp|fld constant|undocumented)$/;

function isX87Float(form: Form): boolean {
  return isX87(form) && !X87_CONTROL.test(form.mnemonic);
}

function isSseFloat(form: Form): boolean {
  return !isX87(form) && (form.data === 'f32' || form.data === 'f64');
}

const DATA_BYTES: Readonly<Record<DataKind, number>> = {
  f32: 4,
  f64: 8,
  f80: 10,
  bcd: 10,
  i16: 2,
  i32: 4,
  i64: 8,
  'shift-count': 8,
};
/** Two-byte opcodes with an operand of one byte. */
const BYTE_OPERANDS = new Set([0xb0, 0xc0, 0xb6, 0xbe]);

/** How long the operand in memory is by the look of the encoding. */
function operandBytes({ form, operandSize }: SiliconCase): number {
  const last = form.opcode.at(-1)!;
  if (isX87(form)) return form.data ? DATA_BYTES[form.data] : [4, 4, 4, 4, 8, 8, 2, 2][last & 7]!;
  if (form.opcode[0] !== 0x0f) return last & 1 || last === 0x62 || last === 0x63 ? operandSize : 1;
  if (form.prefix === 'f3') return 4;
  if (form.prefix === 'f2') return 8;
  if (form.prefix !== 'any') return 16;
  return BYTE_OPERANDS.has(last) || (last & 0xf0) === 0x90 ? 1 : operandSize;
}

function memoryAt(given: SiliconCase, bytes: number): bigint | undefined {
  const { operand } = given;
  if (operand === undefined) return undefined;
  for (const chunk of given.memory) {
    const at = operand - Number(chunk.address);
    if (at < 0 || at + bytes > chunk.bytes.length) continue;
    let value = 0n;
    for (let index = bytes - 1; index >= 0; index -= 1)
      value = (value << 8n) | BigInt(chunk.bytes[at + index]!);
    return value;
  }
  return undefined;
}

/** Classes of the values that an SSE form takes, once each. */
function sseValues(given: SiliconCase): Set<ValueClass> {
  const { form } = given;
  const scalar = form.prefix === 'f3' || form.prefix === 'f2';
  const laneBits = form.data === 'f32' ? 32n : 64n;
  const lanes = scalar ? 1n : 128n / laneBits;
  const found = new Set<ValueClass>();
  const values = [given.xmm[given.reg & 15]];
  values.push(
    given.rm === undefined ? memoryAt(given, Number(lanes * laneBits) / 8) : given.xmm[given.rm & 15],
  );
  for (const value of values) {
    if (value === undefined) continue;
    for (let lane = 0n; lane < lanes; lane += 1n) {
      const bits = BigInt.asUintN(Number(laneBits), value >> (lane * laneBits));
      found.add(laneBits === 32n ? classOf(bits, 8n, 23n) : classOf(bits, 11n, 52n));
    }
  }
  return found;
}

function x87Values(given: SiliconCase): Set<ValueClass> {
  const { form, x87 } = given;
  const found = new Set<ValueClass>([classOf80(x87.st[0]!)]);
  if (form.plusRegister && given.rm !== undefined) found.add(classOf80(x87.st[given.rm & 7]!));
  const value = form.data && memoryAt(given, DATA_BYTES[form.data]);
  if (value === undefined) return found;
  if (form.data === 'f32') found.add(classOf(value, 8n, 23n));
  else if (form.data === 'f64') found.add(classOf(value, 11n, 52n));
  else if (form.data === 'f80') found.add(classOf80(value));
  return found;
}

function classOf(bits: bigint, exponentBits: bigint, fractionBits: bigint): ValueClass {
  const top = (1n << exponentBits) - 1n;
  const exponent = (bits >> fractionBits) & top;
  const fraction = bits & ((1n << fractionBits) - 1n);
  if (exponent === 0n) return fraction === 0n ? 'zero' : 'denormal';
  if (exponent !== top) return 'normal';
  if (fraction === 0n) return 'infinity';
  return fraction >> (fractionBits - 1n) ? 'quiet NaN' : 'signaling NaN';
}

function classOf80(bits: bigint): ValueClass {
  const integerBit = (bits >> 63n) & 1n;
  const exponent = (bits >> 64n) & 0x7fffn;
  if (exponent !== 0n && integerBit === 0n) return 'unsupported';
  // The integer bit aside the formats are alike; a pseudo-denormal counts as a denormal.
  const fraction = bits & 0x7fff_ffff_ffff_ffffn;
  if (exponent === 0n && integerBit === 1n) return 'denormal';
  return classOf((exponent << 63n) | fraction, 15n, 63n);
}
