import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { epoch, instanceId } from '../ft/identity.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import { CopyIdentityFiles } from './copy-identity.ts';
import { LocalDisk } from './local-disk.ts';
import { OwnDiskPort } from './own-disk-port.ts';
import { RawFile } from './raw-file.ts';

/** One side's own copies of its VM's disks [FT 4.1], on real files. */

const BYTES = 64 * 1024;
const BLOCK = { disk: 0, offset: 0, length: 4096 };
const FOLLOWS = { primary: instanceId('a'), generation: epoch(2) };

let folder: string;
let path: string;
const closing: (() => unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-own-'));
  path = join(folder, 'disk.img');
  await writeFile(path, Buffer.alloc(BYTES, 0xee));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

interface Told {
  readonly completed: DiskCompletedInput[];
  readonly failed: string[];
  stored: number;
}

async function opened() {
  const file = await RawFile.open(path);
  if (!file.ok) throw new Error(file.error);
  const files = new CopyIdentityFiles([path]);
  const identity = await files.load();
  if (!identity.ok) throw new Error(identity.error);
  const port = new OwnDiskPort([new LocalDisk(file.value)], {
    identity: identity.value,
    save: (each) => files.save(each),
    say: () => {},
  });
  closing.push(() => port.close());
  const told: Told = { completed: [], failed: [], stored: 0 };
  let heard: () => void = () => {};
  const waiting = new Map<number, () => void>();
  port.listen({
    opened: () => heard(),
    completed: (completion) => {
      told.completed.push(completion);
      heard();
    },
    fenced: () => {},
    blockStored: () => {
      told.stored += 1;
    },
    secured: (number) => waiting.get(number)?.(),
    copyFailed: (reason) => told.failed.push(reason),
  });
  let number = 0;
  /** All that was asked so far is done, and on stable storage. */
  const secured = (follows?: typeof FOLLOWS): Promise<void> =>
    new Promise((resolve) => {
      number += 1;
      waiting.set(number, resolve);
      port.copies.secure(number, follows);
    });
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      heard = resolve;
    });
  return { port, told, secured, next, identity: identity.value };
}

const write = (request: number, offset: number, value: number, length = 512): DiskRequestOutput => ({
  ...{ kind: 'disk-request', disk: 0, request, operation: 'write', offset, length },
  data: new Uint8Array(length).fill(value),
});

const stored = async (): Promise<{ whole: boolean; id: string; follows?: object }> =>
  JSON.parse(await readFile(`${path}.lockstep-copy`, 'utf8'));

test('a block of a copy is stored, but not over what the guest of the backup has written since it began', async () => {
  const { port, told, secured } = await opened();
  port.copies.begin(true);
  port.replay(write(1, 512, 7));
  port.copies.store(BLOCK, new Uint8Array(4096).fill(1));
  // Later than the block: it is written again, whatever the block held.
  port.replay(write(2, 1024, 8));
  port.copies.store({ ...BLOCK, offset: 4096 }, undefined);
  await secured();
  const bytes = await readFile(path);
  expect([bytes[0], bytes[512], bytes[1023], bytes[1024], bytes[1536], bytes[4096], bytes[8192]]).toEqual([
    1, 7, 7, 8, 1, 0, 0xee,
  ]);
  expect(told.stored).toBe(2);
});

test('overlapping operations take effect in the order in which they came', async () => {
  const { port, secured } = await opened();
  port.copies.begin(true);
  for (let request = 1; request <= 40; request++) port.replay(write(request, 0, request, 32_768));
  port.replay(write(41, 512, 99));
  await secured();
  const bytes = await readFile(path);
  expect([bytes[0], bytes[512], bytes[1024], bytes[32_767]]).toEqual([40, 99, 40, 40]);
});

test('what was asked again in replay and has no completion is answered once after go-live, and not done twice', async () => {
  const { port, told, next } = await opened();
  port.copies.begin(true);
  port.replay(write(1, 0, 5));
  port.issue(write(1, 0, 5));
  port.issue(write(1, 0, 5));
  await next();
  expect(told.completed).toMatchObject([{ request: 1, status: 'ok' }]);
});

test('beside the file stands whose copy it is: of nobody while it is made, of a pair, of nobody again once it has won', async () => {
  const { port, secured, next, identity } = await opened();
  port.copies.begin(true);
  port.copies.store(BLOCK, undefined);
  await secured();
  expect(await stored()).toMatchObject({ id: identity.id, whole: false });
  await secured(FOLLOWS);
  expect(await stored()).toMatchObject({ id: identity.id, whole: true, follows: FOLLOWS });

  const opening = next();
  port.open(epoch(3), instanceId('b'));
  await opening;
  // Won, and not live yet: it lacks what was not replayed.
  expect(await stored()).toEqual({ version: 1, id: identity.id, whole: false });
  port.copies.live();
  await secured();
  await secured();
  expect(await stored()).toEqual({ version: 1, id: identity.id, whole: true });
});

test('a copy of which only some is to come keeps its name; files that do not belong together are no copy', async () => {
  const first = await opened();
  await first.secured(FOLLOWS);
  first.port.copies.begin(false);
  await first.secured();
  expect(await stored()).toMatchObject({ whole: false, follows: FOLLOWS });

  const other = join(folder, 'other.img');
  await writeFile(other, Buffer.alloc(512));
  const both = await new CopyIdentityFiles([path, other]).load();
  expect(both).toMatchObject({ ok: true, value: { whole: false, follows: undefined } });
  await writeFile(`${path}.lockstep-copy`, 'rubbish');
  expect(await new CopyIdentityFiles([path]).load()).toMatchObject({ ok: false });
});
