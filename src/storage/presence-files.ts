import { randomUUID } from 'node:crypto';
import { readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostPresence } from '../cluster/content.ts';
import { encodePresence, presenceIn, type RawRecord } from './cluster-records.ts';
import type { RecordVersion } from './cluster-store.ts';
import { ObservedPresence } from './observed-presence.ts';

export const FILE_ENDING = '.json';
/** What a hostile file may say of its owner's patience. */
const SILENCE_MS_MAX = 60_000;

interface Sign {
  /** Another one at every renewal. */
  readonly beat: string;
  readonly silenceMs: number;
  readonly presence: string;
}

/** The signs of life of hosts: a file each, whose beat changes while its daemon lives. */
export class PresenceFiles {
  readonly #folder: string;
  readonly #observed = new ObservedPresence();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Of the hosts that are present; a file that is no sign of life as it is. */
  async read(): Promise<Map<string, RawRecord>> {
    const present = new Map<string, RawRecord>();
    for (const file of await readdir(this.#folder)) {
      if (!file.endsWith(FILE_ENDING)) continue;
      const name = file.slice(0, -FILE_ENDING.length);
      const text = await readIfThere(join(this.#folder, file));
      if (text === undefined) continue;
      const sign = signIn(text);
      const version = '' as RecordVersion;
      if (sign === undefined) present.set(name, { text, version });
      else if (this.#lives(name, sign)) present.set(name, { text: sign.presence, version });
    }
    return present;
  }

  /** Nothing could be read for a while. */
  forget(): void {
    this.#observed.forget();
  }

  /** A new sign of life at every call of the function that it gives; that one fails while another daemon has the name. */
  signs(host: string, presence: HostPresence, silenceMs: number): Signs {
    return new Signs(join(this.#folder, `${host}${FILE_ENDING}`), {
      presence,
      silenceMs,
      lives: (sign) => this.#lives(host, sign),
    });
  }

  #lives(host: string, { beat, silenceMs }: Sign): boolean {
    return this.#observed.observe(host, beat, silenceMs, performance.now());
  }
}

interface SignsOptions {
  readonly presence: HostPresence;
  readonly silenceMs: number;
  readonly lives: (sign: Sign) => boolean;
}

/** Of one announcement. */
export class Signs {
  readonly #file: string;
  readonly #options: SignsOptions;
  readonly #session = randomUUID();
  #beat = 0;

  constructor(file: string, options: SignsOptions) {
    this.#file = file;
    this.#options = options;
  }

  /** Throws when another daemon goes by this name. */
  async give(): Promise<void> {
    const { presence, silenceMs, lives } = this.#options;
    const rival = this.#otherIn(await readIfThere(this.#file));
    const other = rival && presenceIn(rival.presence);
    if (rival && other && other.certificate !== presence.certificate && lives(rival))
      throw new Error(`a daemon at ${other.api} goes by the same name; give this one another`);
    this.#beat += 1;
    const beat = `${this.#session}/${this.#beat}`;
    const sign = { beat, silenceMs, presence: encodePresence(presence) } satisfies Sign;
    await replaceFile(this.#file, JSON.stringify(sign));
  }

  async end(): Promise<void> {
    const text = await readIfThere(this.#file);
    if (text !== undefined && this.#otherIn(text) === undefined) await removeIfThere(this.#file);
  }

  #otherIn(text: string | undefined): Sign | undefined {
    const sign = text === undefined ? undefined : signIn(text);
    return sign?.beat.startsWith(this.#session) ? undefined : sign;
  }
}

function signIn(text: string): Sign | undefined {
  try {
    const { beat, silenceMs, presence } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    if (typeof beat !== 'string' || typeof presence !== 'string') return undefined;
    if (typeof silenceMs !== 'number' || !(silenceMs > 0 && silenceMs <= SILENCE_MS_MAX)) return undefined;
    return { beat, silenceMs, presence };
  } catch {
    return undefined;
  }
}

/** Whole or not at all, for readers; only one process writes it. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

export async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch(unlessMissing);
}

export async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch(unlessMissing);
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
