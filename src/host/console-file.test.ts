import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ConsoleFile } from './console-file.ts';

const MIB = 2 ** 20;

test('a console that goes on for ever keeps its end', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-console-'));
  try {
    const path = join(folder, 'console');
    const complaints: string[] = [];
    const file = new ConsoleFile(path, (reason) => complaints.push(reason));
    for (let part = 0; part < 70; part++) {
      file.write(new Uint8Array(MIB / 2).fill(65 + (part % 26)));
      // As a guest does: not all at one moment.
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    file.write(Buffer.from('the end'));
    while (!(await readFile(path, 'latin1')).endsWith('the end'))
      await new Promise((resolve) => setTimeout(resolve, 5));
    const sizes = await Promise.all([path, `${path}.1`].map(async (each) => (await stat(each)).size));
    expect(sizes.every((size) => size <= 16 * MIB)).toBe(true);
    expect(sizes[1]).toBeGreaterThan(12 * MIB);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(complaints).toEqual([]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
