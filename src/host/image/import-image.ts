import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, realpath, rename, stat, truncate } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { runCommand } from './command.ts';
import { partialWork } from './partial-work.ts';
import { cacheFolder } from './repository.ts';

export interface ImportOptions {
  /** As qemu-img names it; found out when absent. */
  readonly format?: string | undefined;
  /** Where a copy goes; the import itself stays in the cache. */
  readonly out?: string | undefined;
  /** Again, even if the same source has been imported. */
  readonly refresh?: boolean;
  /** Where imports are kept, if not with the other images. */
  readonly cache?: string;
  readonly progress: (line: string) => void;
}

export interface ImportedDisk {
  /** A raw, sparse disk image. */
  readonly disk: string;
  readonly format: string;
  /** Bytes of the disk. */
  readonly size: number;
}

const PROGRAM = 'qemu-img';
const SECTOR_BYTES = 512;
/** Progress is told when it has come so much further, in percent. */
const TOLD_PERCENT = 10;

interface ImageInfo {
  readonly format: string;
  readonly size: number;
}

/** A disk image of any format that qemu-img reads, as a raw one. */
export async function importImage(source: string, options: ImportOptions): Promise<Result<ImportedDisk>> {
  const { format, out, refresh, cache = join(cacheFolder(), 'imported'), progress } = options;
  if (out !== undefined && existsSync(out))
    return failed(`${out} is there already: name a new file with --out`);
  let identity: string;
  try {
    const path = await realpath(source);
    const { size, mtimeMs, ino, dev } = await stat(path);
    identity = JSON.stringify([path, size, mtimeMs, ino, dev, format ?? '']);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return failed(`image ${source} ${code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`}`);
  }
  const info = await describe(source, format);
  if (!info.ok) return info;
  const key = createHash('sha256').update(identity).digest('hex').slice(0, 12);
  const name = basename(source).replace(/[^\w.-]/g, '_');
  const disk = join(cache, `${name}-${key}.img`);
  if (refresh === true || !existsSync(disk)) {
    await mkdir(cache, { recursive: true });
    const converted = await convert(source, info.value, disk, progress);
    if (!converted.ok) return converted;
  } else progress('from the cache');
  if (out !== undefined) {
    const copied = await runCommand('cp', ['--sparse=always', '--reflink=auto', disk, out]);
    if (!copied.ok) return copied;
  }
  const { size } = await stat(disk);
  return ok({ disk: out ?? disk, format: info.value.format, size });
}

async function describe(source: string, format: string | undefined): Promise<Result<ImageInfo>> {
  const words = ['info', '--output=json', ...(format === undefined ? [] : ['-f', format]), '--', source];
  const told = await run(words, () => {});
  if (!told.ok) return told;
  const info = JSON.parse(told.value) as Readonly<Record<string, unknown>>;
  const { data } = (info['format-specific'] ?? {}) as { data?: Readonly<Record<string, unknown>> };
  // An image may name any other file of this host as a part of itself.
  const other =
    info['backing-filename'] ??
    info['full-backing-filename'] ??
    data?.['data-file'] ??
    (await otherExtent(source, data?.extents));
  if (other !== undefined)
    return failed(
      `image ${source} is not whole: the rest of it is in ${other}; make one of both first (qemu-img convert)`,
    );
  if (info.encrypted === true)
    return failed(`image ${source} is encrypted: decrypt it first (qemu-img convert)`);
  const size = Number(info['virtual-size']);
  if (!(size > 0)) return failed(`image ${source} is empty`);
  return ok({ format: String(info.format), size });
}

/** Of a VMDK: the first file that is a part of it and not itself. */
async function otherExtent(source: string, extents: unknown): Promise<string | undefined> {
  const own = await realpath(source);
  for (const extent of Array.isArray(extents) ? extents : []) {
    const { filename } = extent as { filename?: unknown };
    if (typeof filename !== 'string') continue;
    const path = resolve(dirname(own), filename);
    if ((await realpath(path).catch(() => path)) !== own && resolve(filename) !== own) return filename;
  }
  return undefined;
}

async function convert(
  source: string,
  { format, size }: ImageInfo,
  disk: string,
  progress: (line: string) => void,
): Promise<Result<void>> {
  const work = `${disk}.partial-${process.pid}`;
  const removeWork = partialWork(work);
  try {
    progress(`converting ${format}, ${Math.round(size / 2 ** 20)} MiB`);
    let next = TOLD_PERCENT;
    const converted = await run(
      ['convert', '-p', '-f', format, '-O', 'raw', '-S', '4k', '--', source, work],
      (text) => {
        const percent = Math.floor(Number(/\((\d+\.\d+)\/100%\)[^(]*$/.exec(text)?.[1] ?? 0));
        if (percent < next) return;
        next = percent + TOLD_PERCENT;
        progress(`${percent} %`);
      },
    );
    if (!converted.ok) return converted;
    const written = (await stat(work)).size;
    const whole = Math.ceil(written / SECTOR_BYTES) * SECTOR_BYTES;
    if (whole !== written) await truncate(work, whole);
    await rename(work, disk);
    return ok(undefined);
  } finally {
    removeWork();
  }
}

/** Its standard output, or what it complains of, in one line. */
function run(words: readonly string[], hear: (text: string) => void): Promise<Result<string>> {
  return new Promise((resolve) => {
    const child = spawn(PROGRAM, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk;
      hear(output.slice(-64));
    });
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk));
    child.on('error', ({ code, message }: NodeJS.ErrnoException) =>
      resolve(
        failed(
          code === 'ENOENT'
            ? `${PROGRAM} is not installed, and reads other formats than raw ones: install Debian's package qemu-utils`
            : message,
        ),
      ),
    );
    child.on('close', (status) => {
      const [line = ''] = complaint.trim().split('\n');
      resolve(
        status === 0
          ? ok(output)
          : failed(line.replace(/^qemu-img: /, '') || `${PROGRAM} ended with ${status}`),
      );
    });
  });
}
