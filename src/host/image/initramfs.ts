import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CpioArchive } from './cpio.ts';

/** Adds a folder of the host with all that is in it; the archive's owner is always root. */
export async function addFolder(archive: CpioArchive, folder: string, prefix = ''): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const from = join(folder, entry.name);
    const to = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
    if (entry.isSymbolicLink()) archive.symlink(to, await readlink(from));
    else if (entry.isDirectory()) {
      archive.directory(to);
      await addFolder(archive, from, to);
    } else if (entry.isFile()) archive.file(to, (await stat(from)).mode & 0o777, await readFile(from));
  }
}

/** The folders and device nodes that a kernel and its first program expect. */
export function newInitramfs(): CpioArchive {
  const archive = new CpioArchive();
  for (const folder of ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'bin', 'sbin', 'usr/bin', 'usr/sbin'])
    archive.directory(folder);
  return archive.characterDevice('dev/console', 0o600, 5, 1).characterDevice('dev/null', 0o666, 1, 3);
}
