import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { importImage } from '../src/host/image/import-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { lockstep } from './lockstep-process.ts';

const run = promisify(execFile);
const qemuImg = (...words: string[]) => run('qemu-img', words);
const IMPORT_IMAGE = join(repositoryRoot(), 'dist/src/host/image/import-image.js');
const SIZE = 8 * 2 ** 20;

let folder: string;
let raw: string;
const content = Buffer.alloc(SIZE);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-import-'));
  raw = join(folder, 'source.raw');
  for (let at = 0; at < 2 ** 20; at++) content[3 * 2 ** 20 + at] = (at * 7 + (at >> 8)) & 0xff;
  await writeFile(raw, content);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function imported(source: string, options: { format?: string; out?: string } = {}) {
  const said: string[] = [];
  const cache = join(folder, 'cache');
  const made = await importImage(source, { ...options, cache, progress: (line) => said.push(line) });
  if (!made.ok) throw new Error(made.error);
  return { ...made.value, said };
}

describe.skipIf(!existsSync('/usr/bin/qemu-img'))('lockstep image import (needs qemu-utils)', () => {
  test.each(['qcow2', 'vmdk', 'raw'])(
    'a %s image becomes a raw, sparse disk; again, it is in the cache',
    async (format) => {
      const source = join(folder, `source.${format}.image`);
      await qemuImg('convert', '-f', 'raw', '-O', format, raw, source);
      const out = join(folder, `${format}.img`);
      expect(await imported(source, { out })).toMatchObject({ disk: out, format, size: SIZE });
      expect((await readFile(out)).equals(content)).toBe(true);
      const again = await imported(source, { format });
      const cached = await imported(source, { format });
      expect(again.said[0]).toBe(`converting ${format}, 8 MiB`);
      expect(cached.said).toEqual(['from the cache']);
      expect((await stat(cached.disk)).blocks * 512).toBeLessThan(SIZE / 2);
    },
  );

  test('an image that names another file as a part of itself is refused', async () => {
    const secret = join(folder, 'secret');
    await writeFile(secret, Buffer.alloc(4096, 's'));
    const source = join(folder, 'names-another.vmdk');
    await writeFile(
      source,
      `# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8 FLAT "${secret}" 0\nddb.virtualHWVersion = "4"\nddb.geometry.cylinders = "1"\nddb.geometry.heads = "16"\nddb.geometry.sectors = "63"\nddb.adapterType = "ide"\n`,
    );
    await expect(imported(source)).rejects.toThrow(`is not whole: the rest of it is in ${secret}`);
  });

  test('Ctrl-C in the middle leaves nothing', async () => {
    // Something to convert for a while: a pipe as the program that never ends.
    const program = join(folder, 'slow');
    await mkdir(program);
    await writeFile(
      join(program, 'qemu-img'),
      '#!/bin/sh\nif [ "$1" = info ]; then exec /usr/bin/qemu-img "$@"; fi\nfor last; do :; done\n: > "$last"\nexec sleep 60\n',
      { mode: 0o755 },
    );
    const cache = join(folder, 'interrupted');
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `const { importImage } = await import(${JSON.stringify(IMPORT_IMAGE)}); await importImage(${JSON.stringify(raw)}, { cache: ${JSON.stringify(cache)}, progress() {} });`,
      ],
      { env: { PATH: `${program}:${process.env.PATH}` }, stdio: 'ignore', detached: true },
    );
    const files = () => readdir(cache).catch((): string[] => []);
    while ((await files()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    process.kill(-child.pid!, 'SIGINT');
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect([signal, await files()]).toEqual(['SIGINT', []]);
  });

  test('what cannot be imported is an error of one line', async () => {
    const base = join(folder, 'base.qcow2');
    const overlay = join(folder, 'overlay.qcow2');
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, base);
    await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay);
    const error = async (...words: string[]) => (await lockstep(['image', 'import', ...words])).stderr;
    expect(await error(overlay)).toBe(
      `lockstep: image ${overlay} is not whole: the rest of it is in ${base}; make one of both first (qemu-img convert)\n`,
    );
    expect(await error(join(folder, 'none'))).toBe(
      `lockstep: image ${join(folder, 'none')} does not exist\n`,
    );
    expect(await error(raw, '--format', 'qcow2')).toMatch(
      /^lockstep: Could not open .*: Image is not in qcow2 format\n$/,
    );
    expect(await error(base, '--out', raw)).toBe(
      `lockstep: ${raw} is there already: name a new file with --out\n`,
    );
    const without = await lockstep(['image', 'import', base], {
      env: { PATH: folder },
    });
    expect([without.code, without.stderr]).toEqual([
      2,
      "lockstep: qemu-img is not installed, and reads other formats than raw ones: install Debian's package qemu-utils\n",
    ]);
  });
});
