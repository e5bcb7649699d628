import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { VmAuthority } from '../src/host/vm-authority.ts';
import { DiskServer } from '../src/storage/disk-server.ts';
import { freePort } from '../tools/free-ports.ts';
import { assembledGuest } from './assembled-guest.ts';
import { CuttableRelay } from './cuttable-relay.ts';

/** Pairs of real processes with a guest that keeps a journal on its console (tests/guests/journal.s). */

export let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-takeover-'));
  await writeFile(join(folder, 'journal'), await assembledGuest('journal'));
  const authority = await VmAuthority.create('vm');
  await writeFile(join(folder, 'channel.json'), JSON.stringify(await authority.issue()));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

export const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

export const machine = {
  memoryBytes: 16 * 1024 * 1024,
  disks: [{ capacity: 1024 * 1024, readOnly: false, serial: 'journal' }],
  nics: [],
  startEpochSeconds: 1_700_000_000,
  seed: '00'.repeat(32),
  debugExit: false,
};

export interface Report {
  readonly kind: string;
  readonly state?: string;
  readonly detail?: string;
  readonly reason?: string;
  readonly text?: string;
}

/** One VM process and all it says. */
export class Vm {
  readonly child: ChildProcessWithoutNullStreams;
  readonly reports: Report[] = [];
  readonly ended: Promise<number | null>;
  console = '';
  over = false;
  errors = '';

  /** `planted`: a fault of its machine [tests/planted/fault.ts]. */
  constructor(config: object, planted?: string) {
    const program = join(repositoryRoot(), 'dist/src/host/vm-process.js');
    const channel = { credentials: join(folder, 'channel.json') };
    const fault = pathToFileURL(join(repositoryRoot(), 'dist/tests/planted/fault.js')).href;
    this.child = spawn(
      process.execPath,
      [
        ...(planted === undefined ? [] : ['--import', fault]),
        program,
        JSON.stringify({ vm: 'vm', machine, channel, ...config }),
      ],
      { env: { ...process.env, LOCKSTEP_PLANTED: planted } },
    );
    closing.push(() => this.child.kill('SIGKILL'));
    let rest = '';
    this.child.stdout.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#said(JSON.parse(line) as Report);
    });
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.errors += chunk.toString();
    });
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve) =>
      this.child.on('close', (code) => {
        this.over = true;
        resolve(code);
      }),
    );
  }

  #said(report: Report): void {
    if (report.kind === 'console') this.console += report.text ?? '';
    else this.reports.push(report);
  }

  get state(): string {
    return (
      this.reports.findLast(({ kind, state }) => kind === 'state' && /^[A-Z]+$/.test(state ?? ''))?.state ??
      ''
    );
  }

  /** Why it halted. */
  get reason(): string {
    return this.reports.find(({ kind }) => kind === 'halted')?.reason ?? '';
  }

  order(order: object): void {
    this.child.stdin.write(`${JSON.stringify(order)}\n`);
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.child.pid as number, name);
  }

  async until(holds: () => boolean, what: string): Promise<void> {
    while (!holds()) {
      if (this.over) throw new Error(`ended before it ${what}:\n${this.#tail()}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async is(state: string): Promise<void> {
    await this.until(() => this.state === state, `was ${state}`);
  }

  /** So many lines more of the journal. */
  async writes(lines: number): Promise<void> {
    const enough = this.console.length + lines * LINE_LENGTH;
    await this.until(() => this.console.length >= enough, `wrote ${lines} lines`);
  }

  #tail(): string {
    return `${this.reports
      .slice(-8)
      .map((report) => JSON.stringify(report))
      .join('\n')}\n${this.errors}`;
  }
}

const LINE_LENGTH = 18;

/** True when every line has its number and its form; the last one may be unfinished. */
export function isJournal(text: string): boolean {
  return text.split('\n').every((line, index, all) => {
    const number = (index + 1).toString(16).padStart(8, '0');
    if (index < all.length - 1)
      return line.startsWith(`${number} `) && /^[0-9a-f]{8} [0-9a-f]{8}$/.test(line);
    return `${number} `.startsWith(line.slice(0, 9));
  });
}

/** What one side told and then the other, laid over each other where they tell the same: one journal, or undefined. */
export function oneJournal(first: string, second: string): string | undefined {
  for (let common = 0; common <= Math.min(first.length, second.length); common++) {
    const whole = first + second.slice(common);
    if (first.endsWith(second.slice(0, common)) && isJournal(whole)) return whole;
  }
  return undefined;
}

export class Disks {
  readonly path = join(folder, `disk-${Math.random()}.img`);
  port = 0;
  #server: DiskServer | undefined;

  async start(): Promise<void> {
    const server = await DiskServer.start({ port: this.port, disks: [{ name: 'vda', path: this.path }] });
    if (!server.ok) throw new Error(server.error);
    this.#server = server.value;
    this.port = server.value.port;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    await server?.close();
  }

  static async create(): Promise<Disks> {
    const disks = new Disks();
    await writeFile(disks.path, Buffer.alloc(1024 * 1024));
    await disks.start();
    closing.push(() => disks.stop());
    return disks;
  }
}

export interface Pair {
  readonly a: Vm;
  readonly b: Vm;
  readonly network: CuttableRelay;
  readonly port: number;
  readonly disks: Disks;
  readonly backup: () => Promise<{ vm: Vm; address: string }>;
}

/** Two processes in PAIR, some lines into the journal. */
export async function pair(
  given: object | ((disks: Disks) => object) = {},
  storageVia: (port: number) => Promise<number> = (port) => Promise.resolve(port),
  planted: { readonly a?: string; readonly b?: string } = {},
): Promise<Pair> {
  const disks = await Disks.create();
  const config: object = typeof given === 'function' ? given(disks) : given;
  const storage = { address: `127.0.0.1:${await storageVia(disks.port)}`, disks: ['vda'] };
  const backup = async (): Promise<{ vm: Vm; address: string }> => {
    const listen = `127.0.0.1:${await freePort()}`;
    const vm = new Vm({ role: 'backup', storage, listen, ...config }, planted.b);
    await vm.is('WAIT');
    return { vm, address: listen };
  };
  const first = await backup();
  const port = Number(first.address.split(':')[1]);
  const network = await CuttableRelay.start(port);
  closing.push(() => network.close());
  const protect = `127.0.0.1:${network.port}`;
  const boot = { kernel: join(folder, 'journal') };
  const a = new Vm({ role: 'primary', storage, protect, boot, ...config }, planted.a);
  await a.is('PAIR');
  await first.vm.is('BACK');
  await a.writes(10);
  return { a, b: first.vm, network, port, disks, backup };
}

/** One of them goes on alone, the other halts because it lost. */
export async function oneGoesOn(a: Vm, b: Vm): Promise<Vm> {
  const both = [a, b];
  await Promise.race(both.map((vm) => vm.ended));
  const [survivor, loser] = a.over ? [b, a] : [a, b];
  expect(await loser.ended).toBe(1);
  expect(loser.reason).toMatch(/superseded|newer generation/);
  await survivor.writes(10);
  expect(oneJournal(a.console, b.console)).toBeDefined();
  return survivor;
}
