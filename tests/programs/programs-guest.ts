import { constants } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage } from '../../src/host/image/build-image.ts';
import { CpioArchive } from '../../src/host/image/cpio.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { type Program, readList } from './list.ts';

const FOLDER = join(repositoryRoot(), 'tests/programs');

export async function listedPrograms(): Promise<Program[]> {
  const programs = readList(await readFile(join(FOLDER, 'list'), 'utf8'));
  if (!programs.ok) throw new Error(`tests/programs/list: ${programs.error}`);
  return programs.value;
}

export interface PreparedGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: string;
  readonly commandLine: string;
}

/**
 * The image 'programs' with these programs in a second archive behind its initramfs, and a copy of its disk, in
 * `folder`. The list is no part of the image: a changed expectation needs no new disk.
 */
export async function prepareGuest(
  programs: readonly Program[],
  folder: string,
  kernelImage: 'programs' | 'generic',
  progress: (line: string) => void,
): Promise<PreparedGuest> {
  const image = await buildImage('programs', { progress });
  if (!image.ok) throw new Error(image.error);
  const kernel = kernelImage === 'programs' ? image : await buildImage(kernelImage, { progress });
  if (!kernel.ok) throw new Error(kernel.error);
  const archive = new CpioArchive();
  for (const [index, program] of programs.entries()) {
    const place = `programs/${String(index).padStart(3, '0')}-${program.name}`;
    archive.file(`${place}/command`, 0o644, Buffer.from(program.script));
    archive.file(`${place}/seconds`, 0o644, Buffer.from(String(program.seconds)));
    for (const file of program.files)
      archive.file(`${place}/${file}`, 0o644, await readFile(join(FOLDER, 'files', file)));
  }
  const initrd = join(folder, 'initrd.img');
  const first = await readFile(kernel.value.initrd);
  // An archive begins at a multiple of four bytes; zeros between archives are skipped.
  const gap = Buffer.alloc((4 - (first.length % 4)) % 4);
  await writeFile(initrd, Buffer.concat([first, gap, archive.finish()]));
  const disk = join(folder, 'disk.img');
  await copyFile(image.value.disk ?? '', disk, constants.COPYFILE_FICLONE);
  return {
    kernel: kernel.value.kernel,
    initrd,
    disk,
    // The crypto manager's tests of itself are most of a boot and are run by the boot's own tests.
    commandLine: 'console=ttyS0 quiet cryptomgr.notests',
  };
}
