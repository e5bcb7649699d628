import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export type StatusLine = Readonly<Record<string, unknown>> & { readonly kind: string };

const ENDING_MS_MAX = 2_000;

/** A process that reports in JSON lines. Nothing of this process is shared with it but its three streams. */
export class JsonProcess {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #listeners = new Set<(line: StatusLine) => void>();
  readonly ended: Promise<string>;
  #complaint = '';

  /**
   * `core`: the one processor that it may use; anything it likes when absent. `within`: the command line that runs the
   * given one somewhere else.
   */
  constructor(
    name: string,
    script: string,
    args: readonly string[],
    cwd: string,
    core?: number,
    within: (command: string[]) => readonly string[] = (command) => command,
  ) {
    this.name = name;
    const command = [process.execPath, script, ...args];
    if (core !== undefined) command.unshift('taskset', '--cpu-list', String(core));
    const [program = '', ...rest] = within(command);
    this.#child = spawn(program, rest, { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#complaint = (this.#complaint + chunk.toString()).slice(-2048);
    });
    this.#child.stdin?.on('error', () => undefined);
    if (this.#child.stdout !== null)
      createInterface({ input: this.#child.stdout }).on('line', (text) => this.#line(text));
    this.ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message));
      this.#child.on('close', (code, signal) => {
        const words = this.#complaint.trim().split('\n').at(-1);
        resolve(words !== undefined && words !== '' ? words : `ended with ${signal ?? code}`);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  listen(listener: (line: StatusLine) => void): void {
    this.#listeners.add(listener);
  }

  /** The first line that fits; rejects when the process ends before. */
  async first(fits: (line: StatusLine) => boolean): Promise<StatusLine> {
    const found = new Promise<StatusLine>((resolve) => {
      const listener = (line: StatusLine): void => {
        if (!fits(line)) return;
        this.#listeners.delete(listener);
        resolve(line);
      };
      this.#listeners.add(listener);
    });
    const early = this.ended.then((reason) => Promise.reject(new Error(`${this.name}: ${reason}`)));
    return Promise.race([found, early]);
  }

  order(order: object): void {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  kill(): void {
    this.signal('SIGKILL');
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Ends it by the end of its standard input or by a signal; by force when neither helps. */
  async end(signal?: 'SIGTERM'): Promise<void> {
    if (signal !== undefined) this.#child.kill(signal);
    else this.#child.stdin?.end();
    const timer = setTimeout(() => this.kill(), ENDING_MS_MAX);
    if (this.running) await this.ended;
    clearTimeout(timer);
  }

  #line(text: string): void {
    let line: StatusLine;
    try {
      line = JSON.parse(text) as StatusLine;
    } catch {
      return;
    }
    for (const listener of [...this.#listeners]) listener(line);
  }
}
