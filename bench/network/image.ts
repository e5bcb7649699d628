import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../src/base/result.ts';
import { buildImage, type GuestImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import { newInitramfs } from '../../src/host/image/initramfs.ts';
import { cacheFolder, repositoryRoot } from '../../src/host/image/repository.ts';

/** Raise when the same sources give another guest. */
const BUILDER_VERSION = 1;
const DISK_BYTES = 1024 * 1024;
const INIT = 'network-init';

/** The boot image with a server of bulk transfers and echoes behind it; the disk is there for the hosts' sake alone. */
export async function networkImage(progress: (line: string) => void): Promise<Result<GuestImage>> {
  const boot = await buildImage('boot', { progress });
  if (!boot.ok) return boot;
  const sources = join(repositoryRoot(), 'bench/network');
  const [program, init] = [join(sources, 'guest.c'), join(sources, 'guest-init.sh')];
  const hash = createHash('sha256').update(JSON.stringify([BUILDER_VERSION, boot.value.kernel]));
  for (const file of [program, init]) hash.update(await readFile(file));
  const folder = join(cacheFolder(), 'images', `network-${hash.digest('hex').slice(0, 12)}`);
  const at = (name: string) => join(folder, name);
  const image = {
    ...boot.value,
    name: 'network',
    kernel: at('vmlinuz'),
    initrd: at('initrd.img'),
    disk: at('disk.img'),
    commandLine: `console=ttyS0 quiet rdinit=/${INIT}`,
  };
  if (existsSync(image.initrd)) return ok(image);
  const work = `${folder}.partial-${process.pid}`;
  await mkdir(work, { recursive: true });
  try {
    const server = join(work, 'server');
    const made = await runCommand('gcc', [
      '-O2',
      '-static',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-o',
      server,
      program,
    ]);
    if (!made.ok) return failed(`the network's server: ${made.error}`);
    const more = newInitramfs()
      .file(INIT, 0o755, await readFile(init))
      .file('network-server', 0o755, await readFile(server));
    // A kernel unpacks archives that stand behind each other, one after the other.
    await writeFile(
      join(work, 'initrd.img'),
      Buffer.concat([await readFile(boot.value.initrd), more.finish()]),
    );
    await copyFile(boot.value.kernel, join(work, 'vmlinuz'));
    await writeFile(join(work, 'disk.img'), '');
    await truncate(join(work, 'disk.img'), DISK_BYTES);
    await rm(folder, { recursive: true, force: true });
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return ok(image);
}
