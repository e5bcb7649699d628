import { existsSync } from 'node:fs';
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
import { basename, dirname, join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';
import { DebianArchive, type DebianPackage } from './debian-packages.ts';
import { diskOfFolder, diskOfTar } from './ext4-disk.ts';
import { type GuestImage, guestFile, type ImageDescription, imageFolder, readImage } from './image-folder.ts';
import { addFolder, newInitramfs } from './initramfs.ts';
import { makeInstalledRoot, packagesOfRoot } from './installed-root.ts';
import { partialWork } from './partial-work.ts';
import {
  BOOT_MODULES,
  FURTHER_MODULES,
  KERNEL_METAPACKAGE,
  PRUNED,
  RECIPES,
  type Recipe,
  recipeNamed,
} from './recipes.ts';
import { cacheFolder } from './repository.ts';

export type { GuestImage } from './image-folder.ts';

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
  return buildRecipe(recipe, options);
}

/** The same for a recipe of its own. */
export async function buildRecipe(recipe: Recipe, options: BuildOptions): Promise<Result<GuestImage>> {
  const { name } = recipe;
  const folder = await imageFolder(recipe);
  if (options.refresh !== true) {
    const cached = await readImage(folder);
    if (cached !== undefined) return ok(cached);
  }
  const work = `${folder}.partial-${process.pid}`;
  const removeWork = partialWork(work);
  try {
    await mkdir(work, { recursive: true });
    const packages = await assemble(recipe, work, options.progress);
    if (!packages.ok) return failed(`image ${name}: ${packages.error}`);
    const description: ImageDescription = {
      name,
      commandLine: recipe.commandLine,
      packages: packages.value,
      disk: recipe.diskMegabytes,
      recipe: recipeNamed(name) === recipe ? undefined : recipe,
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
    removeWork();
  }
  const built = await readImage(folder);
  return built === undefined ? failed(`image ${name}: cannot be read back from ${folder}`) : ok(built);
}

/** The parts of the image, in `work`; the result is the packages in it. */
async function assemble(
  recipe: Recipe,
  work: string,
  progress: (line: string) => void,
): Promise<Result<readonly string[]>> {
  const archive = new DebianArchive(join(cacheFolder(), 'packages'), progress);
  const opened = await archive.open();
  if (!opened.ok) return opened;
  const kernel = await unpackKernel(recipe, archive, work);
  if (!kernel.ok) return kernel;
  const made = await (recipe.installed === undefined ? assembleUnpacked : assembleInstalled)({
    recipe,
    work,
    progress,
    archive,
    modules: kernel.value.modules,
  });
  if (!made.ok) return made;
  for (const path of ['kernel-root', 'root', 'small-root'])
    await rm(join(work, path), { recursive: true, force: true });
  return ok([kernel.value.name, ...made.value]);
}

interface Assembly {
  readonly recipe: Recipe;
  readonly work: string;
  readonly progress: (line: string) => void;
  readonly archive: DebianArchive;
  /** The folder of the kernel's modules, named by its release. */
  readonly modules: string;
}

async function unpackKernel(
  recipe: Recipe,
  archive: DebianArchive,
  work: string,
): Promise<Result<{ name: string; modules: string }>> {
  const name = await archive.kernelPackage(recipe.kernel ?? KERNEL_METAPACKAGE);
  if (!name.ok) return name;
  const kernel = await archive.single(name.value);
  if (!kernel.ok) return kernel;
  const downloaded = await archive.download([kernel.value]);
  if (!downloaded.ok) return downloaded;
  const root = join(work, 'kernel-root');
  const unpacked = await archive.unpack([kernel.value], root);
  if (!unpacked.ok) return unpacked;
  const release = name.value.replace('linux-image-', '');
  await copyFile(join(root, 'boot', `vmlinuz-${release}`), join(work, 'vmlinuz'));
  return ok({
    name: `${kernel.value.name} ${kernel.value.version}`,
    modules: join(root, 'lib/modules', release),
  });
}

async function assembleUnpacked(assembly: Assembly): Promise<Result<readonly string[]>> {
  const { recipe, work, progress, archive, modules } = assembly;
  const packages = await archive.closure(recipe.packages, recipe.everything, recipe.without);
  if (!packages.ok) return packages;
  const downloaded = await archive.download(packages.value);
  if (!downloaded.ok) return downloaded;

  progress(`unpacking ${packages.value.length} packages`);
  const root = join(work, 'root');
  const unpackedRoot = await archive.unpack(packages.value, root);
  if (!unpackedRoot.ok) return unpackedRoot;
  for (const path of PRUNED) await rm(join(root, path), { recursive: true, force: true });
  const foreign = await addForeignRoot(recipe, root, progress);
  if (!foreign.ok) return foreign;
  const linked = await linkApplets(root);
  if (!linked.ok) return linked;
  await addOwnFiles(recipe, root);

  progress('writing the initramfs');
  const initramfsRoot =
    recipe.diskMegabytes === undefined ? root : await busyboxOnly(root, join(work, 'small-root'));
  const initramfs = await writeInitramfs(recipe, work, initramfsRoot, modules);
  if (!initramfs.ok) return initramfs;
  if (recipe.diskMegabytes !== undefined) {
    progress(`writing an ext4 disk of ${recipe.diskMegabytes} MB`);
    const made = await diskOfFolder(root, join(work, 'disk.img'), recipe.diskMegabytes);
    if (!made.ok) return made;
  }
  return ok([...packages.value, ...foreign.value].map(({ name, version }) => `${name} ${version}`));
}

async function assembleInstalled(assembly: Assembly): Promise<Result<readonly string[]>> {
  const { recipe, work, progress, archive, modules } = assembly;
  const busybox = await archive.closure(['busybox-static']);
  if (!busybox.ok) return busybox;
  const downloaded = await archive.download(busybox.value);
  if (!downloaded.ok) return downloaded;
  const small = join(work, 'small-root');
  const unpacked = await archive.unpack(busybox.value, small);
  if (!unpacked.ok) return unpacked;
  const linked = await linkApplets(small);
  if (!linked.ok) return linked;
  const initramfs = await writeInitramfs(recipe, work, await busyboxOnly(small, join(work, 'root')), modules);
  if (!initramfs.ok) return initramfs;
  await rm(join(work, 'root'), { recursive: true });

  const overlay = join(work, 'overlay');
  await addOwnFiles(recipe, overlay);
  await mkdir(join(overlay, 'usr/lib/modules'), { recursive: true });
  await rename(modules, join(overlay, 'usr/lib/modules', basename(modules)));
  const tar = await makeInstalledRoot({
    archive,
    packages: recipe.packages,
    overlay,
    customize: await readFile(guestFile(recipe.installed!), 'utf8'),
    work,
    progress,
  });
  if (!tar.ok) return tar;
  await rm(overlay, { recursive: true });
  const packages = await packagesOfRoot(tar.value);
  if (!packages.ok) return packages;
  progress(`writing an ext4 disk of ${recipe.diskMegabytes} MB`);
  const megabytes = recipe.diskMegabytes ?? 0;
  const made = await diskOfTar(tar.value, join(work, 'root'), join(work, 'disk.img'), megabytes);
  if (!made.ok) return made;
  await rm(tar.value);
  return packages;
}

async function addOwnFiles(recipe: Recipe, root: string): Promise<void> {
  for (const { from, to, mode } of recipe.files) await place(guestFile(from), join(root, to), mode);
  for (const { to, mode, text } of recipe.texts ?? []) {
    await mkdir(dirname(join(root, to)), { recursive: true });
    await writeFile(join(root, to), text);
    await chmod(join(root, to), mode);
  }
  for (const path of recipe.folders) await mkdir(join(root, path), { recursive: true });
  for (const { path, target } of recipe.symlinks) {
    await rm(join(root, path), { force: true });
    await mkdir(dirname(join(root, path)), { recursive: true });
    await symlink(target, join(root, path));
  }
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

async function place(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
  await chmod(to, mode);
}

/** A copy of the image's disk that a guest may write to; holes stay holes. */
export async function copyDisk(image: GuestImage, file: string): Promise<Result<string>> {
  if (image.disk === undefined) return failed(`image ${image.name} has no disk`);
  return runCommand('cp', ['--sparse=always', '--reflink=auto', image.disk, file]);
}
