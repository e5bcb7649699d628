import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import { DebianArchive } from '../../src/host/image/debian-packages.ts';
import { cacheFolder } from '../../src/host/image/repository.ts';

/** Parts of Debian's source packages that programs of the list are compiled from, in the guest. */
interface Source {
  /** The package of the image whose version the source must have. */
  readonly package: string;
  /** Paths below the folder that the archive of the source unpacks to. */
  readonly paths: readonly string[];
}

const SOURCES: Readonly<Record<string, Source>> = {
  openssl: {
    package: 'openssl',
    paths: [
      ...['test/*.[ch]', 'test/*.cnf', 'test/testutil', 'e_os.h', 'include'],
      ...['test/recipes/30-test_evp_data', 'test/recipes/10-test_bn_data'],
      ...['apps/include', 'apps/lib/opt.c', 'ssl/*.h', 'ssl/record/*.h', 'ssl/statem/*.h'],
      ...['crypto/*.h', 'crypto/*/*.h', 'crypto/ec/curve448'],
      ...['providers/common/include', 'providers/implementations/include'],
      'providers/implementations/rands/*.h',
    ],
  },
};

export interface SourceFile {
  readonly path: string;
  readonly content: Buffer;
}

/** The files of one source, in the version that the image has. */
export async function sourceFiles(
  name: string,
  image: GuestImage,
  progress: (line: string) => void,
): Promise<SourceFile[]> {
  const source = SOURCES[name];
  if (source === undefined) throw new Error(`tests/programs/sources.ts has no ${name}`);
  const version = image.packages.find((each) => each.startsWith(`${source.package} `))?.split(' ')[1];
  if (version === undefined) throw new Error(`the image has no package ${source.package}`);
  const archive = new DebianArchive(join(cacheFolder(), 'packages'), progress);
  const tar = await archive.source(source.package, version);
  if (!tar.ok) throw new Error(tar.error);
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-source-'));
  try {
    const members = source.paths.map((path) => `*/${path}`);
    const unpack = ['-xf', tar.value, '-C', folder, '--strip-components=1', '--wildcards'];
    const unpacked = await runCommand('tar', [...unpack, '--no-wildcards-match-slash', ...members]);
    if (!unpacked.ok) throw new Error(unpacked.error);
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const paths = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    return await Promise.all(
      paths
        .sort()
        .map(async (path) => ({ path: path.slice(folder.length + 1), content: await readFile(path) })),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
