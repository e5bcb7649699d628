import { SSE_ARITHMETIC, SSE_COMPARE, SSE_CONVERT, SSE_INTEGER } from './cases-sse.ts';
import { X87_ARITHMETIC, X87_COMPARE, X87_CONTROL, X87_MOVE, X87_TRANSCENDENTAL } from './cases-x87.ts';
import { OperandSource } from './operands.ts';
import { SiliconRecord } from './record.ts';

/** Random cases of one instruction family. */
export interface Family {
  readonly name: string;
  /** Encoded instructions. */
  readonly codes: Readonly<Record<string, readonly number[]>>;
  fill(record: SiliconRecord, source: OperandSource, mnemonic: string): void;
}

export const FAMILIES: readonly Family[] = [
  SSE_INTEGER,
  SSE_ARITHMETIC,
  SSE_COMPARE,
  SSE_CONVERT,
  X87_ARITHMETIC,
  X87_COMPARE,
  X87_MOVE,
  X87_CONTROL,
  X87_TRANSCENDENTAL,
];

export function makeCases(
  family: Family,
  perCode: number,
  seed: number,
): { name: string; record: SiliconRecord }[] {
  const source = new OperandSource(seed);
  const cases = [];
  for (const [name, code] of Object.entries(family.codes)) {
    for (let i = 0; i < perCode; i++) {
      const record = new SiliconRecord();
      record.code = code;
      record.mxcsr = 0x1f80;
      record.fcw = 0x37f;
      record.rflags = 0x202n;
      family.fill(record, source, name);
      cases.push({ name, record });
    }
  }
  return cases;
}
