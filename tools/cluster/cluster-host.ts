import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ClusterView, VmView } from '../../src/host/api.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { kill, pidsUsing } from '../net/process-signals.ts';
import type { TestHost } from '../net/test-host.ts';
import { JsonProcess } from '../pair/json-process.ts';

const COMMAND_LINE = join(repositoryRoot(), 'dist/src/cli/main.js');
const run = promisify(execFile);

export interface ClusterHostOptions {
  readonly name: string;
  /** What outlives the daemon. */
  readonly state: string;
  /** Of `lockstep host start`. */
  readonly store: string;
  /** A host of a test network; this machine when absent. */
  readonly at?: TestHost | undefined;
  readonly memory?: string;
  /** The `dist` of another build. */
  readonly program?: string | undefined;
}

/** How a command of the command line ended. */
export interface Answer {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/** One host of a test's cluster: its daemon, the VM processes that this started, and the command line there. */
export class ClusterHost {
  readonly name: string;
  readonly #options: ClusterHostOptions;
  #daemon: JsonProcess | undefined;
  /** What the daemon said, newest last. */
  readonly events: { readonly kind: string; readonly vm?: string; readonly detail: string }[] = [];

  constructor(options: ClusterHostOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get socket(): string {
    return join(this.#options.state, 'api');
  }

  get address(): string {
    return this.#options.at?.address ?? '127.0.0.1';
  }

  /** Starts the daemon; resolves when it takes orders. */
  async start(): Promise<void> {
    const { name, state, store, at, memory, program } = this.#options;
    const daemon = new JsonProcess(
      `host ${name}`,
      program === undefined ? COMMAND_LINE : join(program, 'src/cli/main.js'),
      [
        ...['host', 'start', '--name', name, '--state', state, '--cluster', store, '--json'],
        ...['--listen', `${this.address}:0`, '--memory', memory ?? '2G'],
      ],
      '/',
      undefined,
      at && ((command) => at.command(command)),
    );
    this.#daemon = daemon;
    daemon.listen((line) => {
      if (typeof line.detail === 'string') this.events.push(line as never);
    });
    await daemon.first(({ kind }) => kind === 'listening');
  }

  /** Only the daemon dies. */
  killDaemon(): void {
    this.#daemon?.kill();
  }

  /** The daemon ends in good order; its VMs live on. */
  async stopDaemon(): Promise<void> {
    await this.#daemon?.end('SIGTERM');
  }

  /** Everything on this host dies at one moment. */
  async powerOff(): Promise<void> {
    const { at } = this.#options;
    const pids = at ? await at.pids() : await pidsUsing(this.#options.state);
    for (const pid of pids) kill(pid);
    if (this.#daemon?.running) this.#daemon.kill();
    await this.#daemon?.ended;
  }

  /** A command of the command line, asked of this host's daemon. */
  lockstep(...words: string[]): Promise<Answer> {
    return runLockstep([...words, '--host', this.socket]);
  }

  /** Rejects when the command does not do what it says. */
  async do(...words: string[]): Promise<string> {
    const { code, out, error } = await this.lockstep(...words);
    if (code !== 0) throw new Error(`lockstep ${words.join(' ')}: ${error.trim()}`);
    return out;
  }

  async cluster(): Promise<ClusterView> {
    return JSON.parse(await this.do('cluster', 'status', '--json')) as ClusterView;
  }

  async vm(name: string): Promise<VmView> {
    return JSON.parse(await this.do('vm', 'show', name, '--json')) as VmView;
  }

  /** Nothing of this host is left. */
  async end(): Promise<void> {
    await this.powerOff().catch(() => this.#daemon?.kill());
  }
}

export async function runLockstep(words: readonly string[]): Promise<Answer> {
  try {
    const { stdout, stderr } = await run(process.execPath, [COMMAND_LINE, ...words]);
    return { code: 0, out: stdout, error: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, error: stderr };
  }
}
