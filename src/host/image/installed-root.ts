import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';
import type { DebianArchive } from './debian-packages.ts';

/** What every Debian is made of beside the packages that somebody asked for. */
export const ESSENTIAL = ['?essential', 'apt'] as const;

export interface InstalledRootOptions {
  readonly archive: DebianArchive;
  /** Packages by name; what they depend on comes with them. */
  readonly packages: readonly string[];
  /** A folder whose content comes over the packages', with root as owner. */
  readonly overlay: string;
  /** The text of a script, run on the host at the end with the new root's folder as its argument. */
  readonly customize: string;
  /** A folder of its own for what lies between. */
  readonly work: string;
  readonly progress: (line: string) => void;
}

/** Lines of mmdebstrap that tell a person how far it is. */
const STEPS = /^I: (running apt-get update|extracting archives|installing .*|creating tarball)/;

/**
 * A tar of a Debian whose packages are installed, maintainer scripts and all, by mmdebstrap: as root in a mount
 * namespace, as somebody else in a user namespace. The archive's signatures are checked by apt, twice: by the host's,
 * which brings the packages into the cache, and by mmdebstrap's, which finds them there.
 */
export async function makeInstalledRoot(options: InstalledRootOptions): Promise<Result<string>> {
  const { archive, work, progress } = options;
  const sources = await archive.sources();
  if (!sources.ok) return sources;
  const suite = /^deb \S+ (\S+)/.exec(sources.value[0] ?? '')?.[1] ?? '';
  const packages = await archive.closure([...ESSENTIAL, ...options.packages], true);
  if (!packages.ok) return packages;
  const downloaded = await archive.download(packages.value);
  if (!downloaded.ok) return downloaded;
  const cache = join(work, 'archives');
  await archive.link(packages.value, cache);
  const [list, overlay, root] = ['sources.list', 'overlay.tar', 'root.tar'].map((name) => join(work, name));
  await writeFile(list!, `${sources.value.join('\n')}\n`);
  const owned = ['--owner=0', '--group=0', '--numeric-owner', '--sort=name'];
  const packed = await runCommand('tar', ['-c', ...owned, '-C', options.overlay, '-f', overlay!, '.']);
  if (!packed.ok) return packed;
  progress(`installing ${packages.value.length} packages`);
  // The hooks' paths are words of mmdebstrap's own little language: relative ones need no quotes in it. Nothing here is
  // read by who runs the scripts: in a user namespace that is nobody who may look into the builder's home.
  const made = await runCommand(
    'mmdebstrap',
    [
      ...['--variant=minbase', '--format=tar', '--skip=essential/unlink'],
      ...[
        '--setup-hook=mkdir -p "$1/var/cache/apt/archives"',
        '--setup-hook=sync-in archives /var/cache/apt/archives',
      ],
      ...['--customize-hook=tar-in overlay.tar /', `--customize-hook=${options.customize}`],
      ...['--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-exclude=/usr/share/locale/*'],
      ...[`--include=${options.packages.join(',')}`, suite, 'root.tar', 'sources.list'],
    ],
    {
      cwd: work,
      onLine: (line) => STEPS.test(line) && progress(line.slice('I: '.length).replace(/\.+$/, '')),
    },
  );
  for (const path of [cache, overlay!, list!]) await rm(path, { recursive: true, force: true });
  if (made.ok) return ok(root!);
  return failed(
    made.error === 'mmdebstrap is not installed'
      ? 'mmdebstrap is not installed: apt-get install mmdebstrap uidmap'
      : `the packages cannot be installed: ${made.error}`,
  );
}

/** The packages that are installed in such a tar, with their versions. */
export async function packagesOfRoot(tar: string): Promise<Result<string[]>> {
  const status = await runCommand('tar', ['-x', '-O', '-f', tar, './var/lib/dpkg/status']);
  if (!status.ok) return status;
  return ok(
    status.value.split('\n\n').flatMap((entry) => {
      const [, name] = /^Package: (\S+)$/m.exec(entry) ?? [];
      const [, version] = /^Version: (\S+)$/m.exec(entry) ?? [];
      return name === undefined || !/^Status: install ok installed$/m.test(entry)
        ? []
        : [`${name} ${version}`];
    }),
  );
}
