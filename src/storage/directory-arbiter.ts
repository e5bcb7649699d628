import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { ArbiterConnection } from './asked-arbiter.ts';
import { decide, LEASE_MS, NO_RECORD, type VmRecord } from './vm-record.ts';
import { decodeRecord, encodeRecord } from './vm-record-text.ts';

export interface DirectoryArbiterOptions {
  /** The directory that all hosts share; it must exist. Each VM gets a folder in it. */
  readonly path: string;
  /** Of this caller, once it owns the VM. */
  readonly leaseMs?: number;
  /** Tests put a file server that loses answers here. */
  readonly link?: (from: string, to: string) => Promise<void>;
}

interface Newest {
  readonly change: number;
  readonly record: VmRecord;
  /** When it was written, by the file server's clock, and the length of its owner's lease. */
  readonly writtenMs: number;
  readonly leaseMs: number;
}

/** Each try loses to another caller that got through, so somebody makes progress. */
const TRIES_MAX = 100;
/** Older changes are removed. Whoever takes one of them for the newest finds out when it looks again. */
const KEPT = 16;
const STALE_MS = 60_000;

/**
 * A directory that all hosts mount as arbiter (protocol 3), also over NFS. Every change of the record is a file
 * of its own, numbered; the change n + 1 is made by link(2), which fails when that name is taken, and whose outcome
 * is read from the link count, because the answer may be lost [link(2), open(2) on O_EXCL and NFS]. The lease is the
 * age of the newest change by the file server's clock. Such a directory arbitrates; it fences nothing.
 */
export class DirectoryArbiter implements ArbiterConnection {
  readonly #path: string;
  readonly #leaseMs: number;
  readonly #link: (from: string, to: string) => Promise<void>;

  constructor(options: DirectoryArbiterOptions) {
    this.#path = options.path;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#link = options.link ?? link;
  }

  async ask(request: ArbiterRequest, signal: AbortSignal): Promise<ArbiterAnswer> {
    try {
      return await untilAborted(this.#decide(request, signal), signal);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw code === undefined ? error : new Error(`${this.#path}: ${code}`);
    }
  }

  close(): void {}

  async #decide(request: ArbiterRequest, signal: AbortSignal): Promise<ArbiterAnswer> {
    const folder = join(this.#path, encodeURIComponent(request.vm));
    await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    for (let tries = 0; tries < TRIES_MAX && !signal.aborted; tries++) {
      const answer = await this.#try(folder, request);
      if (answer !== undefined) return answer;
    }
    throw signal.aborted ? signal.reason : new Error('others change the record all the time');
  }

  /** Undefined when somebody else was first. */
  async #try(folder: string, request: ArbiterRequest): Promise<ArbiterAnswer | undefined> {
    const candidate = join(folder, `try-${randomUUID()}`);
    const file = await open(candidate, 'wx', 0o600);
    try {
      // Having made a file in it, a client of a file server does not trust its older view of the directory.
      const { mtimeMs: nowMs } = await file.stat();
      const newest = await readNewest(folder);
      if (newest === 'gone') return undefined;
      const leaseExpired = newest === undefined || nowMs - newest.writtenMs >= newest.leaseMs;
      const before = newest?.record ?? NO_RECORD;
      const { record, answer, leaseRenewed } = decide(before, request, leaseExpired);
      if (record === before && !leaseRenewed) return answer;
      await file.writeFile(`${encodeRecord(record)}\n${this.#leaseMs}\n`);
      await file.sync();
      const change = (newest?.change ?? 0) + 1;
      await this.#link(candidate, join(folder, nameOf(change))).catch(() => undefined);
      // Two names: it is there, whatever link said.
      const { nlink } = await stat(candidate);
      if (nlink !== 2) return undefined;
      // A number may be free again because it is old, and this change then never was the newest.
      const [last] = (await changesIn(folder)).slice(-1);
      if (last !== change) return undefined;
      await syncFolder(folder);
      await removeOld(folder, change, nowMs);
      return answer;
    } finally {
      await file.close();
      await unlink(candidate).catch(() => undefined);
    }
  }
}

async function readNewest(folder: string): Promise<Newest | undefined | 'gone'> {
  const [change] = (await changesIn(folder)).slice(-1);
  if (change === undefined) return undefined;
  const path = join(folder, nameOf(change));
  try {
    const [text = '', lease = ''] = (await readFile(path, 'utf8')).split('\n');
    const record = decodeRecord(text);
    const leaseMs = Number(lease);
    const { mtimeMs } = await stat(path);
    if (record === undefined || !(leaseMs > 0))
      throw new Error(`${path} is damaged: it holds no record of a VM`);
    return { change, record, writtenMs: mtimeMs, leaseMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone';
    throw error;
  }
}

/** Their numbers, the newest last. */
async function changesIn(folder: string): Promise<number[]> {
  const numbers = (await readdir(folder)).map((name) =>
    Number(/^change-(\d{12})$/.exec(name)?.[1] ?? Number.NaN),
  );
  return numbers.filter((change) => !Number.isNaN(change)).sort((a, b) => a - b);
}

function nameOf(change: number): string {
  return `change-${String(change).padStart(12, '0')}`;
}

/** Changes that nobody reads any more, and what callers left that died in mid-try. */
async function removeOld(folder: string, newest: number, nowMs: number): Promise<void> {
  const names = await readdir(folder);
  for (const name of names) {
    const path = join(folder, name);
    const old = name.startsWith('change-') && Number(name.slice('change-'.length)) <= newest - KEPT;
    const left = name.startsWith('try-') && nowMs - (await writtenMs(path)) > STALE_MS;
    if (old || left) await unlink(path).catch(() => undefined);
  }
}

async function writtenMs(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined);
  return found?.mtimeMs ?? Number.POSITIVE_INFINITY;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A file server that is away lets calls hang: the caller is told so, and the call ends whenever it does. */
function untilAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    work.then(resolve, reject);
  });
}
