import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { InodeLock } from '../../storage/inode-lock.ts';

/** `sun_path` of a unix socket, with its end [unix(7)]. */
const SOCKET_PATH_MAX = 107;
const ID_BYTES = 4;

/**
 * Where a host daemon keeps what has to outlive it: a folder for each VM process that it started, and its own
 * certificate and token. All of it is for its owner alone.
 */
export class StateFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async open(folder: string): Promise<Result<StateFolder>> {
    const path = resolve(folder);
    const longest = join(path, 'instances', 'x'.repeat(ID_BYTES * 2), 'control');
    if (longest.length > SOCKET_PATH_MAX)
      return failed(
        `--state ${path} is too long for sockets in it: at most ${SOCKET_PATH_MAX - (longest.length - path.length)} characters`,
      );
    try {
      makeFolder(path);
      // Whoever can enter it can give orders: the sockets in it ask nobody who he is.
      const { mode } = await stat(path);
      if ((mode & 0o077) !== 0)
        return failed(`--state ${path} is open to others: chmod 700 it, or name a new folder`);
      makeFolder(join(path, 'instances'));
    } catch (error) {
      return failed(`--state ${path} cannot be made: ${(error as Error).message}`);
    }
    return ok(new StateFolder(path));
  }

  /** One daemon at a time; the lock goes with its process. */
  lock(): Promise<Result<InodeLock>> {
    return InodeLock.take(this.path, 'host', `${this.path} is in use: its host runs already`);
  }

  /** The daemon's own API, for whoever owns the folder. */
  get apiSocket(): string {
    return join(this.path, 'api');
  }

  file(name: string): string {
    return join(this.path, name);
  }

  async newInstance(): Promise<InstanceFolder> {
    const folder = new InstanceFolder(join(this.path, 'instances'), randomBytes(ID_BYTES).toString('hex'));
    await mkdir(folder.path, { mode: 0o700 });
    return folder;
  }

  async instances(): Promise<InstanceFolder[]> {
    const parent = join(this.path, 'instances');
    return (await readdir(parent)).sort().map((id) => new InstanceFolder(parent, id));
  }
}

/** The files of one VM process. */
export class InstanceFolder {
  readonly id: string;
  readonly path: string;

  constructor(parent: string, id: string) {
    this.id = id;
    this.path = join(parent, id);
  }

  get control(): string {
    return join(this.path, 'control');
  }

  get config(): string {
    return join(this.path, 'config.json');
  }

  get credentials(): string {
    return join(this.path, 'credentials.json');
  }

  get console(): string {
    return join(this.path, 'console');
  }

  get log(): string {
    return join(this.path, 'log');
  }

  /** Whole or not at all. */
  async write(file: string, content: object): Promise<void> {
    await writeFile(`${file}.new`, JSON.stringify(content), { mode: 0o600 });
    await rename(`${file}.new`, file);
  }

  /** The last line of the log that the process's reports say `kind` in; it may have ended while nobody listened. */
  async lastReport(kind: string): Promise<Readonly<Record<string, unknown>> | undefined> {
    const text = await readFile(this.log, 'utf8').catch(() => '');
    for (const line of text.split('\n').reverse()) {
      try {
        const report = JSON.parse(line) as Readonly<Record<string, unknown>>;
        if (report.kind === kind) return report;
      } catch {
        // What the process wrote about itself stands between its reports.
      }
    }
    return undefined;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** The folder and those above it, for their owner alone where they are new. (`recursive` hangs where there can be none.) */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path || dirname(path) === '/') throw error;
    makeFolder(dirname(path));
    mkdirSync(path, { mode: 0o700 });
  }
}
