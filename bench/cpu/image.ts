import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../src/base/result.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { runCommand } from '../../src/host/image/command.ts';
import { DebianArchive } from '../../src/host/image/debian-packages.ts';
import { newInitramfs } from '../../src/host/image/initramfs.ts';
import { cacheFolder, repositoryRoot } from '../../src/host/image/repository.ts';

/** A kernel, and an initramfs whose /init is the program with the workloads. */
export interface CpuGuest {
  readonly kernel: string;
  readonly initrd: string;
  /** The same program, for the host. */
  readonly program: string;
}

const KERNEL_32 = 'linux-image-686';
/** Raise when the same sources give another guest. */
const BUILDER_VERSION = 1;
/** The results must not depend on who compiles: no fused operations, doubles by SSE2 in both. */
const FLAGS = ['-O2', '-static', '-fno-math-errno', '-ffp-contract=off', '-Wall', '-Wextra', '-Werror'];
const BITS = {
  64: [],
  32: ['-m32', '-march=i686', '-msse2', '-mfpmath=sse'],
} as const;
type Bits = keyof typeof BITS;

/** The program and its initramfs for one width of words, from the cache or built now. */
export async function cpuProgram(bits: Bits): Promise<Result<Omit<CpuGuest, 'kernel'>>> {
  const sources = join(repositoryRoot(), 'bench/guest');
  const files = (await readdir(sources)).filter((file) => /\.[ch]$/.test(file)).sort();
  const hash = createHash('sha256').update(JSON.stringify([BUILDER_VERSION, FLAGS, BITS[bits], files]));
  for (const file of files) hash.update(await readFile(join(sources, file)));
  const folder = join(cacheFolder(), 'images', `cpu${bits}-${hash.digest('hex').slice(0, 12)}`);
  const built = { program: join(folder, 'workloads'), initrd: join(folder, 'initrd.img') };
  if (existsSync(built.initrd)) return ok(built);

  const work = `${folder}.partial-${process.pid}`;
  await mkdir(work, { recursive: true });
  try {
    const compiled = files.filter((file) => file.endsWith('.c')).map((file) => join(sources, file));
    const program = join(work, 'workloads');
    const args = [...BITS[bits], ...FLAGS, '-o', program, ...compiled, '-lz', '-lm'];
    const made = await runCommand('gcc', args);
    if (!made.ok) return failed(`the ${bits}-bit workloads: ${made.error}`);
    const initramfs = newInitramfs().file('init', 0o755, await readFile(program));
    await writeFile(join(work, 'initrd.img'), initramfs.finish());
    await rm(folder, { recursive: true, force: true });
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return ok(built);
}

/** Debian's cloud kernel, unmodified, with the workloads. */
export async function cpuGuest(progress: (line: string) => void): Promise<Result<CpuGuest>> {
  const image = await buildImage('boot', { progress });
  if (!image.ok) return image;
  const program = await cpuProgram(64);
  return program.ok ? ok({ kernel: image.value.kernel, ...program.value }) : program;
}

/** Debian's 32-bit kernel with the 32-bit workloads: what v86 can run. */
export async function cpuGuest32(progress: (line: string) => void): Promise<Result<CpuGuest>> {
  const program = await cpuProgram(32);
  if (!program.ok) return program;
  const packages = join(cacheFolder(), 'packages');
  const kernels = join(cacheFolder(), 'images', 'cpu32-kernel');
  const kernel = join(kernels, 'vmlinuz');
  if (!existsSync(kernel)) {
    const archive = new DebianArchive(packages, progress, 'i386');
    const opened = await archive.open();
    if (!opened.ok) return opened;
    const name = await archive.kernelPackage(KERNEL_32);
    if (!name.ok) return name;
    const single = await archive.single(name.value);
    if (!single.ok) return single;
    const downloaded = await archive.download([single.value]);
    if (!downloaded.ok) return downloaded;
    const root = join(kernels, 'root');
    const unpacked = await archive.unpack([single.value], root);
    if (!unpacked.ok) return unpacked;
    await rename(join(root, 'boot', `vmlinuz-${name.value.replace('linux-image-', '')}`), kernel);
    await rm(root, { recursive: true, force: true });
  }
  return ok({ kernel, ...program.value });
}
