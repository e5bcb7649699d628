import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { failed, ok, type Result } from '../base/result.ts';
import { type HostPresence, type Instance, isName } from '../cluster/content.ts';
import {
  encodeHost,
  encodeInstances,
  encodeVm,
  hostRefusal,
  instancesRefusal,
  type RawRecord,
  type RawRecords,
  ReadingMaker,
  vmRefusal,
} from './cluster-records.ts';
import {
  type Announcement,
  type ClusterReading,
  type ClusterStore,
  type ClusterWatcher,
  type HostRecord,
  PRESENCE_MS,
  type RecordVersion,
  type VmDocument,
  type WriteOutcome,
} from './cluster-store.ts';
import { NumberedChanges } from './numbered-changes.ts';
import { FILE_ENDING, PresenceFiles, readIfThere, removeIfThere, replaceFile } from './presence-files.ts';
import { Repetition } from './repetition.ts';

export interface DirectoryClusterStoreOptions {
  /** It must exist: on one machine, or in a file system that all hosts mount. */
  readonly path: string;
  /** How long the silence of those that this caller announces counts as presence. */
  readonly presenceMs?: number;
  /** How often it is looked for changes: a file server tells nobody what others write. */
  readonly pollMs?: number;
}

const POLL_MS = 250;
/** A file server that is away lets calls hang. */
const ANSWER_MS_MAX = 5_000;
const FOLDERS = ['hosts', 'vms', 'cluster', 'presence', 'instances'] as const;
/** A last change with this text: the record is removed. */
const REMOVED = 'null';
const TRIES_MAX = 20;

/**
 * A directory as the cluster's store. Records of hosts and VMs are numbered changes; presence and instances, which
 * only their owner writes, are files that are replaced. A reading is no snapshot: each record in it is whole, and
 * whatever was written before the reading began is in it.
 */
export class DirectoryClusterStore implements ClusterStore {
  readonly #path: string;
  readonly #presenceMs: number;
  readonly #pollMs: number;
  readonly #hosts: NumberedChanges;
  readonly #vms: NumberedChanges;
  readonly #cluster: NumberedChanges;
  readonly #presence: PresenceFiles;
  readonly #maker = new ReadingMaker();
  readonly #running = new Set<Repetition>();
  /** Of each host's instances the last write, which may still be on its way after nobody waits for it any more. */
  readonly #reports = new Map<string, Promise<unknown>>();
  #foldersMade = false;

  constructor(options: DirectoryClusterStoreOptions) {
    this.#path = options.path;
    this.#presenceMs = options.presenceMs ?? PRESENCE_MS;
    this.#pollMs = options.pollMs ?? POLL_MS;
    this.#hosts = new NumberedChanges(join(this.#path, 'hosts'));
    this.#vms = new NumberedChanges(join(this.#path, 'vms'));
    this.#cluster = new NumberedChanges(join(this.#path, 'cluster'));
    this.#presence = new PresenceFiles(join(this.#path, 'presence'));
  }

  async read(): Promise<Result<ClusterReading>> {
    const raw = await this.#readRaw();
    return raw.ok ? ok(this.#maker.make(raw.value)) : raw;
  }

  watch(watcher: ClusterWatcher): () => void {
    let last: RawRecords | undefined;
    let away = false;
    const polling = this.#repeat(this.#pollMs, async () => {
      const raw = await this.#readRaw();
      if (polling.ended) return;
      if (!raw.ok) {
        if (!away) watcher.outOfReach(raw.error);
        away = true;
      } else if (away || last === undefined || !areEqual(raw.value, last)) {
        away = false;
        last = raw.value;
        watcher.changed(this.#maker.make(raw.value));
      } else watcher.unchanged();
    });
    return () => this.#end(polling);
  }

  async writeHost(host: HostRecord, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>> {
    const refusal = hostRefusal(host);
    return refusal ?? (await this.#write(this.#hosts, host.name, encodeHost(host), expected));
  }

  async removeHost(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>> {
    const removed = await this.#write(this.#hosts, name, REMOVED, expected);
    if (!removed.ok || !removed.value.written) return removed;
    return await this.#answered(async () => {
      await removeIfThere(this.#file('instances', name));
      await removeIfThere(this.#file('presence', name));
      return removed.value;
    });
  }

  async writeVm(document: VmDocument, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>> {
    const refusal = vmRefusal(document);
    return refusal ?? (await this.#write(this.#vms, document.vm.name, encodeVm(document), expected));
  }

  async removeVm(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>> {
    return await this.#write(this.#vms, name, REMOVED, expected);
  }

  async token(proposed: string): Promise<Result<string>> {
    return await this.#answered(async () => {
      await this.#cluster.change('token', 0, proposed);
      const token = await this.#cluster.read('token', 1);
      if (!token) throw new Error('cluster/token is empty; delete it when no daemon runs');
      return token;
    });
  }

  announce(host: string, presence: HostPresence, say: (line: string) => void): Announcement {
    const signs = this.#presence.signs(host, presence, this.#presenceMs);
    let trouble = '';
    const giving = this.#repeat(this.#presenceMs / 3, async () => {
      const given = await this.#answered(() => signs.give());
      const reason = given.ok ? '' : given.error;
      if (giving.ended || reason === trouble) return;
      // Said once: what exactly is wrong may change from try to try.
      if (reason === '') say(`${host} is announced again`);
      else if (trouble === '') say(`${host} is not announced: ${reason}`);
      trouble = reason;
    });
    return {
      withdraw: async () => {
        this.#running.delete(giving);
        await giving.end();
        await this.#answered(() => signs.end());
      },
    };
  }

  async reportInstances(host: string, instances: readonly Instance[]): Promise<Result<undefined>> {
    const refusal = instancesRefusal(host, instances);
    return (
      refusal ??
      (await this.#answered(async () => {
        const write = () => replaceFile(this.#file('instances', host), encodeInstances(instances));
        // A file server that hung carries out what it was told before: what is newer is written after it.
        const written = (this.#reports.get(host) ?? Promise.resolve()).then(write, write);
        this.#reports.set(host, written);
        await written;
        return undefined;
      }))
    );
  }

  async close(): Promise<void> {
    const running = [...this.#running];
    this.#running.clear();
    await Promise.all(running.map((repetition) => repetition.end()));
  }

  #repeat(pauseMs: number, work: () => Promise<void>): Repetition {
    const repetition = new Repetition(() => pauseMs, work);
    this.#running.add(repetition);
    return repetition;
  }

  #end(repetition: Repetition): void {
    this.#running.delete(repetition);
    void repetition.end();
  }

  #file(folder: 'presence' | 'instances', name: string): string {
    return join(this.#path, folder, `${name}${FILE_ENDING}`);
  }

  async #write(
    changes: NumberedChanges,
    name: string,
    text: string,
    expected: RecordVersion | undefined,
  ): Promise<Result<WriteOutcome>> {
    if (!isName(name)) return failed(`"${name}" is no name`);
    return await this.#answered(async () => {
      const change = (await changes.newest()).get(name) ?? 0;
      const stored = change === 0 ? REMOVED : await changes.read(name, change);
      const version = stored === REMOVED ? undefined : versionOf(change);
      if (stored === undefined || version !== expected) return { written: false };
      const written = await changes.change(name, change, text);
      return written ? { written, version: versionOf(change + 1) } : { written };
    });
  }

  async #readRaw(): Promise<Result<RawRecords>> {
    const raw = await this.#answered(async () => ({
      hosts: await this.#records(this.#hosts),
      vms: await this.#records(this.#vms),
      presence: await this.#presence.read(),
      instances: await this.#instances(),
    }));
    // The beats of that time are no longer heard of: silence begins anew.
    if (!raw.ok) this.#presence.forget();
    return raw;
  }

  async #records(changes: NumberedChanges): Promise<Map<string, RawRecord>> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const texts = await changes.newestTexts();
      if (texts === undefined) continue;
      const records = new Map<string, RawRecord>();
      for (const [name, { change, text }] of texts)
        if (text !== REMOVED) records.set(name, { text, version: versionOf(change) });
      return records;
    }
    throw new Error('others change it all the time');
  }

  async #instances(): Promise<Map<string, RawRecord>> {
    const records = new Map<string, RawRecord>();
    const folder = join(this.#path, 'instances');
    for (const file of await readdir(folder)) {
      if (!file.endsWith(FILE_ENDING)) continue;
      const text = await readIfThere(join(folder, file));
      const version = '' as RecordVersion;
      if (text !== undefined) records.set(file.slice(0, -FILE_ENDING.length), { text, version });
    }
    return records;
  }

  /** One line for whatever goes wrong, also when there is no answer. */
  async #answered<Value>(work: () => Promise<Value>): Promise<Result<Value>> {
    try {
      return ok(await withinTime(this.#inFolders(work)));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      return failed(`the cluster's store ${this.#path}: ${code ?? message}`);
    }
  }

  /**
   * Folders are made once, and in a directory that is there: where a file system is not mounted any more, nobody may
   * take an empty store for the cluster's.
   */
  async #inFolders<Value>(work: () => Promise<Value>): Promise<Value> {
    if (!this.#foldersMade) {
      await stat(this.#path);
      for (const folder of FOLDERS) await mkdir(join(this.#path, folder), { recursive: true, mode: 0o700 });
      this.#foldersMade = true;
    }
    return await work();
  }
}

function versionOf(change: number): RecordVersion {
  return String(change) as RecordVersion;
}

function areEqual(a: RawRecords, b: RawRecords): boolean {
  return (['hosts', 'vms', 'presence', 'instances'] as const).every(
    (kind) =>
      a[kind].size === b[kind].size &&
      [...a[kind]].every(([name, { text, version }]) => {
        const other = b[kind].get(name);
        return other?.text === text && other.version === version;
      }),
  );
}

async function withinTime<Value>(work: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`it does not answer within ${ANSWER_MS_MAX} ms`)),
      ANSWER_MS_MAX,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
