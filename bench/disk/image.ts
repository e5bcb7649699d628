import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../src/base/result.ts';
import { buildImage, type GuestImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import { newInitramfs } from '../../src/host/image/initramfs.ts';
import { cacheFolder, repositoryRoot } from '../../src/host/image/repository.ts';

/** Raise when the same sources give another guest. */
const BUILDER_VERSION = 1;
export const DISK_BYTES = 64 * 2 ** 20;
const SECTOR_BYTES = 512;
const FLAGS = ['-O2', '-static', '-Wall', '-Wextra', '-Werror'];
const INIT = `#!/bin/sh
. /init-common.sh
echo LOCKSTEP-GUEST-READY
exec setsid cttyhack sh
`;

/** Debian's cloud kernel and busybox, the program that measures a disk, and a disk whose sectors are numbered. */
export async function diskGuest(progress: (line: string) => void): Promise<Result<GuestImage>> {
  const base = await buildImage('boot', { progress });
  if (!base.ok) return base;
  const source = await readFile(join(repositoryRoot(), 'bench/disk/disk.c'));
  const hash = createHash('sha256').update(JSON.stringify([BUILDER_VERSION, FLAGS, INIT, base.value.initrd]));
  const name = `disk-${hash.update(source).digest('hex').slice(0, 12)}`;
  const folder = join(cacheFolder(), 'images', name);
  const disk = join(folder, 'disk.img');
  const built: GuestImage = {
    name: 'disk',
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initrd.img'),
    disk,
    commandLine: 'console=ttyS0',
    packages: base.value.packages,
  };
  if (existsSync(disk)) return ok(built);
  const work = `${folder}.partial-${process.pid}`;
  await mkdir(work, { recursive: true });
  try {
    const program = join(work, 'program');
    const made = await runCommand('gcc', [
      ...FLAGS,
      '-o',
      program,
      join(repositoryRoot(), 'bench/disk/disk.c'),
    ]);
    if (!made.ok) return failed(`the guest's program: ${made.error}`);
    const more = newInitramfs()
      .file('init', 0o755, Buffer.from(INIT))
      .file('bin/disk', 0o755, await readFile(program));
    // A kernel unpacks one archive behind the other; what comes later replaces what is there.
    const initrd = Buffer.concat([await readFile(base.value.initrd), more.finish()]);
    await writeFile(join(work, 'initrd.img'), initrd);
    await copyFile(base.value.kernel, join(work, 'vmlinuz'));
    await writeNumberedDisk(join(work, 'disk.img'));
    await rm(folder, { recursive: true, force: true });
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return ok(built);
}

/** Every sector begins with its number; the rest does not compress. */
async function writeNumberedDisk(path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    const piece = Buffer.alloc(2 ** 20);
    let value = 1;
    for (let at = 0; at < DISK_BYTES; at += piece.length) {
      for (let word = 0; word < piece.length; word += 4) {
        value = (Math.imul(value, 1_664_525) + 1_013_904_223) | 0;
        piece.writeInt32LE(value, word);
      }
      for (let sector = 0; sector < piece.length; sector += SECTOR_BYTES)
        piece.writeBigUInt64LE(BigInt((at + sector) / SECTOR_BYTES), sector);
      await file.write(piece);
    }
  } finally {
    await file.close();
  }
}
