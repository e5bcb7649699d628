import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BOOT_MODULES, FURTHER_MODULES, PRUNED, type Recipe } from './recipes.ts';
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

/** What lies beside the parts as image.json. */
export interface ImageDescription {
  readonly name: string;
  readonly commandLine: string;
  readonly packages: readonly string[];
  /** In megabytes. */
  readonly disk?: number | undefined;
  /** What it was made by, when it is none of RECIPES. */
  readonly recipe?: Recipe | undefined;
}

/** Raise when the same recipe gives another image. */
const BUILDER_VERSION = 1;

export function imagesFolder(): string {
  return join(cacheFolder(), 'images');
}

/** Where the image of this recipe is or will be: another recipe, or another file of it, is another folder. */
export async function imageFolder(recipe: Recipe): Promise<string> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([BUILDER_VERSION, recipe, BOOT_MODULES, FURTHER_MODULES, PRUNED]));
  const scripts = [
    recipe.init,
    'init-common.sh',
    ...(recipe.installed === undefined ? [] : [recipe.installed]),
  ];
  for (const from of [...recipe.files.map((file) => file.from), ...scripts])
    hash.update(await readFile(guestFile(from)));
  return join(imagesFolder(), `${recipe.name}-${hash.digest('hex').slice(0, 12)}`);
}

export async function readDescription(folder: string): Promise<ImageDescription | undefined> {
  if (!existsSync(join(folder, 'image.json'))) return undefined;
  return JSON.parse(await readFile(join(folder, 'image.json'), 'utf8')) as ImageDescription;
}

export async function readImage(folder: string): Promise<GuestImage | undefined> {
  const described = await readDescription(folder);
  return (
    described && {
      name: described.name,
      kernel: join(folder, 'vmlinuz'),
      initrd: join(folder, 'initrd.img'),
      disk: described.disk === undefined ? undefined : join(folder, 'disk.img'),
      commandLine: described.commandLine,
      packages: described.packages,
    }
  );
}

/** A file of the guest's, as it stands in this checkout. */
export function guestFile(name: string): string {
  return join(repositoryRoot(), 'src/host/image/guest', name);
}
