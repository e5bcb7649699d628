import { constants } from 'node:fs';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage, type GuestImage } from '../../src/host/image/build-image.ts';
import { CpioArchive } from '../../src/host/image/cpio.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { type Program, readList } from './list.ts';
import { sourceFiles } from './sources.ts';

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

export type KernelImage = 'cloud' | 'generic';

/** One file of what tests/programs/run.sh runs, by its path below `programs/`. */
export interface ProgramFile {
  readonly path: string;
  readonly content: Uint8Array;
}

/** What a guest, or a chroot on the host, needs to run these programs. */
export async function programFiles(
  programs: readonly Program[],
  image: GuestImage,
  progress: (line: string) => void,
): Promise<ProgramFile[]> {
  const files: ProgramFile[] = [{ path: 'run.sh', content: await readFile(join(FOLDER, 'run.sh')) }];
  for (const [index, program] of programs.entries()) {
    const place = `${String(index).padStart(3, '0')}-${program.name}`;
    files.push({ path: `${place}/command`, content: Buffer.from(program.script) });
    files.push({ path: `${place}/seconds`, content: Buffer.from(String(program.seconds)) });
    for (const file of program.files)
      files.push({ path: `${place}/${file}`, content: await readFile(join(FOLDER, 'files', file)) });
  }
  for (const name of new Set(programs.flatMap(({ sources }) => sources)))
    for (const { path, content } of await sourceFiles(name, image, progress))
      files.push({ path: `source/${name}/${path}`, content });
  return files;
}

/**
 * The image 'programs' with these programs in a second archive behind its initramfs, and a copy of its disk, in
 * `folder`. The list is no part of the image: a changed expectation needs no new disk.
 */
export async function prepareGuest(
  programs: readonly Program[],
  folder: string,
  kernelImage: KernelImage,
  progress: (line: string) => void,
): Promise<PreparedGuest> {
  const image = await buildImage('programs', { progress });
  if (!image.ok) throw new Error(image.error);
  const kernel = kernelImage === 'cloud' ? image : await buildImage(kernelImage, { progress });
  if (!kernel.ok) throw new Error(kernel.error);
  const archive = new CpioArchive();
  for (const { path, content } of await programFiles(programs, image.value, progress))
    archive.file(`programs/${path}`, 0o644, content);
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
