import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of this checkout: sources and builds of it find files that are not code from here. */
export function repositoryRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package-lock.json'))) {
    const above = dirname(folder);
    if (above === folder)
      throw new Error('Lockstep runs from a checkout, and package-lock.json is not there');
    folder = above;
  }
  return folder;
}

/** Where images, packages and recordings that can be made again are kept. Never committed. */
export function cacheFolder(): string {
  return join(repositoryRoot(), '.cache');
}
