import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { freePorts } from '../tools/free-ports.ts';
import { assembledGuest } from './assembled-guest.ts';
import { closing, folder, isJournal, oneJournal, Vm } from './journal-pair.ts';
import { LockstepProcess } from './lockstep-process.ts';
import { NbdProgram } from './served-disk.ts';

/** Guests whose disk is on a server that knows no generations (docs/STORAGE.md); the guest is tests/guests/blocks.s. */

const BLOCK = 4096;
const BLOCKS = 128;

beforeAll(async () => writeFile(join(folder, 'blocks'), await assembledGuest('blocks')));

let disks = 0;
/** nbdkit with an image of its own, on TCP. */
async function foreignDisk(): Promise<{ image: string; url: string; server: NbdProgram }> {
  const image = join(folder, `foreign-${++disks}.img`);
  await writeFile(image, Buffer.alloc(BLOCKS * BLOCK * 2));
  const [port = 0] = await freePorts(1);
  const command = ['nbdkit', '-f', '-i', '127.0.0.1', '-p', String(port), 'file', image];
  const server = new NbdProgram(command, { port, host: '127.0.0.1' });
  closing.push(() => server.kill());
  await server.start();
  return { image, url: `nbd://127.0.0.1:${port}/`, server };
}

/** Everything that the guest has said is on its disk. */
async function holds(image: string, journal: string): Promise<void> {
  const lines = journal.split('\n').length - 1;
  const bytes = await readFile(image);
  for (let number = Math.max(1, lines - BLOCKS + 1); number <= lines; number++)
    expect(bytes.readUInt32LE((number % BLOCKS) * BLOCK)).toBeGreaterThanOrEqual(number);
}

describe.skipIf(!existsSync('/usr/bin/nbdkit'))('a disk on nbdkit', () => {
  test('lockstep run: the guest waits while its server is gone, and goes on when it is back', async () => {
    const { image, url, server } = await foreignDisk();
    const tools = join(folder, 'tools.img');
    await writeFile(tools, Buffer.alloc(512), { mode: 0o444 });
    const kernel = join(folder, 'blocks');
    const run = new LockstepProcess([
      'run',
      '--kernel',
      kernel,
      '--disk',
      url,
      '--disk',
      `${tools},readonly`,
    ]);
    closing.push(() => run.child.kill('SIGKILL'));
    await run.says('0000000a ');
    await server.kill();
    while (!run.errors.includes('answer')) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(run.errors).toContain(
      `lockstep: disk ${url} does not answer (ECONNREFUSED); waiting until it does\n`,
    );
    const lines = run.stdout.split('\n').length;
    await server.start();
    await run.says(`\n${(lines + 10).toString(16).padStart(8, '0')} `);
    expect(run.errors).toContain(`lockstep: disk ${url} answers again\n`);
    run.child.stdin.write('q');
    const { code, stdout } = await run.ended;
    expect([code, isJournal(stdout)]).toEqual([0, true]);
    await holds(image, stdout);
  });

  test('a pair is refused it without a lease; with one, a takeover waits until no write can land, and then goes on', async () => {
    const { image, url } = await foreignDisk();
    const path = join(folder, 'arbiter');
    await mkdir(path, { recursive: true });
    const [port = 0] = await freePorts(1);
    const listen = `127.0.0.1:${port}`;
    const arbiter = { kind: 'directory', path };
    const nbd = { disks: [{ nbd: url }] };
    const backup = { role: 'backup', arbiter, listen, timing: { leaseMs: 2000 } };
    const refused = new Vm({ ...backup, storage: nbd });
    expect(await refused.ended).toBe(2);
    expect(refused.errors).toMatch(
      /^lockstep: the configuration is wrong: storage: the NBD server of disk nbd:\S+ fences nobody: use lockstep disk serve, or storage\.fencing "lease"/,
    );
    const storage = { ...nbd, fencing: 'lease', driftMs: 100, lateMs: 400 };
    const b = new Vm({ ...backup, storage });
    await b.is('WAIT');
    const boot = { kernel: join(folder, 'blocks') };
    const a = new Vm({ ...backup, listen: undefined, role: 'primary', protect: listen, boot, storage });
    await a.is('PAIR');
    await a.writes(20);
    a.signal('SIGKILL');
    await b.is('SOLE');
    const waited = b.reports.find(
      ({ kind, detail }) => kind === 'event' && detail?.includes('fences nobody'),
    );
    expect(waited?.detail).toBe(
      "the disk's server fences nobody: waiting 2.5 s until no write of another host can land",
    );
    await b.writes(BLOCKS + 10);
    const journal = oneJournal(a.console, b.console);
    expect(journal).toBeDefined();
    await holds(image, journal ?? '');
  });
});
