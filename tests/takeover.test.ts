import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { VmAuthority } from '../src/host/vm-authority.ts';
import { DiskServer } from '../src/storage/disk-server.ts';
import { assembledGuest } from './assembled-guest.ts';
import { CuttableRelay } from './cuttable-relay.ts';

/**
 * Pairs of real processes with a guest that keeps a journal on its console (tests/guests/journal.s): whatever
 * happens to one of them, the journal goes on without a gap, and no line of it is ever told in two ways.
 */

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-takeover-'));
  await writeFile(join(folder, 'journal'), await assembledGuest('journal'));
  const authority = await VmAuthority.create('vm');
  await writeFile(join(folder, 'channel.json'), JSON.stringify(await authority.issue()));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const machine = {
  memoryBytes: 16 * 1024 * 1024,
  disks: [{ capacity: 1024 * 1024, readOnly: false, serial: 'journal' }],
  nics: [],
  startEpochSeconds: 1_700_000_000,
  seed: '00'.repeat(32),
  debugExit: false,
};

interface Report {
  readonly kind: string;
  readonly state?: string;
  readonly detail?: string;
  readonly reason?: string;
  readonly text?: string;
}

/** One VM process and all it says. */
class Vm {
  readonly child: ChildProcessWithoutNullStreams;
  readonly reports: Report[] = [];
  readonly ended: Promise<number | null>;
  console = '';
  over = false;
  errors = '';

  constructor(config: object) {
    const program = join(repositoryRoot(), 'dist/src/host/vm-process.js');
    const channel = { credentials: join(folder, 'channel.json') };
    this.child = spawn(process.execPath, [
      program,
      JSON.stringify({ vm: 'vm', machine, channel, ...config }),
    ]);
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
function isJournal(text: string): boolean {
  return text.split('\n').every((line, index, all) => {
    const number = (index + 1).toString(16).padStart(8, '0');
    if (index < all.length - 1)
      return line.startsWith(`${number} `) && /^[0-9a-f]{8} [0-9a-f]{8}$/.test(line);
    return `${number} `.startsWith(line.slice(0, 9));
  });
}

/** What one side told and then the other, laid over each other where they tell the same: one journal, or undefined. */
function oneJournal(first: string, second: string): string | undefined {
  for (let common = 0; common <= Math.min(first.length, second.length); common++) {
    const whole = first + second.slice(common);
    if (first.endsWith(second.slice(0, common)) && isJournal(whole)) return whole;
  }
  return undefined;
}

class Disks {
  readonly #path = join(folder, `disk-${Math.random()}.img`);
  port = 0;
  #server: DiskServer | undefined;

  async start(): Promise<void> {
    const server = await DiskServer.start({ port: this.port, disks: [{ name: 'vda', path: this.#path }] });
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
    await writeFile(disks.#path, Buffer.alloc(1024 * 1024));
    await disks.start();
    closing.push(() => disks.stop());
    return disks;
  }
}

/** A free port of this machine, for TCP and UDP. */
async function freePort(): Promise<number> {
  const relay = await CuttableRelay.start(1);
  relay.close();
  return relay.port;
}

interface Pair {
  readonly a: Vm;
  readonly b: Vm;
  readonly network: CuttableRelay;
  readonly port: number;
  readonly disks: Disks;
  readonly backup: () => Promise<{ vm: Vm; address: string }>;
}

/** Two processes in PAIR, some lines into the journal. */
async function pair(): Promise<Pair> {
  const disks = await Disks.create();
  const storage = { address: `127.0.0.1:${disks.port}`, disks: ['vda'] };
  const backup = async (): Promise<{ vm: Vm; address: string }> => {
    const listen = `127.0.0.1:${await freePort()}`;
    const vm = new Vm({ role: 'backup', storage, listen });
    await vm.is('WAIT');
    return { vm, address: listen };
  };
  const first = await backup();
  const port = Number(first.address.split(':')[1]);
  const network = await CuttableRelay.start(port);
  closing.push(() => network.close());
  const protect = `127.0.0.1:${network.port}`;
  const boot = { kernel: join(folder, 'journal') };
  const a = new Vm({ role: 'primary', storage, protect, boot });
  await a.is('PAIR');
  await first.vm.is('BACK');
  await a.writes(10);
  return { a, b: first.vm, network, port, disks, backup };
}

/** One of them goes on alone, the other halts because it lost. */
async function oneGoesOn(a: Vm, b: Vm): Promise<Vm> {
  const both = [a, b];
  await Promise.race(both.map((vm) => vm.ended));
  const [survivor, loser] = a.over ? [b, a] : [a, b];
  expect(await loser.ended).toBe(1);
  expect(loser.reason).toMatch(/superseded|newer generation/);
  await survivor.writes(10);
  expect(oneJournal(a.console, b.console)).toBeDefined();
  return survivor;
}

test('SIGKILL of the primary, again and again: the journal goes on, from backup to backup', async () => {
  const { a, b, backup } = await pair();
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(10);
  const before = oneJournal(a.console, b.console);
  expect(before).toBeDefined();

  const { vm: c, address } = await backup();
  b.order({ order: 'protect', address });
  await b.is('PAIR');
  await b.writes(5);
  b.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(10);
  const journal = oneJournal(oneJournal(a.console, b.console) ?? '', c.console);
  expect(journal?.startsWith(before ?? 'nothing')).toBe(true);
});

test('SIGKILL of the backup: the primary wins the test-and-set, goes on alone, and can be protected again', async () => {
  const { a, b, backup } = await pair();
  b.signal('SIGKILL');
  await a.is('SOLE');
  await a.writes(10);
  expect(isJournal(a.console)).toBe(true);
  const { vm: c, address } = await backup();
  a.order({ order: 'protect', address });
  await a.is('PAIR');
  a.signal('SIGKILL');
  await c.is('SOLE');
  await c.writes(5);
  expect(oneJournal(a.console, c.console)).toBeDefined();
});

test('a primary that was stopped for three seconds halts when it comes back, and tells nothing new', async () => {
  const { a, b } = await pair();
  a.signal('SIGSTOP');
  await b.is('SOLE');
  await b.writes(10);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  a.signal('SIGCONT');
  expect(await a.ended).toBe(1);
  expect(a.reason).toMatch(/superseded|newer generation/);
  await b.writes(5);
  // What the old primary let out late, the survivor has told too: it lies in the common part.
  expect(oneJournal(a.console, b.console)).toBeDefined();
  expect(b.over).toBe(false);
});

test('a channel that breaks is resumed; one that is cut ends the pair, and exactly one goes on', async () => {
  const { a, b, network } = await pair();
  for (let round = 0; round < 5; round++) {
    network.breakConnections();
    await a.writes(2);
  }
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  network.tcp = 'silent';
  await oneGoesOn(a, b);
});

test('two sides cut from each other, heartbeats too: exactly one goes on', async () => {
  const { a, b, network } = await pair();
  network.tcp = 'silent';
  network.udp = 'silent';
  await oneGoesOn(a, b);
});

test('without the disk server nobody decides: the backup waits, and goes live when it is back', async () => {
  const { a, b, disks } = await pair();
  await disks.stop();
  await a.writes(3);
  a.signal('SIGKILL');
  await b.is('ASK');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect([b.state, b.console]).toEqual(['ASK', '']);
  await disks.start();
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('rubbish on the channel and on the heartbeat port changes nothing', async () => {
  const { a, b, port } = await pair();
  const datagrams = createSocket('udp4');
  closing.push(() => datagrams.close());
  for (const bytes of [
    Buffer.alloc(2000, 0xff),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(64),
    Buffer.of(1),
  ]) {
    const hungUp = new Promise((resolve) => {
      const stranger = connect(port, '127.0.0.1', () => stranger.write(bytes));
      stranger.on('error', () => {});
      stranger.on('close', resolve);
    });
    datagrams.send(bytes, port, '127.0.0.1');
    await hungUp;
  }
  expect(b.reports.filter(({ state }) => state === 'refused').length).toBeGreaterThanOrEqual(3);
  await a.writes(5);
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test.each(['q', 'r'])('a guest that powers off or resets (%s) ends both sides in good order', async (key) => {
  const { a, b } = await pair();
  a.order({ order: 'console', port: 0, text: `xyz${key}` });
  expect([await a.ended, await b.ended]).toEqual([0, 0]);
  expect([a.reason, b.reason]).toEqual(['powered off', 'the VM was powered off']);
  expect(isJournal(a.console)).toBe(true);
  expect(b.console).toBe('');
});

test('a disk that the server does not have is one line', async () => {
  const disks = await Disks.create();
  const storage = { address: `127.0.0.1:${disks.port}`, disks: ['sda'] };
  const lost = new Vm({ role: 'primary', storage, boot: { kernel: join(folder, 'journal') } });
  await lost.until(() => lost.reports.some(({ detail }) => /no such disk/.test(detail ?? '')), 'said so');
  expect(lost.console).toBe('');
});
