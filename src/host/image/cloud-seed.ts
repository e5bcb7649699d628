import { randomUUID } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';

/** The files of a seed: cloud-init's user data, and what else there is. */
export interface SeedFiles {
  readonly userData: string;
  readonly metaData?: string | undefined;
  readonly networkConfig?: string | undefined;
}

const HEADS = [
  ...['#cloud-config', '#!', '#include', '#part-handler', '#cloud-boothook', '## template: jinja'],
  ...['Content-Type:', 'MIME-Version:'],
];

/** `user-data[,meta-data[,network-config]]`; an empty name between commas leaves that file out. */
export function parseSeed(text: string): Result<SeedFiles> {
  const [userData = '', metaData, networkConfig, ...rest] = text.split(',');
  if (userData === '' || rest.length > 0)
    return failed(`--seed ${text} is wrong: write it like user-data[,meta-data[,network-config]]`);
  return ok({ userData, metaData: metaData || undefined, networkConfig: networkConfig || undefined });
}

/**
 * Writes a NoCloud seed [cloud-init: datasources, NoCloud]: an ISO 9660 image labelled cidata, a disk of its own beside
 * the guest's. Without meta data it gets an instance of its own, so that cloud-init does its work.
 */
export async function makeSeed(files: SeedFiles, file: string): Promise<Result<string>> {
  for (const path of [files.userData, files.metaData, files.networkConfig]) {
    if (path === undefined) continue;
    try {
      const text = await readFile(path, 'utf8');
      // cloud-init itself only warns, in a log in the guest, and ignores what it does not know.
      if (path === files.userData && !HEADS.some((head) => text.startsWith(head)))
        return failed(`${path} is no user data of cloud-init: its first line is #cloud-config or #!/bin/sh`);
    } catch (error) {
      return failed(`the seed's ${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
    }
  }
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-seed-'));
  try {
    const metaData = join(folder, 'meta-data');
    if (files.metaData === undefined) await writeFile(metaData, `instance-id: ${randomUUID()}\n`);
    else await copyFile(files.metaData, metaData);
    const network = files.networkConfig === undefined ? [] : ['--network-config', files.networkConfig];
    const made = await runCommand('cloud-localds', [...network, file, files.userData, metaData]);
    if (made.ok) return ok(file);
    return failed(
      made.error === 'cloud-localds is not installed'
        ? 'a seed needs cloud-localds: apt-get install cloud-image-utils'
        : `the seed cannot be made: ${made.error}`,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
