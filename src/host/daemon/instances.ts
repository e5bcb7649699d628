import { failed, ok, type Result } from '../../base/result.ts';
import { FAILED, type Instance } from '../../cluster/content.ts';
import { VmAuthority } from '../vm-authority.ts';
import type { EventLog } from './event-log.ts';
import type { Place } from './launch.ts';
import type { InstanceFolder, StateFolder } from './state-folder.ts';
import { type InstanceConfig, type ReportLine, VmInstance } from './vm-instance.ts';

/** A process that was made for a copy which never came. */
const LAST_WORDS_MAX = 64;
const IDLE_BACKUP_MS = 90_000;
/** For so long a VM that could not be started here is placed elsewhere. */
const FAILED_MS = 30_000;

export interface InstancesEvents {
  /** What another daemon could want to know has changed. */
  changed(): void;
  /** The primary of a VM wants a host for a backup. */
  wantsBackup(instance: VmInstance): void;
  /** `reason`: how the process said goodbye. */
  ended(vm: string, role: 'primary' | 'backup', reason: string): void;
}

/** The VM processes of this host: started, found again, followed, and taken leave of. */
export class Instances {
  readonly #host: string;
  readonly #address: string;
  readonly #state: StateFolder;
  readonly #log: EventLog;
  readonly #events: InstancesEvents;
  /** How the processes that ended last said goodbye, by their names. */
  readonly #lastWords = new Map<string, string>();
  readonly #running = new Map<string, VmInstance>();
  /** Processes that are being started, or could not be. */
  readonly #unborn = new Map<string, { readonly instance: Instance; readonly until: number }>();

  constructor(host: string, address: string, state: StateFolder, log: EventLog, events: InstancesEvents) {
    this.#host = host;
    this.#address = address;
    this.#state = state;
    this.#log = log;
    this.#events = events;
  }

  get all(): readonly VmInstance[] {
    return [...this.#running.values()];
  }

  /** As the cluster's store has it. */
  get told(): Instance[] {
    const now = performance.now();
    for (const [id, { until }] of this.#unborn) if (until < now) this.#unborn.delete(id);
    const unborn = [...this.#unborn.values()].map(({ instance }) => instance);
    const running = this.all.map(
      ({ view: { vm, host, id, role, state, address }, config: { processBytes } }) => ({
        vm,
        host,
        id,
        role,
        state,
        memoryBytes: processBytes,
        address,
      }),
    );
    return [...running, ...unborn];
  }

  get(id: string): VmInstance | undefined {
    return this.#running.get(id);
  }

  /** One line for whoever asks after a process that is not there any more, with its last words if it had any. */
  whyGone(id: string): string {
    const reason = this.#lastWords.get(id);
    return `the VM process ${id} is not on ${this.#host} any more${reason === undefined ? '' : `: ${reason}`}`;
  }

  of(vm: string): readonly VmInstance[] {
    return this.all.filter((instance) => instance.vm === vm);
  }

  primaryOf(vm: string): VmInstance | undefined {
    return this.of(vm).find(({ role }) => role === 'primary');
  }

  /** Connects to what an earlier daemon has left running; says goodbye to what has ended meanwhile. */
  async recover(): Promise<void> {
    for (const folder of await this.#state.instances()) {
      const instance = await VmInstance.find(folder, this.#listener());
      if (instance) {
        this.#running.set(folder.id, instance);
        this.#log.add('found', `${instance.role} in process ${instance.pid} lives`, instance.vm);
      } else await this.#buried(folder);
    }
    this.#events.changed();
  }

  /**
   * `configOf` is asked with the place that was found. Others are told of the process before there is one: `told` ends
   * when they know.
   */
  async start(
    authority: VmAuthority,
    configOf: (place: Place) => InstanceConfig,
    told: (id: string) => Promise<Result<unknown>>,
  ): Promise<Result<VmInstance>> {
    let folder: InstanceFolder | undefined;
    try {
      folder = await this.#state.newInstance();
      await folder.write(folder.credentials, await authority.issue());
      const config = configOf({ host: this.#host, folder, address: this.#address });
      return await this.#startIn(folder, config, told);
    } catch (error) {
      if (folder) {
        this.#unborn.delete(folder.id);
        await folder.remove().catch(() => undefined);
        this.#events.changed();
      }
      return failed(`host ${this.#host} cannot start a process: ${(error as Error).message}`);
    }
  }

  async #startIn(
    folder: InstanceFolder,
    config: InstanceConfig,
    told: (id: string) => Promise<Result<unknown>>,
  ): Promise<Result<VmInstance>> {
    this.#unbornIs(folder.id, config, 'STARTING', Number.POSITIVE_INFINITY);
    const known = await told(folder.id);
    const started = known.ok ? await VmInstance.start(folder, config, this.#listener()) : known;
    if (!started.ok) {
      this.#unbornIs(folder.id, config, FAILED, performance.now() + FAILED_MS);
      setTimeout(() => this.#events.changed(), FAILED_MS + 1).unref();
      await folder.remove();
      this.#events.changed();
      return failed(`${config.vm} cannot be started on ${this.#host}: ${started.error}`);
    }
    this.#unborn.delete(folder.id);
    this.#running.set(folder.id, started.value);
    if (config.role === 'backup') this.#endIdle(started.value);
    this.#log.add('started', `${config.role} in process ${started.value.pid}`, config.vm);
    this.#events.changed();
    return ok(started.value);
  }

  #unbornIs(id: string, { vm, role, processBytes }: InstanceConfig, state: string, until: number): void {
    const instance = {
      vm,
      host: this.#host,
      id,
      role,
      state,
      memoryBytes: processBytes,
      address: undefined,
    };
    this.#unborn.set(id, { instance, until });
  }

  /** The processes live on without this daemon. */
  forget(): void {
    for (const instance of this.#running.values()) instance.forget();
    this.#running.clear();
  }

  #listener() {
    return {
      report: (instance: VmInstance, line: ReportLine) => this.#report(instance, line),
      ended: (instance: VmInstance, reason: string) => {
        this.#running.delete(instance.folder.id);
        this.#keepLastWords(instance.folder.id, reason);
        this.#log.add('ended', `${instance.role}: ${reason}`, instance.vm);
        instance.folder.remove().catch(() => undefined);
        this.#events.changed();
        this.#events.ended(instance.vm, instance.role, reason);
      },
    };
  }

  #keepLastWords(id: string, reason: string): void {
    this.#lastWords.set(id, reason);
    const [oldest] = this.#lastWords.keys();
    if (this.#lastWords.size > LAST_WORDS_MAX && oldest !== undefined) this.#lastWords.delete(oldest);
  }

  #report(instance: VmInstance, line: ReportLine): void {
    if (line.kind === 'find-host') {
      this.#events.wantsBackup(instance);
    } else if (line.kind === 'state') {
      this.#log.add(String(line.state), `${line.role}, ${line.protection}: ${line.detail}`, instance.vm);
      this.#events.changed();
    } else if (line.kind === 'event' || line.kind === 'failed')
      this.#log.add(String(line.what ?? line.kind), String(line.detail ?? line.reason), instance.vm);
  }

  /** What the process wrote last, while nobody listened. */
  async #buried(folder: InstanceFolder): Promise<void> {
    const halted = await folder.lastReport('halted');
    const started = await folder.lastReport('started');
    const state = await folder.lastReport('state');
    await folder.remove();
    if (started === undefined) return;
    const reason = String(halted?.reason ?? 'the process is gone');
    this.#log.add('ended', reason, String(started.vm));
    this.#events.ended(String(started.vm), state?.role === 'backup' ? 'backup' : 'primary', reason);
  }

  #endIdle(instance: VmInstance): void {
    setTimeout(() => {
      const idle = instance.role === 'backup' && (instance.state === 'STARTING' || instance.state === 'WAIT');
      if (idle && instance.running) void instance.end();
    }, IDLE_BACKUP_MS).unref();
  }
}

/** The authority of a VM's channel, from what the store keeps of it. */
export async function authorityOf(vm: string, secrets: unknown): Promise<Result<VmAuthority>> {
  try {
    const { authority } = secrets as { authority: string };
    return ok(await VmAuthority.parse(vm, authority));
  } catch (error) {
    return failed(`the store's secrets of ${vm} cannot be read: ${(error as Error).message}`);
  }
}
