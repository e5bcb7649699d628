import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StateFolder } from './state-folder.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-state-'));
});

afterEach(() => rm(folder, { recursive: true }));

async function opened(path = folder): Promise<StateFolder> {
  const state = await StateFolder.open(path);
  if (!state.ok) throw new Error(state.error);
  return state.value;
}

test('instances have folders for their owner alone, and are found again', async () => {
  const made = await (await opened()).newInstance();
  expect((await stat(made.path)).mode & 0o777).toBe(0o700);
  expect((await (await opened()).instances()).map(({ id }) => id)).toEqual([made.id]);
});

test('one daemon at a time', async () => {
  const first = await (await opened()).lock();
  expect(await (await opened()).lock()).toEqual({
    ok: false,
    error: `${folder} is in use: its host runs already`,
  });
  if (first.ok) first.value.release();
});

test('a folder whose sockets could have no name is refused', async () => {
  const state = await StateFolder.open(join(folder, 'x'.repeat(100)));
  expect(state.ok ? 'opened' : state.error).toMatch(/is too long for sockets in it: at most \d+ characters$/);
});

test('the last report of a kind is found among what a process wrote besides', async () => {
  const instance = await (await opened()).newInstance();
  await writeFile(
    instance.log,
    '{"kind":"state","state":"SOLE"}\n(node:1) a warning\n{"kind":"state","state":"PAIR"}\n{"kind":"halted","reason":"powered off"}\n{"kin',
  );
  expect(await instance.lastReport('state')).toEqual({ kind: 'state', state: 'PAIR' });
  expect(await instance.lastReport('halted')).toEqual({ kind: 'halted', reason: 'powered off' });
  expect(await instance.lastReport('failed')).toBeUndefined();
});
