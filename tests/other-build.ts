import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { repositoryRoot } from '../src/host/image/repository.ts';

/**
 * Another build of this program in `folder`: a word of its own in a file that the guest's history depends on, and, if
 * so, another log format. The path of its `dist`.
 */
export async function otherBuild(folder: string, logFormat?: number): Promise<string> {
  const root = repositoryRoot();
  await mkdir(join(folder, 'dist'), { recursive: true });
  await cp(join(root, 'dist/src'), join(folder, 'dist/src'), { recursive: true });
  await cp(join(root, 'package.json'), join(folder, 'package.json'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await changed(join(folder, 'dist/src/base/assert.js'), (text) => `${text}\n// the next version\n`);
  if (logFormat !== undefined)
    await changed(join(folder, 'dist/src/replay/frame.js'), (text) =>
      text.replace(/LOG_FORMAT_VERSION = \d+/, `LOG_FORMAT_VERSION = ${logFormat}`),
    );
  return join(folder, 'dist');
}

async function changed(path: string, change: (text: string) => string): Promise<void> {
  const before = await readFile(path, 'utf8');
  const after = change(before);
  if (after === before) throw new Error(`${path} is the same as before`);
  await writeFile(path, after);
}
