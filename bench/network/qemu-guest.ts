import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { freePorts } from '../../tools/free-ports.ts';

const READY = 'LOCKSTEP-GUEST-READY';
const READY_MS_MAX = 120_000;
const MEMORY_MB = 256;

/**
 * The same guest under QEMU's plain TCG, with virtio-net on the same passt that Lockstep's switch has, on the client's
 * core. They inherit where this process is pinned.
 */
export class QemuGuest {
  readonly bulkPort: number;
  readonly echoPort: number;
  readonly #folder: string;
  readonly #children: ChildProcess[] = [];

  private constructor(folder: string, [bulk = 0, echo = 0]: readonly number[]) {
    this.#folder = folder;
    this.bulkPort = bulk;
    this.echoPort = echo;
  }

  static async start(image: GuestImage): Promise<QemuGuest> {
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-qemu-'));
    // passt gives its rights up before it makes its socket there.
    await chmod(folder, 0o777);
    const guest = new QemuGuest(folder, await freePorts(2));
    try {
      await guest.#start(image, join(folder, 'network'));
      return guest;
    } catch (error) {
      await guest.close();
      throw error;
    }
  }

  async #start({ kernel, initrd, commandLine }: GuestImage, socket: string): Promise<void> {
    const ports = [`127.0.0.1/${this.bulkPort}:80`, `127.0.0.1/${this.echoPort}:6379`];
    const passt = spawn(
      'passt',
      [
        ...['--foreground', '--stderr', '--ipv4-only', '--one-off', '--socket', socket],
        ...['--address', '10.0.2.15', '--netmask', '24', '--gateway', '10.0.2.2'],
        ...ports.flatMap((port) => ['--tcp-ports', port]),
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#children.push(passt);
    await says(passt, passt.stderr, /You can now start qemu/, 'passt');
    const stream = `stream,id=n,server=off,addr.type=unix,addr.path=${socket}`;
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg', '-cpu', 'qemu64', '-m', String(MEMORY_MB), '-nographic', '-no-reboot'],
        ...['-netdev', stream, '-device', 'virtio-net-pci,netdev=n'],
        ...['-kernel', kernel, '-initrd', initrd, '-append', commandLine],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#children.push(qemu);
    await says(qemu, qemu.stdout, new RegExp(READY), 'qemu-system-x86_64');
  }

  async close(): Promise<void> {
    const ends = this.#children.map((child) => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return undefined;
      const end = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      return end;
    });
    await Promise.all(ends);
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function says(
  child: ChildProcess,
  stream: NodeJS.ReadableStream | null,
  text: RegExp,
  name: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const timer = setTimeout(
      () => reject(new Error(`${name} does not get ready: ${said.slice(-300)}`)),
      READY_MS_MAX,
    );
    const end = (error?: Error) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve();
    };
    stream?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-65_536);
      if (text.test(said)) end();
    });
    child.once('error', (error) => end(new Error(`${name} is not there: ${error.message}`)));
    child.once('close', () => end(new Error(`${name} ended: ${said.trim().split('\n').at(-1)}`)));
  });
}
