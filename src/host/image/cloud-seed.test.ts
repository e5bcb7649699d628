import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeSeed, parseSeed } from './cloud-seed.ts';

const there = ['cloud-localds', 'isoinfo'].every((name) => existsSync(`/usr/bin/${name}`));
let home = '';
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'lockstep-seed-test-'));
  await writeFile(join(home, 'user'), '#cloud-config\nhostname: seeded\n');
  await writeFile(join(home, 'meta'), 'instance-id: i-1\n');
  await writeFile(join(home, 'network'), 'version: 2\n');
  await writeFile(join(home, 'text'), 'hostname: seeded\n');
});
afterAll(() => rm(home, { recursive: true, force: true }));

describe('a seed for cloud-init', () => {
  test('names its files with commas between', () => {
    expect(parseSeed('u,,n')).toEqual({
      ok: true,
      value: { userData: 'u', metaData: undefined, networkConfig: 'n' },
    });
    for (const text of ['', ',m', 'u,m,n,x']) expect(parseSeed(text).ok).toBe(false);
  });

  test.skipIf(!there)(
    'is an ISO 9660 image labelled cidata that others read (needs cloud-image-utils)',
    async () => {
      const seed = join(home, 'seed.img');
      const iso = (...args: string[]) => execFileSync('isoinfo', ['-i', seed, ...args]).toString();
      const files = {
        userData: join(home, 'user'),
        metaData: join(home, 'meta'),
        networkConfig: join(home, 'network'),
      };
      expect(await makeSeed(files, seed)).toEqual({ ok: true, value: seed });
      expect(iso('-d')).toMatch(/^Volume id: cidata$/m);
      expect(iso('-R', '-x', '/user-data')).toBe('#cloud-config\nhostname: seeded\n');
      expect(iso('-R', '-x', '/meta-data')).toBe('instance-id: i-1\n');
      expect(iso('-R', '-x', '/network-config')).toBe('version: 2\n');
      expect((await stat(seed)).size % 512).toBe(0);
      // Without meta data each seed is an instance of its own, or cloud-init would not do its work again.
      const instance = async () => {
        expect((await makeSeed({ userData: join(home, 'user') }, seed)).ok).toBe(true);
        return iso('-R', '-x', '/meta-data');
      };
      const first = await instance();
      expect(first).toMatch(/^instance-id: \S{8,}\n$/);
      expect(await instance()).not.toBe(first);
    },
  );

  test('what cloud-init would ignore without a word is one line', async () => {
    const complaint = async (userData: string) => {
      const made = await makeSeed({ userData: join(home, userData) }, join(home, 'none.img'));
      return made.ok ? '' : made.error;
    };
    expect(await complaint('text')).toMatch(/is no user data of cloud-init: its first line/);
    expect(await complaint('missing')).toMatch(/missing cannot be read: ENOENT/);
  });
});
