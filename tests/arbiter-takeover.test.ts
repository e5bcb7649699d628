import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CuttableRelay } from './cuttable-relay.ts';
import { ETCD_IS_MISSING, EtcdProcess } from './etcd-process.ts';
import { closing, type Disks, oneGoesOn, oneJournal, pair, type Vm } from './journal-pair.ts';

/** Pairs of real processes whose arbiter is not the disk server, and arbiters that cannot be asked. */

/** Somebody to ask, and a way to be out of reach. */
interface Arbiter {
  readonly config: object;
  leave(): Promise<void>;
  comeBack(): Promise<void>;
}

async function folderForArbiter(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-arbiter-'));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function etcd(): Promise<Arbiter> {
  const process = await EtcdProcess.in(await folderForArbiter());
  closing.push(() => process.kill());
  await process.start();
  return {
    config: { kind: 'etcd', endpoints: [process.url] },
    leave: () => process.kill(),
    comeBack: () => process.start(),
  };
}

async function directory(): Promise<Arbiter> {
  const folder = await folderForArbiter();
  const [path, away] = [join(folder, 'shared'), join(folder, 'away')];
  await mkdir(path);
  return {
    config: { kind: 'directory', path },
    leave: () => rename(path, away),
    comeBack: () => rename(away, path),
  };
}

/** What the disk server remembers: its fence, and the record that it would keep as arbiter. */
async function diskState({ path }: Disks): Promise<{ fence: { epoch: number }; record: { epoch: number } }> {
  return JSON.parse(await readFile(`${path}.lockstep-state`, 'utf8'));
}

function saidOfArbiter({ reports }: Vm): string[] {
  return reports
    .filter((report) => (report as { what?: unknown }).what === 'arbiter')
    .map(({ detail }) => detail ?? '');
}

const KINDS = [
  { name: 'etcd', make: etcd, missing: ETCD_IS_MISSING },
  { name: 'a shared directory', make: directory, missing: false },
].filter(({ missing }) => !missing);

describe.each(KINDS)('with $name as arbiter', ({ make }) => {
  test('the backup claims there, then opens the disk with the epoch it won: two takeovers in a row', async () => {
    const arbiter = await make();
    const { a, b, disks, backup } = await pair({ arbiter: arbiter.config });
    // Powered on at epoch 1, a pair at epoch 2; the disk server hears of it as a fence only.
    expect((await diskState(disks)).fence.epoch).toBe(1);
    a.signal('SIGKILL');
    await b.is('SOLE');
    await b.writes(10);
    expect(await diskState(disks)).toMatchObject({ fence: { epoch: 3 }, record: { epoch: 0 } });
    const { vm: c, address } = await backup();
    b.order({ order: 'protect', address });
    await b.is('PAIR');
    b.signal('SIGKILL');
    await c.is('SOLE');
    await c.writes(5);
    expect((await diskState(disks)).fence.epoch).toBe(5);
    expect(oneJournal(oneJournal(a.console, b.console) ?? '', c.console)).toBeDefined();
  });

  test('two sides cut from each other: exactly one goes on', async () => {
    const arbiter = await make();
    const { a, b, network } = await pair({ arbiter: arbiter.config });
    network.tcp = 'silent';
    network.udp = 'silent';
    await oneGoesOn(a, b);
  });

  test('while it is out of reach nobody decides, and the backup says why it waits', async () => {
    const arbiter = await make();
    const { a, b } = await pair({ arbiter: arbiter.config });
    await arbiter.leave();
    a.signal('SIGKILL');
    await b.until(() => saidOfArbiter(b).length > 0, 'said that the arbiter is away');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect([b.state, b.console]).toEqual(['ASK', '']);
    expect(saidOfArbiter(b)).toEqual([expect.stringMatching(/^no decision: the arbiter does not answer/)]);
    await arbiter.comeBack();
    await b.is('SOLE');
    await b.writes(5);
    expect(saidOfArbiter(b).at(-1)).toBe('the arbiter answers again');
    expect(oneJournal(a.console, b.console)).toBeDefined();
  });
});

test('storage that stalls during a takeover: no decision, the backup waits and says so, and goes live afterwards', async () => {
  let storage: CuttableRelay | undefined;
  const { a, b } = await pair({}, async (port) => {
    storage = await CuttableRelay.start(port);
    closing.push(() => storage?.close());
    return storage.port;
  });
  // Connections stand, and nothing ever comes back.
  storage!.tcp = 'silent';
  a.signal('SIGKILL');
  await b.is('ASK');
  await b.until(() => saidOfArbiter(b).length > 0, 'said that the arbiter is silent');
  expect(b.state).toBe('ASK');
  expect(saidOfArbiter(b)[0]).toMatch(/nothing within \d+ ms/);
  storage!.tcp = 'open';
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('a disk that stalls between the claim and its opening: the winner waits, says so, and halts for nobody', async () => {
  const arbiter = await directory();
  let storage: CuttableRelay | undefined;
  const { a, b } = await pair({ arbiter: arbiter.config }, async (port) => {
    storage = await CuttableRelay.start(port);
    closing.push(() => storage?.close());
    return storage.port;
  });
  storage!.tcp = 'silent';
  a.signal('SIGKILL');
  await b.is('OPEN');
  const said = () =>
    b.reports.some((report) => /disk vda does not answer.*waiting/.test(report.detail ?? ''));
  await b.until(said, 'said that the disk is silent');
  expect([b.state, b.console]).toEqual(['OPEN', '']);
  storage!.tcp = 'open';
  await b.is('SOLE');
  await b.writes(5);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});
