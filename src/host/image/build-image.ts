import { createHash } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';
import { DebianArchive, type DebianPackage } from './debian-packages.ts';
import { addFolder, newInitramfs } from './initramfs.ts';
import {
  BOOT_MODULES,
  FURTHER_MODULES,
  KERNEL_METAPACKAGE,
  PRUNED,
  RECIPES,
  type Recipe,
  recipeNamed,
} from './recipes.ts';
import { cacheFolder, repositoryRoot } from './repository.ts';

/** A guest that can be booted: paths of its parts and the command line its kernel wants. */
export interface GuestImage {
  readonly name: string;
  readonly kernel: string;
  readonly initrd: string;
  /** A pristine ext4 disk; copy it before a guest writes to it. */
  readonly disk: string | undefined;
  readonly commandLine: string;
  readonly packages: readonly string[];
}

/** Raise when the same recipe gives another image. */
const BUILDER_VERSION = 1;

export interface BuildOptions {
  readonly progress: (line: string) => void;
  /** Build again with the newest packages, even if the image is there. */
  readonly refresh?: boolean;
}

/** The image from the cache, built first when it is not there. */
export async function buildImage(name: string, options: BuildOptions): Promise<Result<GuestImage>> {
  const recipe = recipeNamed(name);
  if (recipe === undefined)
    return failed(`no image is named ${name}; there are ${RECIPES.map((each) => each.name).join(', ')}`);
  const folder = await imageFolder(recipe);
  if (options.refresh !== true) {
    const cached = await readImage(folder);
    if (cached !== undefined) return ok(cached);
  }
  const work = `${folder}.partial-${process.pid}`;
  // Ctrl-C ends the process without coming back here.
  const removeWork = () => rmSync(work, { recursive: true, force: true });
  process.once('exit', removeWork);
  try {
    await mkdir(work, { recursive: true });
    const packages = await assemble(recipe, work, options.progress);
    if (!packages.ok) return failed(`image ${name}: ${packages.error}`);
    const description = {
      name,
      commandLine: recipe.commandLine,
      packages: packages.value,
      disk: recipe.diskMegabytes,
    };
    await writeFile(join(work, 'image.json'), `${JSON.stringify(description, null, 2)}\n`);
    await rm(folder, { recursive: true, force: true });
    // Two builds may finish at once; the loser's work is as good as the winner's and is dropped.
    await rename(work, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } catch (error) {
    return failed(`image ${name}: ${(error as Error).message}`);
  } finally {
    process.off('exit', removeWork);
    removeWork();
  }
  const built = await readImage(folder);
  return built === undefined ? failed(`image ${name}: cannot be read back from ${folder}`) : ok(built);
}

/** The images of the cache that fit today's recipes. */
export async function listImages(): Promise<{ recipe: Recipe; image: GuestImage | undefined }[]> {
  return Promise.all(
    RECIPES.map(async (recipe) => ({ recipe, image: await readImage(await imageFolder(recipe)) })),
  );
}

async function imageFolder(recipe: Recipe): Promise<string> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([BUILDER_VERSION, recipe, BOOT_MODULES, FURTHER_MODULES, PRUNED]));
  for (const { from } of [...recipe.files, { from: recipe.init }, { from: 'init-common.sh' }])
    hash.update(await readFile(guestFile(from)));
  return join(cacheFolder(), 'images', `${recipe.name}-${hash.digest('hex').slice(0, 12)}`);
}

async function readImage(folder: string): Promise<GuestImage | undefined> {
  if (!existsSync(join(folder, 'image.json'))) return undefined;
  const described = JSON.parse(await readFile(join(folder, 'image.json'), 'utf8')) as {
    name: string;
    commandLine: string;
    packages: string[];
    disk?: number;
  };
  return {
    name: described.name,
    kernel: join(folder, 'vmlinuz'),
    initrd: join(folder, 'initrd.img'),
    disk: described.disk === undefined ? undefined : join(folder, 'disk.img'),
    commandLine: described.commandLine,
    packages: described.packages,
  };
}

async function assemble(
  recipe: Recipe,
  work: string,
  progress: (line: string) => void,
): Promise<Result<readonly string[]>> {
  const archive = new DebianArchive(join(cacheFolder(), 'packages'), progress);
  const opened = await archive.open();
  if (!opened.ok) return opened;
  const kernelName = await archive.kernelPackage(recipe.kernel ?? KERNEL_METAPACKAGE);
  if (!kernelName.ok) return kernelName;
  const kernel = await archive.single(kernelName.value);
  if (!kernel.ok) return kernel;
  const packages = await archive.closure(recipe.packages, recipe.everything, recipe.without);
  if (!packages.ok) return packages;
  const downloaded = await archive.download([kernel.value, ...packages.value]);
  if (!downloaded.ok) return downloaded;

  progress(`unpacking ${packages.value.length + 1} packages`);
  const kernelRoot = join(work, 'kernel-root');
  const root = join(work, 'root');
  const unpacked = await archive.unpack([kernel.value], kernelRoot);
  if (!unpacked.ok) return unpacked;
  const unpackedRoot = await archive.unpack(packages.value, root);
  if (!unpackedRoot.ok) return unpackedRoot;
  for (const path of PRUNED) await rm(join(root, path), { recursive: true, force: true });
  const foreign = await addForeignRoot(recipe, root, progress);
  if (!foreign.ok) return foreign;

  const linked = await linkApplets(root);
  if (!linked.ok) return linked;
  for (const { from, to, mode } of recipe.files) await place(guestFile(from), join(root, to), mode);
  for (const path of recipe.folders) await mkdir(join(root, path), { recursive: true });
  for (const { path, target } of recipe.symlinks) {
    await rm(join(root, path), { force: true });
    await mkdir(dirname(join(root, path)), { recursive: true });
    await symlink(target, join(root, path));
  }

  const release = kernelName.value.replace('linux-image-', '');
  await copyFile(join(kernelRoot, 'boot', `vmlinuz-${release}`), join(work, 'vmlinuz'));
  progress('writing the initramfs');
  const initramfsRoot =
    recipe.diskMegabytes === undefined ? root : await busyboxOnly(root, join(work, 'small-root'));
  const initramfs = await writeInitramfs(
    recipe,
    work,
    initramfsRoot,
    join(kernelRoot, 'lib/modules', release),
  );
  if (!initramfs.ok) return initramfs;
  if (recipe.diskMegabytes !== undefined) {
    progress(`writing an ext4 disk of ${recipe.diskMegabytes} MB`);
    const made = await makeDisk(root, join(work, 'disk.img'), recipe.diskMegabytes);
    if (!made.ok) return made;
  }
  for (const path of [kernelRoot, root, join(work, 'small-root')])
    await rm(path, { recursive: true, force: true });
  return ok(
    [kernel.value, ...packages.value, ...foreign.value].map(({ name, version }) => `${name} ${version}`),
  );
}

async function addForeignRoot(
  recipe: Recipe,
  root: string,
  progress: (line: string) => void,
): Promise<Result<readonly DebianPackage[]>> {
  if (recipe.foreign === undefined) return ok([]);
  const { architecture, folder, packages } = recipe.foreign;
  const archive = new DebianArchive(join(cacheFolder(), 'packages'), progress, architecture);
  const opened = await archive.open();
  if (!opened.ok) return opened;
  const closure = await archive.closure(packages, recipe.everything);
  if (!closure.ok) return closure;
  const downloaded = await archive.download(closure.value);
  if (!downloaded.ok) return downloaded;
  progress(`unpacking ${closure.value.length} packages of ${architecture}`);
  const unpacked = await archive.unpack(closure.value, join(root, folder));
  if (!unpacked.ok) return unpacked;
  for (const path of PRUNED) await rm(join(root, folder, path), { recursive: true, force: true });
  return closure;
}

/** Names of busybox's applets become links, except where a package brought the real program. */
async function linkApplets(root: string): Promise<Result<void>> {
  const applets = await runCommand(join(root, 'bin/busybox'), ['--list']);
  if (!applets.ok) return applets;
  for (const applet of applets.value.split('\n')) {
    const taken = ['bin', 'sbin', 'usr/bin', 'usr/sbin'].some((folder) =>
      existsSync(join(root, folder, applet)),
    );
    if (applet !== '' && !taken) await symlink('busybox', join(root, 'bin', applet));
  }
  return ok(undefined);
}

async function busyboxOnly(root: string, small: string): Promise<string> {
  await mkdir(join(small, 'bin'), { recursive: true });
  await cp(join(root, 'bin'), join(small, 'bin'), { recursive: true, verbatimSymlinks: true });
  return small;
}

async function writeInitramfs(
  recipe: Recipe,
  work: string,
  root: string,
  modules: string,
): Promise<Result<void>> {
  const archive = newInitramfs();
  await addFolder(archive, root);
  archive.file('init', 0o755, await readFile(guestFile(recipe.init)));
  archive.file('init-common.sh', 0o644, await readFile(guestFile('init-common.sh')));
  const loaded = [...BOOT_MODULES, ...(recipe.modules ?? [])];
  archive.file('modules/order', 0o644, Buffer.from(`${loaded.join('\n')}\n`));
  const files = await readdir(modules, { recursive: true });
  for (const name of [...loaded, ...FURTHER_MODULES]) {
    const path = files.find((file) => file.endsWith(`/${name}.ko`));
    if (path === undefined) return failed(`the kernel package has no module ${name}`);
    archive.file(`modules/${name}.ko`, 0o644, await readFile(join(modules, path)));
  }
  await writeFile(join(work, 'initrd.img'), archive.finish());
  return ok(undefined);
}

/** ext4 without a loop mount; fakeroot makes the files root's where the builder is not root. */
async function makeDisk(root: string, file: string, megabytes: number): Promise<Result<string>> {
  const make = [
    'mke2fs',
    ...['-q', '-t', 'ext4', '-b', '4096', '-L', 'lockstep', '-d', root],
    // Everything is initialised now, so that no kernel thread of the guest does it later.
    ...['-E', 'lazy_itable_init=0,lazy_journal_init=0,hash_seed=4c6f636b-7374-4570-8000-000000000001'],
    ...['-U', '4c6f636b-7374-4570-8000-000000000002', file, `${megabytes}M`],
  ];
  // Debian keeps mke2fs in /usr/sbin, which is not on every user's path.
  const env = { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const [program = '', ...rest] = process.getuid?.() === 0 ? make : ['fakeroot', '--', ...make];
  return runCommand(program, rest, { env });
}

async function place(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
  await chmod(to, mode);
}

function guestFile(name: string): string {
  return join(repositoryRoot(), 'src/host/image/guest', name);
}
