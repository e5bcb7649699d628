import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CpioArchive } from './cpio.ts';
import { addFolder, newInitramfs } from './initramfs.ts';

const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path));
const reader = ['/usr/bin/cpio', '/bin/cpio'].find((path) => existsSync(path)) ?? busybox;

function list(archive: Buffer): string[] {
  const args = reader === busybox ? ['cpio', '-t'] : ['-t', '--quiet'];
  return execFileSync(reader ?? '', args, { input: archive, stdio: ['pipe', 'pipe', 'ignore'] })
    .toString()
    .trim()
    .split('\n');
}

describe('cpio archive', () => {
  test('entries are aligned and the header says what they are [newc]', () => {
    const archive = new CpioArchive().file('etc/a', 0o640, Buffer.from('hello')).finish();
    expect(archive.length % 512).toBe(0);
    const text = archive.toString('latin1');
    const folder = text.indexOf('070701');
    const file = text.indexOf('070701', folder + 6);
    const field = (at: number, index: number) =>
      Number.parseInt(text.slice(at + 6 + index * 8, at + 14 + index * 8), 16);
    expect(field(folder, 1)).toBe(0o040755);
    expect(field(file, 1)).toBe(0o100640);
    expect(field(file, 6)).toBe(5);
    expect(file % 4).toBe(0);
    const name = file + 110;
    expect(text.slice(name, name + 6)).toBe('etc/a\0');
    expect(text.slice(name + 6, name + 11)).toBe('hello');
  });

  test('the same calls give the same bytes', () => {
    const make = () =>
      newInitramfs().symlink('bin/sh', 'busybox').file('init', 0o755, Buffer.from('#!')).finish();
    expect(make().equals(make())).toBe(true);
  });

  test.skipIf(reader === undefined)('another cpio reads it (needs cpio or busybox)', () => {
    const archive = newInitramfs().file('a/b/c', 0o644, Buffer.from('x')).symlink('a/link', 'b/c');
    const names = list(archive.finish());
    expect(names).toEqual(expect.arrayContaining(['dev', 'dev/console', 'a', 'a/b', 'a/b/c', 'a/link']));
    expect(new Set(names).size).toBe(names.length);
  });

  test('a folder of the host is added with modes and links', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-cpio-'));
    try {
      await writeFile(join(folder, 'run'), 'x', { mode: 0o755 });
      await symlink('run', join(folder, 'link'));
      const archive = new CpioArchive();
      await addFolder(archive, folder, 'opt');
      const text = archive.finish().toString('latin1');
      const mode = (await stat(join(folder, 'run'))).mode;
      expect(text).toContain(`opt/run\0`);
      expect(text).toContain(`opt/link\0`);
      expect(text).toContain(mode.toString(16).padStart(8, '0'));
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
