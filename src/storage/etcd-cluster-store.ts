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
  type RecordKind,
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
import { type EtcdEntry, EtcdGateway, type EtcdWrite } from './etcd-gateway.ts';
import { EtcdPresence } from './etcd-presence.ts';
import { ANSWER_MS_MAX, EtcdWatch } from './etcd-watch.ts';
import { Repetition } from './repetition.ts';

export interface EtcdClusterStoreOptions {
  /** URLs of the members; any of them will do. */
  readonly endpoints: readonly string[];
  /** Stands before every key, as before the arbiter's. */
  readonly prefix?: string;
  /** How long the silence of those that this caller announces counts as presence; etcd counts whole seconds, from 2. */
  readonly presenceMs?: number;
  /** How long an answer may take before the store counts as out of reach. */
  readonly answerMs?: number;
}

const PREFIX = 'lockstep/';
/** After a failure; sooner than the next renewal, so that another member is asked while the lease lasts. */
const AGAIN_MS = 250;

/**
 * etcd as the cluster's store: a key for each record, the key's revision for its version, presence under a lease that
 * ends with its daemon. A reading is of one revision.
 */
export class EtcdClusterStore implements ClusterStore {
  readonly #gateway: EtcdGateway;
  readonly #prefix: string;
  readonly #presenceMs: number;
  readonly #answerMs: number;
  readonly #maker = new ReadingMaker();
  readonly #running = new Set<{ end(): Promise<void> }>();

  constructor(options: EtcdClusterStoreOptions) {
    this.#gateway = new EtcdGateway(options.endpoints);
    this.#prefix = `${options.prefix ?? PREFIX}cluster/`;
    this.#presenceMs = options.presenceMs ?? PRESENCE_MS;
    this.#answerMs = options.answerMs ?? ANSWER_MS_MAX;
  }

  async read(): Promise<Result<ClusterReading>> {
    return await this.#answered(async (signal) => {
      const { entries } = await this.#gateway.readAll(this.#prefix, signal);
      return this.#maker.make(this.#rawOf(entries));
    });
  }

  watch(watcher: ClusterWatcher): () => void {
    const watch = new EtcdWatch(this.#gateway, this.#prefix, {
      changed: (entries) => watcher.changed(this.#maker.make(this.#rawOf(entries.values()))),
      unchanged: () => watcher.unchanged(),
      outOfReach: (error) => watcher.outOfReach(lineOf(error)),
    });
    this.#running.add(watch);
    return () => {
      this.#running.delete(watch);
      void watch.end();
    };
  }

  async writeHost(host: HostRecord, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>> {
    return hostRefusal(host) ?? (await this.#write('hosts', host.name, encodeHost(host), expected));
  }

  async removeHost(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>> {
    const kinds = ['hosts', 'instances', 'presence'] as const;
    const removals = kinds.map((kind) => ({ key: this.#key(kind, name), remove: true }) as const);
    return await this.#change('hosts', name, removals, expected);
  }

  async writeVm(document: VmDocument, expected: RecordVersion | undefined): Promise<Result<WriteOutcome>> {
    const { name } = document.vm;
    return vmRefusal(document) ?? (await this.#write('vms', name, encodeVm(document), expected));
  }

  async removeVm(name: string, expected: RecordVersion): Promise<Result<WriteOutcome>> {
    return await this.#change('vms', name, [{ key: this.#key('vms', name), remove: true }], expected);
  }

  async token(proposed: string): Promise<Result<string>> {
    const key = `${this.#prefix}token`;
    return await this.#answered(async (signal) => {
      await this.#gateway.writeIf([{ key, revision: 0n }], [{ key, text: proposed }], signal);
      const [stored] = await this.#gateway.read([key], signal);
      if (!stored?.text) throw new Error(`the key ${key} is empty; delete it when no daemon runs`);
      return stored.text;
    });
  }

  announce(host: string, presence: HostPresence, say: (line: string) => void): Announcement {
    const renewMs = Math.floor(this.#presenceMs / 3);
    const own = new EtcdPresence(this.#gateway, this.#key('presence', host), presence, this.#presenceMs);
    let trouble = '';
    const renewing = new Repetition(
      () => (trouble === '' ? renewMs : AGAIN_MS),
      async () => {
        const renewed = await this.#answered((signal) => own.renew(signal), renewMs);
        const reason = renewed.ok ? '' : renewed.error;
        if (renewing.ended || reason === trouble) return;
        // Said once: what exactly is wrong may change from try to try.
        if (reason === '') say(`${host} is announced again`);
        else if (trouble === '') say(`${host} is not announced: ${reason}`);
        trouble = reason;
      },
    );
    this.#running.add(renewing);
    return {
      withdraw: async () => {
        this.#running.delete(renewing);
        await renewing.end();
        await this.#answered((signal) => own.end(signal));
      },
    };
  }

  async reportInstances(host: string, instances: readonly Instance[]): Promise<Result<undefined>> {
    const refusal = instancesRefusal(host, instances);
    if (refusal) return refusal;
    const write = { key: this.#key('instances', host), text: encodeInstances(instances) };
    return await this.#answered(async (signal) => {
      await this.#gateway.writeIf([], [write], signal);
      return undefined;
    });
  }

  async close(): Promise<void> {
    const running = [...this.#running];
    this.#running.clear();
    await Promise.all(running.map((one) => one.end()));
  }

  #key(kind: RecordKind, name: string): string {
    return `${this.#prefix}${kind}/${name}`;
  }

  async #write(
    kind: 'hosts' | 'vms',
    name: string,
    text: string,
    expected: RecordVersion | undefined,
  ): Promise<Result<WriteOutcome>> {
    return await this.#change(kind, name, [{ key: this.#key(kind, name), text }], expected);
  }

  async #change(
    kind: 'hosts' | 'vms',
    name: string,
    writes: readonly EtcdWrite[],
    expected: RecordVersion | undefined,
  ): Promise<Result<WriteOutcome>> {
    if (!isName(name)) return failed(`"${name}" is no name`);
    const condition = { key: this.#key(kind, name), revision: BigInt(expected ?? 0) };
    return await this.#answered(async (signal) => {
      const revision = await this.#gateway.writeAt([condition], writes, signal);
      return revision === undefined ? { written: false } : { written: true, version: versionOf(revision) };
    });
  }

  /** What is of no kind is somebody else's. */
  #rawOf(entries: Iterable<EtcdEntry>): RawRecords {
    const raw = {
      hosts: new Map<string, RawRecord>(),
      presence: new Map<string, RawRecord>(),
      vms: new Map<string, RawRecord>(),
      instances: new Map<string, RawRecord>(),
    };
    for (const { key, text, revision } of entries) {
      const [kind = '', ...name] = key.slice(this.#prefix.length).split('/');
      if (Object.hasOwn(raw, kind))
        raw[kind as RecordKind].set(name.join('/'), { text, version: versionOf(revision) });
    }
    return raw;
  }

  async #answered<Value>(
    work: (signal: AbortSignal) => Promise<Value>,
    ms = this.#answerMs,
  ): Promise<Result<Value>> {
    try {
      return ok(await work(AbortSignal.timeout(ms)));
    } catch (error) {
      return failed(lineOf(error));
    }
  }
}

function versionOf(revision: bigint): RecordVersion {
  return String(revision) as RecordVersion;
}

function lineOf(error: unknown): string {
  const { name, message } = error as Error;
  const late = name === 'TimeoutError' || name === 'AbortError';
  return `the cluster's store etcd: ${late ? 'it does not answer in time' : message}`;
}
