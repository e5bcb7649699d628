import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { epoch, instanceId } from '../src/ft/identity.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../src/machine/door.ts';
import { ServedDiskPort } from '../src/storage/disk-port.ts';
import type { DiskAnswer, DiskOperation } from '../src/storage/fenced-disk.ts';
import { DISK_KINDS, type ServedDisk } from './served-disk.ts';
import { Random } from './silicon/random.ts';

/** One suite for every kind of disk that a guest may have (design 6). */

const SIZE = 4 * 2 ** 20;
const EMPTY = new Uint8Array(0);
const instance = instanceId('a');

let folder: string;
let image: string;
let said: string[];
let closing: (() => unknown)[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-backends-'));
  image = join(folder, 'disk.img');
  said = [];
  closing = [];
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

const read = (offset: number, length: number): DiskOperation => ({ kind: 'read', offset, length });
const write = (offset: number, data: Uint8Array, durable = false): DiskOperation => ({
  kind: 'write',
  offset,
  data,
  durable,
});
const clear = (kind: 'discard' | 'write-zeroes', offset: number, length: number): DiskOperation => ({
  kind,
  offset,
  length,
  durable: false,
});

function content(answer: DiskAnswer): Buffer {
  if (answer.status !== 'ok') throw new Error(`the disk answered ${answer.status}`);
  return Buffer.from(answer.data);
}

for (const kind of DISK_KINDS)
  describe.skipIf(kind.program !== undefined && !existsSync(`/usr/bin/${kind.program}`))(kind.name, () => {
    async function serve(bytes: Uint8Array, readOnly = false): Promise<ServedDisk> {
      await writeFile(image, bytes);
      const served = await kind.serve(image, { closing, readOnly, say: (line) => said.push(line) });
      closing.push(() => served.disk.close());
      expect(await served.disk.open(epoch(readOnly ? 0 : 1), instance)).toBe('ok');
      return served;
    }

    test('holds what was written, at any place and length', async () => {
      const { disk } = await serve(Buffer.alloc(SIZE));
      const model = Buffer.alloc(SIZE);
      const random = new Random(7);
      for (let step = 0; step < 150; step++) {
        const length = 1 + random.below(random.below(4) === 0 ? 300_000 : 3_000);
        const offset = random.below(SIZE - length);
        const choice = random.below(6);
        if (choice < 2) {
          const data = Buffer.from(random.bytes(length));
          data.copy(model, offset);
          expect((await disk.execute(write(offset, data, choice === 1))).status).toBe('ok');
        } else if (choice < 4) {
          const clearing = clear(choice === 2 ? 'discard' : 'write-zeroes', offset, length);
          model.fill(0, offset, offset + length);
          expect((await disk.execute(clearing)).status).toBe('ok');
        } else {
          const got = content(await disk.execute(read(offset, length)));
          expect(got.equals(model.subarray(offset, offset + length))).toBe(true);
        }
      }
      expect((await disk.execute({ kind: 'flush' })).status).toBe('ok');
      expect((await readFile(image)).equals(model)).toBe(true);
      expect(said).toEqual([]);
    });

    test('takes the longest requests of a guest, and longer ones', async () => {
      await writeFile(image, '');
      await truncate(image, 48 * 2 ** 20);
      const served = await kind.serve(image, { closing });
      closing.push(() => served.disk.close());
      await served.disk.open(epoch(1), instance);
      const data = Buffer.alloc(33 * 2 ** 20, 'lockstep ');
      for (const length of [8 * 2 ** 20, data.length]) {
        expect((await served.disk.execute(write(512, data.subarray(0, length)))).status).toBe('ok');
        expect(content(await served.disk.execute(read(512, length))).equals(data.subarray(0, length))).toBe(
          true,
        );
      }
    });

    test('refuses what lies outside, and goes on', async () => {
      const { disk } = await serve(Buffer.alloc(SIZE, 1));
      for (const operation of [
        read(SIZE - 1, 2),
        read(SIZE, 512),
        read(2 ** 50, 512),
        write(SIZE - 256, Buffer.alloc(512, 2)),
        write(2 ** 52, Buffer.alloc(512, 2)),
        clear('discard', SIZE - 256, 512),
        clear('write-zeroes', 2 ** 40, 512),
      ])
        expect((await disk.execute(operation)).status).toMatch(/^(error|out-of-range|no-space)$/);
      expect((await readFile(image)).equals(Buffer.alloc(SIZE, 1))).toBe(true);
      expect(content(await disk.execute(read(SIZE - 1, 1)))).toEqual(Buffer.of(1));
    });

    test('read-only, it is read and never changed', async () => {
      const { disk } = await serve(Buffer.alloc(SIZE, 3), true);
      expect(content(await disk.execute(read(511, 2)))).toEqual(Buffer.of(3, 3));
      for (const operation of [
        write(0, Buffer.of(1)),
        clear('discard', 0, 512),
        clear('write-zeroes', 0, 512),
      ])
        expect((await disk.execute(operation)).status).toBe('read-only');
      expect((await readFile(image)).equals(Buffer.alloc(SIZE, 3))).toBe(true);
    });

    test('a discard gives room back, zeroes keep it', async () => {
      const { disk } = await serve(Buffer.alloc(SIZE, 1));
      await disk.execute({ kind: 'flush' });
      const room = async () => (await stat(image)).blocks * 512;
      expect((await disk.execute(clear('write-zeroes', 0, SIZE / 2))).status).toBe('ok');
      await disk.execute({ kind: 'flush' });
      expect(await room()).toBeGreaterThanOrEqual(SIZE);
      expect((await disk.execute(clear('discard', SIZE / 2, SIZE / 2))).status).toBe('ok');
      await disk.execute({ kind: 'flush' });
      // A server that cannot clear writes zeroes: room is the price, not the content.
      if (!kind.name.includes('neither')) expect(await room()).toBeLessThan(0.75 * SIZE);
      expect((await readFile(image)).equals(Buffer.alloc(SIZE))).toBe(true);
    });

    test('overlapping operations take effect in order, across restarts of the server too', async () => {
      const { disk, server } = await serve(Buffer.alloc(SIZE));
      const port = new ServedDiskPort([disk], (line) => said.push(line));
      const completions: DiskCompletedInput[] = [];
      const model = Buffer.alloc(SIZE);
      const random = new Random(3);
      let issued = 0;
      const issue = (
        operation: DiskRequestOutput['operation'],
        offset: number,
        data: Buffer,
        length = data.length,
      ) => port.issue({ kind: 'disk-request', disk: 0, request: ++issued, operation, offset, length, data });
      const opened = new Promise<void>((resolve) =>
        port.listen({
          opened: () => resolve(),
          completed: (completion) => completions.push(completion),
          fenced: () => completions.splice(0),
        }),
      );
      port.open(epoch(1), instance);
      await opened;
      for (let round = 0; round < 3; round++) {
        for (let each = 0; each < 40; each++) {
          const offset = 512 * random.below(64);
          const length = 512 * (1 + random.below(64));
          if (random.below(5) === 0) {
            model.fill(0, offset, offset + length);
            issue(random.below(2) === 0 ? 'discard' : 'write-zeroes', offset, Buffer.alloc(0), length);
          } else {
            const data = Buffer.from(random.bytes(length));
            data.copy(model, offset);
            issue('write', offset, data);
          }
        }
        await server?.kill();
        for (let each = 0; each < 10; each++) issue('write', 512 * each, Buffer.alloc(512, each));
        for (let each = 0; each < 10; each++) model.fill(each, 512 * each, 512 * (each + 1));
        await server?.start();
        issue('flush', 0, Buffer.alloc(0));
      }
      issue('read', 0, Buffer.alloc(0), SIZE);
      while (completions.length < issued) await new Promise((resolve) => setTimeout(resolve, 5));
      expect(completions.every(({ status }) => status === 'ok')).toBe(true);
      expect(new Set(completions.map(({ request }) => request)).size).toBe(issued);
      const last = completions.find(({ request }) => request === issued);
      expect(Buffer.from(last?.data ?? EMPTY).equals(model)).toBe(true);
      expect((await readFile(image)).equals(model)).toBe(true);
    });
  });
