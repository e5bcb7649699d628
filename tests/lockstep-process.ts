import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { join } from 'node:path';
import { repositoryRoot } from '../src/host/image/repository.ts';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface LockstepOptions {
  /** The Node that runs it; this one by default. */
  readonly node?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeFlags?: readonly string[];
  readonly cwd?: string;
  /** Where it runs, if not here. */
  readonly place?: { command(argv: readonly string[]): string[] };
}

/** `lockstep ...` as a process of its own, from the build that `npm test` makes first. */
export class LockstepProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  #stdout = '';
  #stderr = '';

  constructor(args: readonly string[], options: LockstepOptions = {}) {
    const main = join(repositoryRoot(), 'dist/src/cli/main.js');
    const command = [options.node ?? process.execPath, ...(options.nodeFlags ?? []), main, ...args];
    const [program = '', ...words] = options.place?.command(command) ?? command;
    this.child = spawn(program, words, {
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
    });
    this.child.stdin.on('error', () => {});
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.#stdout += chunk.toString('latin1');
    });
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    this.ended = new Promise((resolve) =>
      this.child.on('close', (code, signal) =>
        resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr }),
      ),
    );
  }

  get stdout(): string {
    return this.#stdout;
  }

  get errors(): string {
    return this.#stderr;
  }

  /** Resolves when the guest has said this; rejects when it ends without. */
  async says(text: string): Promise<void> {
    let over = false;
    void this.ended.then(() => {
      over = true;
    });
    while (!this.#stdout.includes(text)) {
      if (over) throw new Error(`ended without "${text}":\n${this.#stdout.slice(-500)}\n${this.#stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Runs it to its end with nothing on standard input. */
export function lockstep(args: readonly string[], options?: LockstepOptions): Promise<Ended> {
  const started = new LockstepProcess(args, options);
  started.child.stdin.end();
  return started.ended;
}

/** The JSON object that `--json` ends standard error with. */
export function report(ended: Ended): Record<string, unknown> {
  return JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
}
