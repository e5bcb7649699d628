import { readFile } from 'node:fs/promises';
import { failed, ok, type Result } from '../base/result.ts';
import type { BootImage } from '../machine/machine.ts';

export interface GuestFiles {
  readonly kernel: string;
  readonly initrd: string | undefined;
  readonly append: string;
}

/** Reads what a guest is booted from. Whether the kernel is one is the loader's to say. */
export async function readBootImage(files: GuestFiles): Promise<Result<BootImage>> {
  const kernel = await readWhole('kernel', files.kernel);
  if (!kernel.ok) return kernel;
  const initrd = files.initrd === undefined ? ok(undefined) : await readWhole('initrd', files.initrd);
  if (!initrd.ok) return initrd;
  return ok({ kernel: kernel.value, initrd: initrd.value, commandLine: files.append });
}

/** A kernel or initrd beyond this does not fit into any machine. */
const WHOLE_BYTES_MAX = 2 ** 31 - 1;

async function readWhole(what: string, path: string): Promise<Result<Uint8Array>> {
  try {
    const bytes = await readFile(path);
    return bytes.length === 0 ? failed(`${what} ${path} is empty`) : ok(bytes);
  } catch (error) {
    return failed(`${what} ${path} ${fileProblem(error as NodeJS.ErrnoException)}`);
  }
}

/** Why a file cannot be had, in the words that follow its name. */
export function fileProblem(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return 'does not exist';
    case 'EISDIR':
      return 'is a folder';
    case 'EACCES':
    case 'EPERM':
      return 'may not be opened: check its permissions';
    case 'EROFS':
      return 'is on a read-only file system';
    case 'ENOSPC':
      return 'cannot be written: the file system is full';
    case 'ENOTDIR':
      return 'is not in a folder';
    case 'ERR_FS_FILE_TOO_LARGE':
      return `is larger than ${WHOLE_BYTES_MAX} bytes`;
    default:
      return `cannot be used (${error.code ?? error.message})`;
  }
}
