import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

export const ETCD_IS_MISSING = !existsSync('/usr/bin/etcd');

/** Debian's etcd-server, one member, with its data in a folder: it can be killed and started again. */
export class EtcdProcess {
  readonly url: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(folder: string, port: number, peerPort: number) {
    this.url = `http://127.0.0.1:${port}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    this.#args = [
      ...['--data-dir', join(folder, 'etcd'), '--initial-cluster', `default=${peer}`],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ];
  }

  /** Not started yet. */
  static async in(folder: string): Promise<EtcdProcess> {
    return new EtcdProcess(folder, await freePort(), await freePort());
  }

  /** Resolves when it has a leader, and so can be asked. */
  async start(): Promise<void> {
    const child = spawn('etcd', this.#args, { stdio: 'ignore' });
    this.#child = child;
    while (child.exitCode === null) {
      const health = await fetch(`${this.url}/health`).then(
        (answer) => answer.text(),
        () => '',
      );
      if (health.includes('"true"')) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`etcd ended with ${child.exitCode}`);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
