import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { failed, ok, type Result } from '../../base/result.ts';
import type { InstanceView } from '../api.ts';
import type { InstanceFolder } from './state-folder.ts';

const VM_PROCESS = fileURLToPath(new URL('../vm-process.js', import.meta.url));
const CONNECT_AGAIN_MS = 20;
/** A process that is stopped takes the connection, and says nothing. */
const INTRODUCTION_MS_MAX = 3_000;
const ASK_AGAIN_MS = 1_000;
const START_MS_MAX = 60_000;
const ORDER_END_MS_MAX = 3_000;
/** As many may be taken at once before the daemon that asked has heard of its own. */
const SNAPSHOTS_KEPT = 16;

export type ReportLine = Readonly<Record<string, unknown>> & { readonly kind: string };

export interface InstanceEvents {
  report(instance: VmInstance, line: ReportLine): void;
  /** The process is gone; how it said goodbye, if it did. */
  ended(instance: VmInstance, reason: string): void;
}

/** What the folder keeps of an instance beside the process's own configuration. */
export interface InstanceConfig {
  readonly vm: string;
  readonly host: string;
  readonly role: 'primary' | 'backup';
  /** What the process takes of its host's memory. */
  readonly processBytes: number;
  readonly [key: string]: unknown;
}

/**
 * One VM process of this host. It belongs to nobody: it lives on when its daemon dies, and the next daemon connects to
 * it again.
 */
export class VmInstance {
  readonly vm: string;
  readonly folder: InstanceFolder;
  readonly config: InstanceConfig;
  readonly #events: InstanceEvents;
  #socket: Socket | undefined;
  readonly #since = performance.now();
  #pid = 0;
  #ended = false;
  role: 'primary' | 'backup';
  state = 'STARTING';
  detail = '';
  protection = 'Not Protected: Starting';
  /** Where it takes a logging channel. */
  address: string | undefined;
  figures: ReportLine | undefined;
  /** How the last snapshots of it have ended, the newest last. */
  snapshots: readonly ReportLine[] = [];
  /** It said goodbye for this reason. */
  halted: string | undefined;

  private constructor(folder: InstanceFolder, config: InstanceConfig, events: InstanceEvents) {
    this.folder = folder;
    this.config = config;
    this.vm = config.vm;
    this.role = config.role;
    this.#events = events;
  }

  /** Resolves when the process takes orders; otherwise with why it does not, and then it is gone. */
  static async start(
    folder: InstanceFolder,
    config: InstanceConfig,
    events: InstanceEvents,
  ): Promise<Result<VmInstance>> {
    const instance = new VmInstance(folder, config, events);
    await folder.write(folder.config, config);
    const log = await open(folder.log, 'a', 0o600);
    // Of its own session and with no pipe to this process: nothing of it ends with the daemon.
    const child = spawn(process.execPath, [VM_PROCESS, folder.config], {
      cwd: folder.path,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    await log.close();
    child.unref();
    let gone: string | undefined;
    child.on('error', (error) => {
      gone = error.message;
    });
    child.on('exit', (code, signal) => {
      gone = `ended with ${signal ?? code}`;
    });
    const deadline = performance.now() + START_MS_MAX;
    while (gone === undefined && performance.now() < deadline) {
      if (existsSync(folder.control) && (await instance.#connect()) === 'up') return ok(instance);
      await pause(CONNECT_AGAIN_MS);
    }
    if (gone === undefined) child.kill('SIGKILL');
    const report = (await folder.lastReport('failed')) ?? (await folder.lastReport('halted'));
    return failed(String(report?.reason ?? `the VM process ${gone ?? 'does not answer'}`));
  }

  /**
   * The process that an earlier daemon started in this folder; undefined when it is surely gone. One that does not answer
   * is there all the same: it is asked again and again.
   */
  static async find(folder: InstanceFolder, events: InstanceEvents): Promise<VmInstance | undefined> {
    let config: InstanceConfig;
    try {
      config = JSON.parse(await readFile(folder.config, 'utf8')) as InstanceConfig;
    } catch {
      // Written before its process is started: there was none.
      return undefined;
    }
    const instance = new VmInstance(folder, config, events);
    const outcome = await instance.#connect();
    if (outcome === 'gone') return undefined;
    if (outcome === 'silent') {
      const last = await folder.lastReport('state');
      if (last !== undefined) instance.#follow(last as ReportLine, 'quietly');
      instance.detail = 'the process does not answer';
      instance.#lost();
    }
    return instance;
  }

  get pid(): number {
    return this.#pid;
  }

  get ageMs(): number {
    return performance.now() - this.#since;
  }

  get running(): boolean {
    return !this.#ended;
  }

  get view(): InstanceView {
    const { vm, role, state, detail, pid, address } = this;
    return { id: this.folder.id, vm, host: this.config.host, role, state, detail, pid, address };
  }

  /** False: it does not answer at the moment, and was told nothing. */
  order(order: object): boolean {
    if (this.#socket === undefined) return false;
    this.#socket.write(`${JSON.stringify(order)}\n`);
    return true;
  }

  kill(signal: NodeJS.Signals): void {
    // Only ever the process that introduced itself on our own socket.
    if (this.#ended || this.#pid === 0) return;
    try {
      process.kill(this.#pid, signal);
    } catch {
      // It has just ended by itself.
    }
  }

  /** Ends the process, by force when it does not end by itself. */
  async end(): Promise<void> {
    this.kill('SIGTERM');
    const deadline = performance.now() + ORDER_END_MS_MAX;
    while (!this.#ended && performance.now() < deadline) await pause(CONNECT_AGAIN_MS);
    this.kill('SIGKILL');
  }

  /** Leaves the process as it is. */
  forget(): void {
    this.#ended = true;
    this.#socket?.destroy();
  }

  /** `up`: the process has introduced itself. `gone`: nobody listens on its socket any more. */
  #connect(): Promise<'up' | 'gone' | 'silent'> {
    return new Promise((resolve) => {
      const socket = connect(this.folder.control);
      const timer = setTimeout(() => socket.destroy(), INTRODUCTION_MS_MAX);
      let outcome: 'gone' | 'silent' = 'silent';
      socket.on('error', ({ code }: NodeJS.ErrnoException) => {
        if (code === 'ECONNREFUSED' || code === 'ENOENT') outcome = 'gone';
      });
      socket.on('close', () => {
        clearTimeout(timer);
        resolve(outcome);
        if (this.#socket === socket) this.#lost();
      });
      createInterface({ input: socket })
        .on('line', (text) => {
          const line = reportIn(text);
          if (!line) return;
          if (line.kind === 'started') {
            clearTimeout(timer);
            this.#socket = socket;
            resolve('up');
          }
          this.#follow(line);
        })
        // The stream's errors are those of its socket.
        .on('error', () => undefined);
    });
  }

  #follow(line: ReportLine, quietly?: 'quietly'): void {
    if (line.kind === 'started') {
      this.#pid = Number(line.pid);
      this.address = typeof line.address === 'string' ? line.address : undefined;
    } else if (line.kind === 'state') {
      this.role = line.role === 'primary' ? 'primary' : 'backup';
      // In small letters stands what happened in a state.
      if (/^[A-Z]+$/.test(String(line.state))) this.state = String(line.state);
      this.detail = String(line.detail);
      this.protection = String(line.protection);
    } else if (line.kind === 'figures') this.figures = line;
    else if (line.kind === 'snapshot') this.snapshots = [...this.snapshots, line].slice(-SNAPSHOTS_KEPT);
    else if (line.kind === 'halted') this.halted = String(line.reason);
    if (quietly === undefined) this.#events.report(this, line);
  }

  /** A socket that broke is opened again, until the process answers or is surely gone. */
  #lost(): void {
    this.#socket = undefined;
    if (this.#ended) return;
    void this.#connect().then(async (outcome) => {
      if (outcome === 'up' || this.#ended) return;
      if (outcome === 'silent') {
        await pause(ASK_AGAIN_MS);
        this.#lost();
        return;
      }
      this.#ended = true;
      this.#events.ended(this, this.halted ?? 'the process is gone');
    });
  }
}

function reportIn(text: string): ReportLine | undefined {
  try {
    const line = JSON.parse(text) as ReportLine;
    return typeof line === 'object' && line !== null && typeof line.kind === 'string' ? line : undefined;
  } catch {
    return undefined;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
