import type { Result } from '../../base/result.ts';
import { runCommand } from './command.ts';

const MAKE = [
  ...['mke2fs', '-q', '-t', 'ext4', '-b', '4096', '-L', 'lockstep'],
  // Everything is initialised now, so that no kernel thread of the guest does it later.
  ...['-E', 'lazy_itable_init=0,lazy_journal_init=0,hash_seed=4c6f636b-7374-4570-8000-000000000001'],
  ...['-U', '4c6f636b-7374-4570-8000-000000000002'],
] as const;

/** An ext4 disk of a folder's content, without a loop mount. */
export function diskOfFolder(root: string, file: string, megabytes: number): Promise<Result<string>> {
  return asRoot([...MAKE, '-d', root, file, `${megabytes}M`]);
}

/** The same of a tar's content with its owners and device nodes; the folder `root` is made for it, and stays. */
export function diskOfTar(
  tar: string,
  root: string,
  file: string,
  megabytes: number,
): Promise<Result<string>> {
  // One process of fakeroot's sees both: what it unpacked is owned by whom the tar says for as long as it lasts.
  const script = `mkdir -p "$2" && tar -x --numeric-owner --xattrs --xattrs-include='*' -C "$2" -f "$1" && exec ${MAKE.join(' ')} -d "$2" "$3" "$4"`;
  return asRoot(['sh', '-c', script, 'sh', tar, root, file, `${megabytes}M`]);
}

/** fakeroot makes the files root's where the builder is not root. */
function asRoot(command: readonly string[]): Promise<Result<string>> {
  // Debian keeps mke2fs in /usr/sbin, which is not on every user's path.
  const env = { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const [program = '', ...rest] = process.getuid?.() === 0 ? command : ['fakeroot', '--', ...command];
  return runCommand(program, rest, { env });
}
