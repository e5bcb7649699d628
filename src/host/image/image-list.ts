import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type GuestImage, imageFolder, imagesFolder, readDescription, readImage } from './image-folder.ts';
import { RECIPES, type Recipe, recipeNamed } from './recipes.ts';

export interface ListedImage {
  readonly name: string;
  readonly summary: string;
  /** Undefined: not built yet. */
  readonly image: GuestImage | undefined;
  /** Bytes that its files take on the disk of this host. */
  readonly bytes: number;
  /** Why `image build` would make another one today. */
  readonly stale: string | undefined;
}

/** What can be built and what is: the images of RECIPES, then those that somebody asked for, and older ones of both. */
export async function listImages(): Promise<ListedImage[]> {
  const own = await Promise.all(RECIPES.map((recipe) => imageFolder(recipe)));
  const names = await readdir(imagesFolder()).catch(() => []);
  const folders = names
    .filter((name) => !name.includes('.partial-'))
    .sort()
    .map((name) => join(imagesFolder(), name));
  const listed = await Promise.all(RECIPES.map((recipe, index) => listedRecipe(recipe, own[index]!)));
  for (const folder of folders) {
    if (own.includes(folder)) continue;
    const described = await readDescription(folder);
    if (described === undefined) continue;
    const recipe = described.recipe ?? recipeNamed(described.name);
    const today = described.recipe && (await imageFolder(described.recipe));
    const stale = today === folder ? undefined : 'built by an older recipe';
    listed.push({
      name: described.name,
      summary: recipe?.summary ?? '',
      image: await readImage(folder),
      bytes: await bytesOf(folder),
      stale,
    });
  }
  return listed;
}

async function listedRecipe(recipe: Recipe, folder: string): Promise<ListedImage> {
  const image = await readImage(folder);
  return {
    name: recipe.name,
    summary: recipe.summary,
    image,
    bytes: image === undefined ? 0 : await bytesOf(folder),
    stale: undefined,
  };
}

/** A disk's holes take no place. */
async function bytesOf(folder: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(folder)) sum += (await stat(join(folder, name))).blocks * 512;
  return sum;
}
