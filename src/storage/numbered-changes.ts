import { randomUUID } from 'node:crypto';
import { link, open, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';

const NAME = /^([A-Za-z0-9][A-Za-z0-9._-]*)@(\d{12})$/;
/** Older changes of a name are removed. Whoever takes one of them for the newest finds out when it looks again. */
const KEPT = 16;
const STALE_MS = 60_000;

/**
 * A folder of texts that change by compare-and-set, for all who share the folder, also over NFS. Every change of a
 * text is a file of its own, NAME@NUMBER; the change n + 1 is made by link(2), which fails when that name is taken, and
 * whose outcome is read from the link count, because the answer may be lost [link(2)]. The numbers of a name never
 * begin again: a text that is removed has a last change that says so.
 */
export class NumberedChanges {
  readonly #folder: string;
  #known: ReadonlyMap<string, { readonly change: number; readonly text: string }> = new Map();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Of each name its newest change. */
  async newest(): Promise<Map<string, number>> {
    const newest = new Map<string, number>();
    for (const file of await readdir(this.#folder)) {
      const [, name, digits] = NAME.exec(file) ?? [];
      if (name === undefined) continue;
      const change = Number(digits);
      if (change > (newest.get(name) ?? 0)) newest.set(name, change);
    }
    return newest;
  }

  /** Of each name its newest text. Undefined when one was superseded and removed meanwhile. */
  async newestTexts(): Promise<Map<string, { readonly change: number; readonly text: string }> | undefined> {
    const texts = new Map<string, { readonly change: number; readonly text: string }>();
    for (const [name, change] of await this.newest()) {
      // A change is never another one.
      const known = this.#known.get(name);
      const text = known?.change === change ? known.text : await this.read(name, change);
      if (text === undefined) return undefined;
      texts.set(name, { change, text });
    }
    this.#known = texts;
    return texts;
  }

  /** Undefined when it has been superseded and removed. */
  async read(name: string, change: number): Promise<string | undefined> {
    try {
      return await readFile(this.#path(name, change), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Makes `text` the newest if `before` (0: nothing) is the newest until then; durable when it resolves. */
  async change(name: string, before: number, text: string): Promise<boolean> {
    const candidate = join(this.#folder, `try-${randomUUID()}`);
    const file = await open(candidate, 'wx', 0o600);
    try {
      // Having made a file in it, a client of a file server does not trust its older view of the directory.
      if (((await this.newest()).get(name) ?? 0) !== before) return false;
      await file.writeFile(text);
      await file.sync();
      await link(candidate, this.#path(name, before + 1)).catch(() => undefined);
      // Two names: it is there, whatever link said.
      if ((await stat(candidate)).nlink !== 2) return false;
      const newest = (await this.newest()).get(name) ?? 0;
      // A number may be free again because it is old, and this change then never was the newest.
      if (newest > before + KEPT) throw new Error(`others change ${name} all the time`);
      await syncFolder(this.#folder);
      await this.#removeOld(name, newest, (await file.stat()).mtimeMs);
      return true;
    } finally {
      await file.close();
      await unlink(candidate).catch(() => undefined);
    }
  }

  /** Old changes of this name, and what others left that died in mid-try. */
  async #removeOld(name: string, newest: number, nowMs: number): Promise<void> {
    for (const file of await readdir(this.#folder)) {
      const path = join(this.#folder, file);
      const [, of, digits] = NAME.exec(file) ?? [];
      const old = of === name && Number(digits) <= newest - KEPT;
      const left = file.startsWith('try-') && nowMs - (await writtenMs(path)) > STALE_MS;
      if (old || left) await unlink(path).catch(() => undefined);
    }
  }

  #path(name: string, change: number): string {
    return join(this.#folder, `${name}@${String(change).padStart(12, '0')}`);
  }
}

async function writtenMs(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.mtimeMs ?? Number.POSITIVE_INFINITY;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
