import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { isName } from '../../cluster/content.ts';
import type { ImageView } from '../api.ts';
import { fileProblem, type GuestFiles } from '../guest-files.ts';

/** What an image consists of, beside its command line. */
export const IMAGE_PARTS = ['kernel', 'initrd'] as const;
export type ImagePart = (typeof IMAGE_PARTS)[number];

/** What its folder says of an image. */
type Description = Pick<ImageView, 'name' | 'append' | 'addedAt'>;

const DESCRIPTION = 'image.json';
const PARTIAL = '.partial-';
const REFERENCE = /^([^@]+)(?:@([0-9a-f]{64}))?$/;

/** `NAME`, or `NAME@DIGEST` for one content of it and no other. */
export function parseImageReference(text: string): { name: string; digest: string | undefined } | undefined {
  const [, name, digest] = REFERENCE.exec(text) ?? [];
  return name !== undefined && isName(name) ? { name, digest } : undefined;
}

export function noSuchImage(reference: string): string {
  return `there is no image "${reference}" here: lockstep host image add ${reference.split('@')[0]} --kernel FILE`;
}

/**
 * The boot images that a host owns: a kernel, perhaps an initrd, and a command line, under a name. They are kept by their
 * content, so whoever names an image by its digest boots the same on every host and for all time.
 */
export class HostImages {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** What an add that was killed has left is removed. */
  static async open(folder: string): Promise<HostImages> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder))
      if (name.startsWith(PARTIAL)) await rm(join(folder, name), { recursive: true, force: true });
    return new HostImages(folder);
  }

  /** By name, the one that a name means first. */
  async list(): Promise<ImageView[]> {
    const found: ImageView[] = [];
    for (const digest of await readdir(this.#folder)) {
      const image = digest.startsWith('.') ? undefined : await this.#view(digest);
      if (image !== undefined) found.push(image);
    }
    return found.sort((one, other) => one.name.localeCompare(other.name) || other.addedAt - one.addedAt);
  }

  async find(reference: string): Promise<ImageView | undefined> {
    const wanted = parseImageReference(reference);
    if (wanted === undefined) return undefined;
    if (wanted.digest !== undefined) return this.#view(wanted.digest);
    return (await this.list()).find(({ name }) => name === wanted.name);
  }

  /** Where a part of it is; undefined when there is none. */
  file(digest: string, part: ImagePart): string | undefined {
    if (!/^[0-9a-f]{64}$/.test(digest)) return undefined;
    const path = join(this.#folder, digest, part);
    return existsSync(path) ? path : undefined;
  }

  /** Copies files of this host; what is there already under this name stays for whoever named its digest. */
  async add(name: string, { kernel, initrd, append }: GuestFiles): Promise<Result<ImageView>> {
    if (!isName(name)) return failed(`image "${name}" is letters, digits, ".", "_" and "-", at most 63`);
    return this.#keep({ name, append, addedAt: Date.now() }, undefined, async (part, to) => {
      const from = part === 'kernel' ? kernel : initrd;
      if (from === undefined) return ok(false);
      try {
        if (!(await stat(from)).isFile()) return failed(`${part} ${from} is no file`);
        await copyFile(from, to);
        return ok(true);
      } catch (error) {
        return failed(`${part} ${from} ${fileProblem(error as NodeJS.ErrnoException)}`);
      }
    });
  }

  /**
   * An image of another host; `fetch` writes a part into a file. Kept only when its content is what the digest says.
   */
  async receive(
    { name, append, addedAt, digest }: ImageView,
    fetch: (part: ImagePart, to: string) => Promise<Result<boolean>>,
  ): Promise<Result<ImageView>> {
    return this.#keep({ name, append, addedAt }, digest, fetch);
  }

  /** All that it has under this name. */
  async remove(name: string): Promise<Result<void>> {
    const all = (await this.list()).filter((image) => image.name === name);
    if (all.length === 0) return failed(noSuchImage(name));
    for (const { digest } of all) await rm(join(this.#folder, digest), { recursive: true, force: true });
    return ok(undefined);
  }

  async #keep(
    description: Description,
    expected: string | undefined,
    fill: (part: ImagePart, to: string) => Promise<Result<boolean>>,
  ): Promise<Result<ImageView>> {
    const work = join(this.#folder, `${PARTIAL}${randomBytes(4).toString('hex')}`);
    try {
      await mkdir(work, { mode: 0o700 });
      for (const part of IMAGE_PARTS) {
        const filled = await fill(part, join(work, part));
        if (!filled.ok) return filled;
      }
      const digest = await contentDigest(work, description);
      if (expected !== undefined && digest !== expected)
        return failed(`what came of image ${description.name} is not what its digest says`);
      await writeFile(join(work, DESCRIPTION), JSON.stringify(description));
      const place = join(this.#folder, digest);
      await rm(place, { recursive: true, force: true });
      await rename(work, place);
      const image = await this.#view(digest);
      return image === undefined ? failed(`image ${description.name} cannot be read back`) : ok(image);
    } catch (error) {
      return failed(`image ${description.name} ${fileProblem(error as NodeJS.ErrnoException)}`);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  async #view(digest: string): Promise<ImageView | undefined> {
    const folder = join(this.#folder, digest);
    try {
      const { name, append, addedAt } = JSON.parse(
        await readFile(join(folder, DESCRIPTION), 'utf8'),
      ) as Description;
      const kernel = await stat(join(folder, 'kernel'));
      const initrd = await stat(join(folder, 'initrd')).catch(() => undefined);
      return { name, digest, append, kernelBytes: kernel.size, initrdBytes: initrd?.size ?? 0, addedAt };
    } catch {
      return undefined;
    }
  }
}

/** Of its name too: one content under two names is two images. */
async function contentDigest(folder: string, { name, append }: Description): Promise<string> {
  const whole = createHash('sha256').update(`${name}\n`);
  for (const part of IMAGE_PARTS) {
    const path = join(folder, part);
    whole.update(`${part} ${existsSync(path) ? await fileDigest(path) : 'none'}\n`);
  }
  return whole.update(append).digest('hex');
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
