import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buildImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import type { Program } from './list.ts';
import { programFiles } from './programs-guest.ts';

/** Mounts vanish with the namespace, whatever becomes of the programs; nothing outside the folder is touched. */
const SCRIPT = `
set -e
mount -t proc proc "$1/proc"
mount -t proc proc "$1/i386/proc"
mount -t tmpfs dev "$1/dev"
for node in null zero full random urandom tty; do cp -a /dev/$node "$1/dev/"; done
ln -s /proc/self/fd "$1/dev/fd"; mkdir "$1/dev/shm"
mount --rbind "$1/dev" "$1/i386/dev"
mount -t tmpfs -o mode=1777 tmp "$1/tmp"
mount --bind "$1/tmp" "$1/i386/tmp"
mount -t tmpfs run "$1/run"
cp -r "$1/programs.here" "$1/tmp/programs"
ip link set lo up
sh "$1/tmp/programs/run.sh" "$1"
`;

/**
 * The truth of the list: the disk of the image as a chroot on this host's processor, in namespaces of its own. Needs
 * root. Returns the command that shows what a guest's console would.
 */
export async function prepareNative(
  programs: readonly Program[],
  folder: string,
  progress: (line: string) => void,
): Promise<string[]> {
  if (process.getuid?.() !== 0) throw new Error('--native needs root: it runs the programs in a chroot');
  const image = await buildImage('programs', { progress });
  if (!image.ok) throw new Error(image.error);
  const root = join(folder, 'root');
  await mkdir(root);
  progress('unpacking the disk');
  const unpacked = await runCommand('debugfs', ['-R', `rdump / ${root}`, image.value.disk ?? ''], {
    env: { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
  });
  if (!unpacked.ok) throw new Error(unpacked.error);
  for (const { path, content } of await programFiles(programs, image.value, progress)) {
    const file = join(root, 'programs.here', path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--net', '--ipc', '--uts'];
  return ['unshare', ...namespaces, 'sh', '-c', SCRIPT, 'sh', root];
}
