import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RECORD_SIZE, SiliconRecord } from './record.ts';

/** Builds harness.c and runs records on this processor. */
export function buildHarness(): string {
  const program = join(mkdtempSync(join(tmpdir(), 'silicon-float-')), 'harness');
  execFileSync('gcc', ['-O1', '-mno-red-zone', '-o', program, join(import.meta.dirname, 'harness.c')]);
  return program;
}

export function runOnSilicon(program: string, records: readonly SiliconRecord[]): SiliconRecord[] {
  const input = new Uint8Array(records.length * RECORD_SIZE);
  for (const [i, record] of records.entries()) input.set(record.bytes, i * RECORD_SIZE);
  const { stdout, status } = spawnSync(program, { input, maxBuffer: input.length + 4096 });
  if (status !== 0 || stdout.length !== input.length) throw new Error(`harness ended with ${status}`);
  return records.map(
    (_, i) => new SiliconRecord(new Uint8Array(stdout.subarray(i * RECORD_SIZE, (i + 1) * RECORD_SIZE))),
  );
}
