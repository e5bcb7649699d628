import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../tools/free-ports.ts';

export const ETCD_IS_MISSING = !existsSync('/usr/bin/etcd');

/** One member of Debian's etcd-server, with its data in a folder: it can be killed and started again. */
export class EtcdProcess {
  readonly url: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(folder: string, name: string, url: string, peers: ReadonlyMap<string, string>) {
    this.url = url;
    const peer = peers.get(name)!;
    const cluster = [...peers].map(([member, address]) => `${member}=${address}`).join(',');
    this.#args = [
      ...['--name', name, '--data-dir', join(folder, `etcd-${name}`), '--initial-cluster', cluster],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ];
  }

  /** The only member. Not started yet. */
  static async in(folder: string): Promise<EtcdProcess> {
    const [member] = await EtcdProcess.members(folder, 1);
    return member!;
  }

  /** Of one cluster; none is started yet, and none can be asked before most of them are. */
  static async members(folder: string, count: number): Promise<EtcdProcess[]> {
    const names = Array.from({ length: count }, (_, n) => `m${n}`);
    const peers = new Map<string, string>();
    for (const name of names) peers.set(name, `http://127.0.0.1:${await freePort()}`);
    const members: EtcdProcess[] = [];
    for (const name of names)
      members.push(new EtcdProcess(folder, name, `http://127.0.0.1:${await freePort()}`, peers));
    return members;
  }

  /** While it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** A member that stands still: its connections stay open, and nothing is answered. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async isLeader(): Promise<boolean> {
    const answer = await fetch(`${this.url}/v3/maintenance/status`, { method: 'POST', body: '{}' });
    const { header, leader } = (await answer.json()) as { header: { member_id: string }; leader?: string };
    return leader === header.member_id;
  }

  /** Resolves when it has a leader, and so can be asked. */
  async start(): Promise<void> {
    const child = spawn('etcd', this.#args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    while (child.exitCode === null) {
      const health = await fetch(`${this.url}/health`).then(
        (answer) => answer.text(),
        () => '',
      );
      if (health.includes('"true"')) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`etcd ended with ${child.exitCode}:\n${said}`);
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
