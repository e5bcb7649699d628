import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../src/host/image/command.ts';
import { cacheFolder } from '../src/host/image/repository.ts';

/**
 * Another version of Node, from the npm package `node`. It is no dependency of the project: npm would put it
 * before the user's own Node. Undefined when it cannot be had.
 */
export async function otherNode(major: number): Promise<string | undefined> {
  const folder = join(cacheFolder(), `node-${major}`);
  const program = join(folder, 'node_modules/node/bin/node');
  if (!existsSync(program)) {
    const partial = `${folder}.partial-${process.pid}`;
    await mkdir(partial, { recursive: true });
    await writeFile(join(partial, 'package.json'), '{"private":true}\n');
    const options = ['--no-audit', '--no-fund', '--loglevel=error', '--no-package-lock'];
    await runCommand('npm', ['install', ...options, `node@${major}`], { cwd: partial });
    await rename(partial, folder).catch(() => rm(partial, { recursive: true, force: true }));
  }
  const version = await runCommand(program, ['--version']);
  return version.ok && version.value.startsWith(`v${major}.`) ? program : undefined;
}
