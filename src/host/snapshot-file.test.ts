import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { instructionCount } from '../base/units.ts';
import { readSnapshotFile, writeSnapshotFile } from './snapshot-file.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-test-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const snapshot = {
  machine: Uint8Array.of(1, 2, 3, 4),
  count: instructionCount(2n ** 40n),
  position: { outputs: 7n },
  digest: 'd'.repeat(32),
};

test('a saved guest is read back as it was, and only its owner can read it', async () => {
  const file = join(folder, 'a.snapshot');
  expect(await writeSnapshotFile(file, snapshot)).toEqual({ ok: true, value: undefined });
  const read = await readSnapshotFile(file);
  if (!read.ok) throw new Error(read.error);
  expect({ ...read.value, machine: [...read.value.machine] }).toEqual({
    ...snapshot,
    machine: [...snapshot.machine],
  });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['a.snapshot']);
});

test('what is no snapshot, of another version, cut off or not there is one line', async () => {
  const file = join(folder, 'b.snapshot');
  await writeSnapshotFile(file, snapshot);
  const bytes = await readFile(file);
  const complaint = async (content: Uint8Array) => {
    await writeFile(file, content);
    const read = await readSnapshotFile(file);
    return read.ok ? 'it was taken' : read.error;
  };
  expect(await complaint(Buffer.from('#!/bin/sh\n'))).toMatch(/is no snapshot of a Lockstep guest$/);
  expect(await complaint(bytes.subarray(0, 30))).toMatch(/is truncated$/);
  expect(await complaint(new Uint8Array())).toMatch(/is truncated$/);
  const other = Buffer.from(bytes);
  other[4] = 9;
  expect(await complaint(other)).toMatch(/has version 9, this is 1$/);
  const missing = await readSnapshotFile(join(folder, 'none'));
  expect(missing).toEqual({ ok: false, error: `snapshot ${join(folder, 'none')} does not exist` });
});
