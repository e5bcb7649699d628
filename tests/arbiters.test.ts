import { existsSync } from 'node:fs';
import { link, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ArbiterAnswer, ArbiterRequest } from '../src/ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../src/ft/identity.ts';
import { type ArbiterConnection, AskedArbiter } from '../src/storage/asked-arbiter.ts';
import { DirectoryArbiter } from '../src/storage/directory-arbiter.ts';
import { DiskServer } from '../src/storage/disk-server.ts';
import { DiskServerArbiter } from '../src/storage/disk-server-arbiter.ts';
import { EtcdArbiter } from '../src/storage/etcd-arbiter.ts';
import { ETCD_IS_MISSING, EtcdProcess } from './etcd-process.ts';

/** One suite for every arbiter (protocol 3): whatever keeps the record, a pair sees the same test-and-set. */

/** What keeps the record. */
interface Keeper {
  start(): Promise<void>;
  /** Unreachable from here on, as after a crash; `start` brings it back with what it had promised to keep. */
  stop(): Promise<void>;
  /** With another lease than the others where it is given. */
  connect(lease?: Lease): ArbiterConnection;
  /** Makes what is kept unreadable, while it runs. */
  damage(): Promise<void>;
}

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-arbiter-'));
  closing.push(() => rm(folder, { recursive: true, force: true }));
});

/** The default, or what a test of leases has patience for. */
type Lease = { readonly leaseMs?: number };

function diskServer(lease: Lease): Keeper {
  const path = join(folder, 'disk.img');
  let port = 0;
  let server: DiskServer | undefined;
  return {
    async start() {
      if (!existsSync(path)) await writeFile(path, Buffer.alloc(4096));
      const started = await DiskServer.start({ port, disks: [{ name: 'vda', path }] });
      if (!started.ok) throw new Error(started.error);
      server = started.value;
      port = server.port;
    },
    async stop() {
      const stopping = server;
      server = undefined;
      await stopping?.close();
    },
    connect: (own = lease) => new DiskServerArbiter({ host: '127.0.0.1', port, disk: 'vda', ...own }),
    async damage() {
      await server?.close();
      await writeFile(`${path}.lockstep-state`, '{"version":1,"fence":{}');
      // A server that starts here says so and ends: nobody decides.
      await this.start().catch(() => undefined);
    },
  };
}

function etcd(lease: Lease): Keeper {
  let process: EtcdProcess | undefined;
  return {
    async start() {
      process ??= await EtcdProcess.in(folder);
      await process.start();
    },
    stop: async () => process?.kill(),
    connect: (own = lease) => new EtcdArbiter({ endpoints: [`${process?.url}/`], ...own }),
    async damage() {
      const [key, value] = ['lockstep/vm/vm%2F1/record', '{"epoch":-1}'].map((text) =>
        Buffer.from(text).toString('base64'),
      );
      await fetch(`${process?.url}/v3/kv/put`, { method: 'POST', body: JSON.stringify({ key, value }) });
    },
  };
}

function directory(lease: Lease): Keeper {
  const path = join(folder, 'shared');
  const away = join(folder, 'away');
  return {
    async start() {
      if (existsSync(away)) await rename(away, path);
      else await mkdir(path);
    },
    async stop() {
      if (existsSync(path)) await rename(path, away);
    },
    connect: (own = lease) => new DirectoryArbiter({ path, ...own }),
    async damage() {
      const own = join(path, 'vm%2F1');
      const newest = (await readdir(own))
        .filter((name) => name.startsWith('change-'))
        .sort()
        .at(-1);
      await writeFile(join(own, newest ?? 'change-000000000001'), '{"epoch":');
    },
  };
}

const KEEPERS = [
  { name: 'the disk server', make: diskServer, missing: false },
  { name: 'etcd', make: etcd, missing: ETCD_IS_MISSING },
  { name: 'a shared directory', make: directory, missing: false },
] as const;

const vm = vmId('vm/1');
const [a, b, c] = [instanceId('a'), instanceId('b'), instanceId('c')];

const restart = (name: string, instance: typeof a, expected: number): ArbiterRequest => ({
  kind: 'restart',
  ...{ vm, nonce: nonce(name), instance, expected: epoch(expected) },
});
const commit = (name: string, instance: typeof a, expected: number, backup: typeof a): ArbiterRequest => ({
  kind: 'commit',
  ...{ vm, nonce: nonce(name), instance, expected: epoch(expected), backup },
});
const claim = (name: string, instance: typeof a, lowest: number, highest = lowest): ArbiterRequest => ({
  kind: 'claim',
  ...{ vm, nonce: nonce(name), instance, lowest: epoch(lowest), highest: epoch(highest) },
});
const renew = (name: string, instance: typeof a, at: number): ArbiterRequest => ({
  kind: 'renew',
  ...{ vm, nonce: nonce(name), instance, epoch: epoch(at) },
});

/** One caller: asks until it is answered. */
function ask(
  connection: ArbiterConnection,
  request: ArbiterRequest,
  said: string[] = [],
): Promise<ArbiterAnswer> {
  const port = new AskedArbiter(connection, (line) => said.push(line));
  closing.push(() => port.close());
  return new Promise((resolve) => {
    port.listen({ answered: resolve });
    port.request(request);
  });
}

/** The first answers are lost on their way; the requests have taken effect. */
function losing(connection: ArbiterConnection, answers: number): ArbiterConnection {
  let lost = 0;
  return {
    async ask(request, signal) {
      const answer = await connection.ask(request, signal);
      if (lost++ < answers) throw new Error('the answer was lost');
      return answer;
    },
    close: () => connection.close(),
  };
}

describe.each(KEEPERS.filter(({ missing }) => !missing))('arbiter: $name', ({ make }) => {
  let keeper: Keeper;
  const begin = async (lease: Lease = {}) => {
    keeper = make(lease);
    closing.push(() => keeper.stop());
    await keeper.start();
  };
  /** Epoch 2: the pair of a and b. */
  const pair = async () => {
    await begin();
    expect(await ask(keeper.connect(), restart('on', a, 0))).toEqual({
      nonce: 'on',
      verdict: 'won',
      epoch: 1,
    });
    expect((await ask(keeper.connect(), commit('pair', a, 1, b))).epoch).toBe(2);
  };
  const verdict = async (request: ArbiterRequest) => (await ask(keeper.connect(), request)).verdict;

  test('of 24 racing callers exactly one wins, in one generation after the other', async () => {
    await pair();
    for (let generation = 2; generation < 8; generation += 2) {
      const callers = Array.from({ length: 24 }, (_, n) => (n % 2 === 0 ? a : b));
      const answers = await Promise.all(
        callers.map((caller, n) => ask(keeper.connect(), claim(`${generation}/${n}`, caller, generation))),
      );
      const winners = answers.filter(({ verdict }) => verdict === 'won');
      expect(winners).toHaveLength(1);
      expect(answers.every(({ epoch }) => epoch === generation + 1)).toBe(true);
      const winner = callers[answers.indexOf(winners[0]!)]!;
      // The record is the winner's alone: the other one cannot make a pair.
      const loser = winner === a ? b : a;
      expect(await verdict(commit(`${generation}/wrong`, loser, generation + 1, winner))).toBe('superseded');
      expect(await verdict(commit(`${generation}/pair`, winner, generation + 1, loser))).toBe('won');
    }
  });

  test('lost answers: the same nonce gets the same verdict, and the record moves once', async () => {
    await pair();
    const answer = await ask(losing(keeper.connect(), 3), claim('b/1', b, 2));
    expect(answer).toEqual({ nonce: 'b/1', verdict: 'won', epoch: 3 });
    expect(await verdict(claim('a/1', a, 2))).toBe('superseded');
    expect(await verdict(claim('b/1', b, 2))).toBe('won');
    // A nonce is of use to its owner only.
    expect(await verdict(claim('b/1', a, 2))).toBe('superseded');
  });

  test('a win that the record has moved past is superseded', async () => {
    await pair();
    expect(await verdict(claim('b/1', b, 2))).toBe('won');
    expect(await verdict(commit('b/2', b, 3, c))).toBe('won');
    expect(await verdict(claim('b/1', b, 2))).toBe('superseded');
    expect(await verdict(commit('pair', a, 1, b))).toBe('superseded');
  });

  test('membership is compared, and not only the epoch', async () => {
    await pair();
    expect(await verdict(claim('c/1', c, 2))).toBe('superseded');
    expect(await verdict(commit('b/1', b, 2, c))).toBe('superseded');
    expect(await verdict(claim('a/1', a, 2))).toBe('won');
    // b was the backup of the pair, and is nothing now.
    expect(await verdict(claim('b/2', b, 3))).toBe('superseded');
  });

  test('a claim over two epochs covers a commit that may still take effect', async () => {
    await pair();
    expect(await ask(keeper.connect(), claim('a/1', a, 1, 2))).toMatchObject({ verdict: 'won', epoch: 3 });
    expect(await verdict(commit('late', a, 1, c))).toBe('superseded');
  });

  test('a restart between question and answer changes no verdict', async () => {
    await pair();
    const asked = ask(losing(keeper.connect(), 1), claim('b/1', b, 2));
    expect(await verdict(claim('b/1', b, 2))).toBe('won');
    await keeper.stop();
    await keeper.start();
    expect(await asked).toEqual({ nonce: 'b/1', verdict: 'won', epoch: 3 });
    expect(await verdict(claim('a/1', a, 2))).toBe('superseded');
  });

  test('out of reach there is no decision: the caller waits, says so once, and is answered when it is back', async () => {
    await pair();
    await keeper.stop();
    const said: string[] = [];
    let decided = false;
    const asked = ask(keeper.connect(), claim('b/1', b, 2), said).finally(() => (decided = true));
    while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    // Several more tries.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect([decided, said.length]).toEqual([false, 1]);
    expect(said[0]).toMatch(/^no decision: the arbiter does not answer \(.+\); asking until it does$/);
    await keeper.start();
    expect((await asked).verdict).toBe('won');
    expect(said.slice(1)).toEqual(['the arbiter answers again']);
  });

  test('what is damaged is no record: nobody decides, and nobody starts anew', async () => {
    await pair();
    await keeper.damage();
    const said: string[] = [];
    let decided = false;
    void ask(keeper.connect(), restart('anew', c, 0), said).then(() => (decided = true));
    while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(decided).toBe(false);
  });

  test('a restart needs an expired lease; renewing puts it off, and only the owner renews', async () => {
    // etcd grants no lease that is shorter than its election takes.
    const leaseMs = 3000;
    await begin({ leaseMs });
    const connection = keeper.connect();
    closing.push(() => connection.close());
    const onePort = async (request: ArbiterRequest) =>
      (await connection.ask(request, AbortSignal.timeout(10_000))).verdict;
    expect(await onePort(restart('on', a, 0))).toBe('won');
    for (let n = 0; n < 3; n++) {
      await new Promise((resolve) => setTimeout(resolve, leaseMs / 2));
      expect(await onePort(renew(`a/${n}`, a, 1))).toBe('won');
      expect(await onePort(renew(`b/${n}`, b, 1))).toBe('superseded');
      expect(await onePort(restart(`c/${n}`, c, 1))).toBe('superseded');
    }
    for (let tries = 0; (await onePort(restart(`c/late/${tries}`, c, 1))) !== 'won'; tries++)
      await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await onePort(renew('a/late', a, 1))).toBe('superseded');
    expect(await onePort(claim('a/late', a, 1))).toBe('superseded');
  });

  test('the lease is as long as its owner counts it, whoever asks', async () => {
    await begin({ leaseMs: 3000 });
    const owner = keeper.connect();
    const taker = keeper.connect({ leaseMs: 300 });
    closing.push(
      () => owner.close(),
      () => taker.close(),
    );
    const asks = async (connection: ArbiterConnection, request: ArbiterRequest) =>
      (await connection.ask(request, AbortSignal.timeout(10_000))).verdict;
    expect(await asks(owner, restart('on', a, 0))).toBe('won');
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(await asks(taker, restart('b', b, 1))).toBe('superseded');
    expect(await asks(owner, renew('a', a, 1))).toBe('won');
  });
});

test('a directory on a file server that loses the answers to link(2) gives one winner', async () => {
  const path = join(folder, 'nfs');
  await mkdir(path);
  // As over NFS: the link is made and the answer lost, or the repeated request finds the name taken.
  let calls = 0;
  const lossy = async (from: string, to: string) => {
    await link(from, to);
    if (calls++ % 2 === 0) throw Object.assign(new Error('EEXIST'), { code: 'EEXIST' });
    throw Object.assign(new Error('EIO'), { code: 'EIO' });
  };
  const connect = () => new DirectoryArbiter({ path, link: lossy });
  await ask(connect(), restart('on', a, 0));
  await ask(connect(), commit('pair', a, 1, b));
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, n) => ask(connect(), claim(`${n}`, n % 2 === 0 ? a : b, 2))),
  );
  expect(answers.filter(({ verdict }) => verdict === 'won')).toHaveLength(1);
});

test('a shared directory stays small: old changes and what the dead left behind are removed', async () => {
  const path = join(folder, 'long');
  await mkdir(path);
  const connection = new DirectoryArbiter({ path });
  const decide = (request: ArbiterRequest) => connection.ask(request, AbortSignal.timeout(10_000));
  await decide(restart('on', a, 0));
  for (let n = 0; n < 60; n++) await decide(renew(`${n}`, a, 1));
  const names = await readdir(join(path, 'vm%2F1'));
  expect(names.length).toBeLessThan(20);
  expect((await decide(claim('end', a, 1))).epoch).toBe(2);
});
