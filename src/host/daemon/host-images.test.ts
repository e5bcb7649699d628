import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HostImages } from './host-images.ts';

let folder: string;
let files: { kernel: string; initrd: undefined; append: string };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-host-images-'));
  files = { kernel: join(folder, 'vmlinuz'), initrd: undefined, append: 'quiet' };
  await writeFile(files.kernel, 'a kernel');
});
afterEach(() => rm(folder, { recursive: true }));

const opened = () => HostImages.open(join(folder, 'images'));

test('one content under two names is two images, and removing one leaves the other', async () => {
  const images = await opened();
  const one = await images.add('one', files);
  const two = await images.add('two', files);
  if (!one.ok || !two.ok) throw new Error('not added');
  expect((await images.list()).map(({ name }) => name)).toEqual(['one', 'two']);
  expect((await images.remove('two')).ok).toBe(true);
  expect(await images.find(`one@${one.value.digest}`)).toEqual(one.value);
  expect(images.file(one.value.digest, 'kernel')).toBeDefined();
});

test('a name means what was added last, a digest what it always meant', async () => {
  const images = await opened();
  const first = await images.add('web', files);
  await writeFile(files.kernel, 'another kernel');
  const second = await images.add('web', files);
  if (!first.ok || !second.ok) throw new Error('not added');
  expect(second.value.addedAt).toBeGreaterThanOrEqual(first.value.addedAt);
  expect((await images.find(`web@${first.value.digest}`))?.kernelBytes).toBe(8);
  expect((await (await opened()).list()).length).toBe(2);
});

test('what another host sends is kept only when it is what its digest says', async () => {
  const images = await opened();
  const added = await images.add('web', files);
  if (!added.ok) throw new Error(added.error);
  const other = await HostImages.open(join(folder, 'other'));
  const send = (kernel: string) =>
    other.receive(added.value, async (part, to) => {
      if (part === 'kernel') await writeFile(to, kernel);
      return { ok: true, value: part === 'kernel' };
    });
  const wrong = await send('a kernel of somebody else');
  expect(wrong).toEqual({ ok: false, error: 'what came of image web is not what its digest says' });
  expect(await other.list()).toEqual([]);
  expect(await send('a kernel')).toEqual(added);
  for (const path of ['../x', 'x'.repeat(64), `${added.value.digest}/..`])
    expect(images.file(path, 'kernel')).toBeUndefined();
});
