import { execFile } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { isAlive, kill } from './process-signals.ts';

const run = promisify(execFile);
const NAMESPACES = '/run/netns';
const PREFIX = 'lockstep';
const CLONE_NEWNET = 0x40000000;

const libc = koffi.load(null);
const setns = libc.func('int setns(int fd, int kind)');

let made = 0;

/**
 * A network namespace: interfaces, addresses, ports and routes of its own [network_namespaces(7)]. Its name says which
 * process made it, so that runs beside each other do not meet, and what a killed one left behind is found.
 */
export class NetworkNamespace {
  /** As `ip netns` knows it. */
  readonly name: string;
  readonly #handle: number;

  private constructor(name: string) {
    this.name = name;
    this.#handle = openSync(`${NAMESPACES}/${name}`, 'r');
  }

  static async create(label: string): Promise<NetworkNamespace> {
    const name = `${PREFIX}-${process.pid}-${++made}-${label}`;
    await run('ip', ['netns', 'add', name]);
    const namespace = new NetworkNamespace(name);
    await namespace.ip('link set lo up');
    return namespace;
  }

  /** Removes what dead processes left behind. */
  static async removeLeftovers(): Promise<void> {
    for (const name of namesThere()) {
      const maker = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1];
      // Somebody else may be removing it too.
      if (maker !== undefined && !isAlive(Number(maker))) await remove(name).catch(() => undefined);
    }
  }

  /** `ip` with these words, in the namespace: what it prints. Rejects with what it complains of. */
  ip(words: string): Promise<string> {
    return this.#configure('ip', words);
  }

  bridge(words: string): Promise<string> {
    return this.#configure('bridge', words);
  }

  tc(words: string): Promise<string> {
    return this.#configure('tc', words);
  }

  async #configure(program: string, words: string): Promise<string> {
    return (await run(program, ['-n', this.name, ...words.split(' ')])).stdout;
  }

  /** The same command line, run in the namespace; the process keeps its id. */
  command(argv: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.name, ...argv];
  }

  /**
   * What this call opens (a socket, a TAP, a child process) belongs to the namespace for good. It has to be open when the
   * call returns: `net.connect` opens its socket later, in the wrong place.
   */
  enter<Value>(use: () => Value): Value {
    const home = openSync('/proc/thread-self/ns/net', 'r');
    try {
      change(this.#handle);
      return use();
    } finally {
      change(home);
      closeSync(home);
    }
  }

  /** The processes that run in it. */
  pids(): Promise<number[]> {
    return pidsIn(this.name);
  }

  /** Kills what runs in it, and removes it with its interfaces. */
  async remove(): Promise<void> {
    closeSync(this.#handle);
    await remove(this.name);
  }
}

function change(handle: number): void {
  if (setns(handle, CLONE_NEWNET) !== 0) throw new Error(`setns failed with errno ${koffi.errno()}`);
}

function namesThere(): string[] {
  try {
    return readdirSync(NAMESPACES);
  } catch {
    return [];
  }
}

async function remove(name: string): Promise<void> {
  for (const pid of await pidsIn(name)) kill(pid);
  await run('ip', ['netns', 'del', name]);
}

async function pidsIn(name: string): Promise<number[]> {
  const { stdout } = await run('ip', ['netns', 'pids', name]);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}
