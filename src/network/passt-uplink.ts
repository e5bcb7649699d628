import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, ok, type Result } from '../base/result.ts';

/** `hostPort` on this host's loopback leads to `guestPort` in the guest. */
export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  readonly hostPort: number;
  readonly guestPort: number;
}

export interface PasstOptions {
  /** The guest's address, given to it by DHCP or set by itself. */
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly forwards: readonly Forward[];
}

export const DEFAULT_PASST_OPTIONS: PasstOptions = {
  address: '10.0.2.15',
  prefixLength: 24,
  gateway: '10.0.2.2',
  forwards: [],
};

const START_MS_MAX = 5_000;

/** passt as the way out and in: a process of its own that ends when its one connection does. */
export class PasstUplink {
  readonly socket: Socket;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(socket: Socket, child: ChildProcess, folder: string) {
    this.socket = socket;
    this.#process = child;
    this.#folder = folder;
  }

  static async start(options: PasstOptions): Promise<Result<PasstUplink>> {
    for (const { protocol, hostPort } of options.forwards) {
      if (protocol === 'tcp' && !(await isFree(hostPort)))
        return failed(`port ${hostPort} is in use: forward another one`);
    }
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-passt-'));
    // passt gives up root and then still must reach its socket.
    await chmod(folder, 0o711);
    const path = join(folder, 'socket');
    const forward = (protocol: 'tcp' | 'udp', flag: string) => {
      const ports = options.forwards.filter((each) => each.protocol === protocol);
      return ports.flatMap(({ hostPort, guestPort }) => [flag, `127.0.0.1/${hostPort}:${guestPort}`]);
    };
    const child = spawn(
      'passt',
      [
        ...['--foreground', '--quiet', '--stderr', '--one-off', '--ipv4-only', '--socket', path],
        ...[
          '--address',
          options.address,
          '--netmask',
          String(options.prefixLength),
          '--gateway',
          options.gateway,
        ],
        ...[...forward('tcp', '--tcp-ports'), ...forward('udp', '--udp-ports')],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(-2048);
    });
    const ended = new Promise<string>((resolve) => {
      child.on('error', (error: NodeJS.ErrnoException) =>
        resolve(error.code === 'ENOENT' ? 'is not installed: apt-get install passt' : error.message),
      );
      child.on('close', () => resolve(`ended: ${reasonIn(complaint)}`));
    });
    const socket = await Promise.race([connected(path), ended]);
    if (typeof socket === 'string') {
      child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
      return failed(`passt ${socket}`);
    }
    return ok(new PasstUplink(socket, child, folder));
  }

  /** Resolves when passt has ended. */
  async close(): Promise<void> {
    this.socket.destroy();
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once('close', resolve));
      this.#process.kill('SIGKILL');
      await ended;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** passt repeats its own failures to log; the last line that is none of those says what was wrong. */
function reasonIn(complaint: string): string {
  const lines = complaint
    .split('\n')
    .filter((line) => line.trim() !== '' && !/to syslog|run as root/.test(line));
  return lines.at(-1)?.trim() ?? 'no reason given';
}

async function connected(path: string): Promise<Socket | string> {
  const deadline = performance.now() + START_MS_MAX;
  while (performance.now() < deadline) {
    const socket = await new Promise<Socket | undefined>((resolve) => {
      const attempt = connect(path);
      attempt.once('connect', () => resolve(attempt));
      attempt.once('error', () => resolve(undefined));
    });
    if (socket !== undefined) return socket;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return 'does not answer';
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
