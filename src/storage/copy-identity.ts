import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { failed, ok, type Result } from '../base/result.ts';
import type { CopyName, Following } from '../ft/copy-name.ts';
import { epoch, instanceId } from '../ft/identity.ts';
import { writeDurably } from './durable-file.ts';

/** What stands beside each file of one side's copy of the disks [FT 4.1]. */
export interface CopyIdentity extends CopyName {
  /** False from the first block of a copy that replaces it to its last one. */
  readonly whole: boolean;
}

const VERSION = 1;

/**
 * Says of the files of one side which copy they are, whether it is whole, and whose writes it has: alike beside every
 * file. Files that do not belong together are no copy of anything; files without it are what their owner says they are.
 */
export class CopyIdentityFiles {
  readonly #paths: readonly string[];

  constructor(files: readonly string[]) {
    this.#paths = files.map((file) => `${file}.lockstep-copy`);
  }

  async load(): Promise<Result<CopyIdentity>> {
    const texts: (string | undefined)[] = [];
    for (const path of this.#paths) {
      try {
        texts.push(await readFile(path, 'utf8'));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOENT') return failed(`${path} cannot be read (${code})`);
        texts.push(undefined);
      }
    }
    const [first] = texts;
    const fresh = { id: randomUUID(), follows: undefined };
    if (texts.every((text) => text === undefined)) return ok({ ...fresh, whole: true });
    if (first === undefined || texts.some((text) => text !== first)) return ok({ ...fresh, whole: false });
    const identity = parse(first);
    if (identity) return ok(identity);
    return failed(
      `${this.#paths[0]} is damaged: delete it, and give this host's copy to nobody before it was a backup's again`,
    );
  }

  async save({ id, whole, follows }: CopyIdentity): Promise<void> {
    const text = `${JSON.stringify({ version: VERSION, id, whole, follows })}\n`;
    for (const path of this.#paths) await writeDurably(path, text);
  }
}

function parse(text: string): CopyIdentity | undefined {
  try {
    const { version, id, whole, follows } = JSON.parse(text) as Record<string, unknown>;
    if (version !== VERSION || typeof id !== 'string' || typeof whole !== 'boolean') return undefined;
    return { id, whole, follows: following(follows) };
  } catch {
    return undefined;
  }
}

function following(value: unknown): Following | undefined {
  if (value === undefined) return undefined;
  const { primary, generation } = value as Record<string, unknown>;
  if (typeof primary !== 'string') throw new TypeError('no primary');
  return { primary: instanceId(primary), generation: epoch(Number(generation)) };
}
