import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Socket } from 'node:net';
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
/** From its last words to its first frame passt only gives up rights; a failure shows within this time. */
const SETTLE_MS = 50;

/**
 * passt as the way out and in: a process of its own on one end of a socket pair. It ends when the other end does,
 * however this process dies.
 */
export class PasstUplink {
  readonly socket: Socket;
  readonly #process: ChildProcess;

  private constructor(socket: Socket, child: ChildProcess) {
    this.socket = socket;
    this.#process = child;
  }

  static async start(options: PasstOptions): Promise<Result<PasstUplink>> {
    for (const { protocol, hostPort } of options.forwards) {
      if (protocol === 'tcp' && !(await isFree(hostPort)))
        return failed(`port ${hostPort} is in use: forward another one`);
    }
    const forward = (protocol: 'tcp' | 'udp', flag: string) => {
      const ports = options.forwards.filter((each) => each.protocol === protocol);
      return ports.flatMap(({ hostPort, guestPort }) => [flag, `127.0.0.1/${hostPort}:${guestPort}`]);
    };
    const child = spawn(
      'passt',
      [
        ...['--foreground', '--stderr', '--ipv4-only', '--fd', '3'],
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
      { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] },
    );
    const socket = child.stdio[3] as Socket;
    let complaint = '';
    const outcome = await new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(() => resolve('does not start'), START_MS_MAX);
      const end = (reason: string | undefined) => {
        clearTimeout(timer);
        resolve(reason);
      };
      child.on('error', (error: NodeJS.ErrnoException) =>
        end(error.code === 'ENOENT' ? 'is not installed: apt-get install passt' : error.message),
      );
      child.on('close', () => end(`ended: ${reasonIn(complaint)}`));
      child.stderr?.on('data', (chunk: Buffer) => {
        complaint = (complaint + chunk.toString()).slice(-4096);
        // The last thing it tells before it serves: which name server and search list it gives to the guest.
        if (complaint.includes('DHCP:')) setTimeout(end, SETTLE_MS, undefined);
      });
    });
    if (outcome !== undefined) {
      child.kill('SIGKILL');
      return failed(`passt ${outcome}`);
    }
    return ok(new PasstUplink(socket, child));
  }

  /** Resolves when passt has ended. */
  async close(): Promise<void> {
    this.socket.destroy();
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = new Promise((resolve) => this.#process.once('close', resolve));
      this.#process.kill('SIGKILL');
      await ended;
    }
  }
}

/** passt repeats its own failures to log; the last line that is none of those says what was wrong. */
function reasonIn(complaint: string): string {
  const lines = complaint
    .split('\n')
    .filter((line) => line.trim() !== '' && !/to syslog|run as root/.test(line));
  return lines.at(-1)?.trim() ?? 'no reason given';
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
