import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Family, makeCases } from './cases.ts';
import { RECORD_SIZE, SiliconRecord } from './record.ts';

/**
 * What a processor (AMD Zen 5) answered, kept as the bytes that an instruction changed. The cases themselves come
 * again from the same seed; a hash tells when they are no longer the ones that were answered.
 */
export interface CapturedFamily {
  readonly inputs: string;
  /** One text per case: `offset:hex` joined by commas. */
  readonly changes: readonly string[];
}
export type Captured = Readonly<Record<string, CapturedFamily>>;

const CASES_PER_INSTRUCTION = 6;
const SEED = 20_25;

/** Parts of a record that belong to the answer: RAX, RFLAGS, signal, some memory, control words, registers. */
const PARTS = [
  [16, 36],
  [48, 176],
  [560, 565],
  [584, 588],
  [592, 976],
] as const;

export function capturedCases(family: Family): { name: string; record: SiliconRecord }[] {
  return makeCases(family, CASES_PER_INSTRUCTION, SEED);
}

/** FNV-1a over all records. */
export function hashOf(cases: readonly { record: SiliconRecord }[]): string {
  let hash = 0x811c9dc5;
  for (const { record } of cases) {
    for (const byte of record.bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return (hash >>> 0).toString(16);
}

export function changesOf(before: SiliconRecord, after: SiliconRecord): string {
  const changes: string[] = [];
  for (const [start, end] of PARTS) {
    for (let at = start; at < end; at++) {
      const from = at;
      while (at < end && before.bytes[at] !== after.bytes[at]) at++;
      if (at > from) changes.push(`${from}:${Buffer.from(after.bytes.subarray(from, at)).toString('hex')}`);
    }
  }
  return changes.join(',');
}

export function applyChanges(before: SiliconRecord, changes: string): SiliconRecord {
  const bytes = new Uint8Array(RECORD_SIZE);
  bytes.set(before.bytes);
  for (const change of changes === '' ? [] : changes.split(',')) {
    const [offset, hex] = change.split(':');
    bytes.set(Buffer.from(hex!, 'hex'), Number(offset));
  }
  return new SiliconRecord(bytes);
}

const FILE = join(import.meta.dirname, 'captured.json');

export function readCaptured(): Captured {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Captured;
}

export function writeCaptured(captured: Captured, file = FILE): void {
  writeFileSync(file, `${JSON.stringify(captured, undefined, 2)}\n`);
}
