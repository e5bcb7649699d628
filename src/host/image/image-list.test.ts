import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { imageFolder, imagesFolder } from './image-folder.ts';
import { listImages } from './image-list.ts';
import { recipeOf } from './image-request.ts';
import { RECIPES } from './recipes.ts';

test("an image of one's own is listed with its size, and is stale when its recipe makes another one today", async () => {
  const recipe = recipeOf({ name: `listed-${process.pid}`, template: 'demo', packages: ['curl'] });
  if (!recipe.ok) throw new Error(recipe.error);
  const description = {
    name: recipe.value.name,
    commandLine: '',
    packages: [],
    disk: 96,
    recipe: recipe.value,
  };
  const today = await imageFolder(recipe.value);
  const older = join(imagesFolder(), `${recipe.value.name}-000000000000`);
  try {
    for (const folder of [today, older]) {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'disk.img'), Buffer.alloc(65536, 1));
      await writeFile(join(folder, 'image.json'), JSON.stringify(description));
    }
    const listed = await listImages();
    expect(listed.slice(0, RECIPES.length).map(({ name }) => name)).toEqual(RECIPES.map(({ name }) => name));
    const own = listed.filter(({ name }) => name === recipe.value.name);
    expect(own.map(({ image, stale }) => [image?.disk, stale])).toEqual([
      [join(older, 'disk.img'), 'built by an older recipe'],
      [join(today, 'disk.img'), undefined],
    ]);
    for (const { bytes, summary } of own) {
      expect(bytes).toBeGreaterThanOrEqual(65536);
      expect(bytes).toBeLessThan(100_000);
      expect(summary).toBe('template demo, curl');
    }
  } finally {
    for (const folder of [today, older]) await rm(folder, { recursive: true, force: true });
  }
});
