import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { instructionCount } from '../base/units.ts';
import type { MachineConfig } from '../machine/config.ts';
import { SnapshotFolder } from './vm-snapshot.ts';

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'lockstep-snapshot-'));
  folder = join(parent, 's');
});
afterEach(() => rm(parent, { recursive: true }));

const machine = { disks: [{ capacity: 4096, readOnly: false, serial: 'x' }] } as unknown as MachineConfig;
const memory = {
  machine: Uint8Array.of(1, 2, 3),
  count: instructionCount(7n),
  position: { outputs: 0n },
  digest: 'd'.repeat(32),
};

async function begun(): Promise<SnapshotFolder> {
  const made = await SnapshotFolder.create(folder, machine);
  if (!made.ok) throw new Error(made.error);
  return made.value;
}

const whole = ['disk-0.img', 'memory', 'snapshot.json'];

/** As a process leaves it that ends while it writes. */
async function cutShort(): Promise<void> {
  await mkdir(folder);
  await mkdir(`${folder}.partial`);
  for (const name of ['disk-0.img', 'memory']) await writeFile(join(`${folder}.partial`, name), 'half');
}

test('what was cut short does not keep its name', async () => {
  await cutShort();
  const made = await begun();
  expect(await made.finish(memory, { vm: 'vm', machine, file: undefined })).toMatchObject({ ok: true });
  expect([await readdir(parent), await readdir(folder)]).toEqual([['s'], whole]);
});

test('a work folder alone is no snapshot either, and leaves nothing beside a refusal', async () => {
  await mkdir(`${folder}.partial`);
  await (await begun()).abandon();
  expect(await readdir(parent)).toEqual([]);
});

test('of two at once the second is refused, and the first is not disturbed', async () => {
  const made = await begun();
  expect(await SnapshotFolder.create(folder, machine)).toEqual({
    ok: false,
    error: `${folder} is being written by another snapshot`,
  });
  expect(await made.finish(memory, { vm: 'vm', machine, file: undefined })).toMatchObject({ ok: true });
  expect(await SnapshotFolder.create(folder, machine)).toEqual({
    ok: false,
    error: `${folder} is there already: a snapshot needs a new folder`,
  });
  expect([await readdir(parent), await readdir(folder)]).toEqual([['s'], whole]);
});

test('what somebody put there stays, in the folder and in the one of the work', async () => {
  await cutShort();
  await writeFile(join(folder, 'mine'), '');
  expect(await SnapshotFolder.create(folder, machine)).toMatchObject({
    error: expect.stringContaining('is there already'),
  });
  expect(await readdir(folder)).toEqual(['mine']);
  await rm(folder, { recursive: true });
  await cutShort();
  await writeFile(join(`${folder}.partial`, 'mine'), '');
  expect(await SnapshotFolder.create(folder, machine)).toMatchObject({
    error: `${folder}.partial is no work folder of a snapshot: remove it, or name another folder`,
  });
  expect(await readdir(`${folder}.partial`)).toEqual(['mine']);
});

test('what is put there while it is written stays, and the snapshot says why it failed', async () => {
  const made = await begun();
  await writeFile(join(folder, 'mine'), '');
  expect(await made.finish(memory, { vm: 'vm', machine, file: undefined })).toMatchObject({ ok: false });
  expect([await readdir(parent), await readdir(folder)]).toEqual([['s'], ['mine']]);
});
