import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { freePort } from '../../tools/free-ports.ts';
import type { ArbiterAnswer } from '../ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import { AskedArbiter } from './asked-arbiter.ts';
import { DiskClient } from './disk-client.ts';
import { ServedDiskPort } from './disk-port.ts';
import { DiskServer } from './disk-server.ts';
import { DiskServerArbiter } from './disk-server-arbiter.ts';
import { servedDisk } from './disk-size.ts';
import type { DiskAnswer } from './fenced-disk.ts';
import { HANDSHAKE_MS_MAX } from './nbd-server-connection.ts';
import { encodeOption, encodeRequest, NBD_COMMAND, NBD_OPTION } from './nbd-wire.ts';
import { RawFile } from './raw-file.ts';

const SIZE = 1024 * 1024;
const vm = vmId('vm');
const [a, b] = [instanceId('a'), instanceId('b')];

let folder: string;
let image: string;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-disk-'));
  image = join(folder, 'disk.img');
  await writeFile(image, Buffer.alloc(SIZE));
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function start(port = 0): Promise<DiskServer> {
  const server = await DiskServer.start({ port, disks: [{ name: 'vda', path: image }] });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  return server.value;
}

function client(port: number): DiskClient {
  const made = new DiskClient({ address: { host: '127.0.0.1', port, disk: 'vda' }, vm, generations: true });
  closing.push(() => made.close());
  return made;
}

function data(answer: DiskAnswer): string {
  return answer.status === 'ok' ? Buffer.from(answer.data).toString() : answer.status;
}

const write = (offset: number, text: string) =>
  ({ kind: 'write', offset, data: Buffer.from(text), durable: false }) as const;
const read = (offset: number, length: number) => ({ kind: 'read', offset, length }) as const;

describe('disk server', () => {
  test('what is written is read back, and is in the image after a flush', async () => {
    const disk = client((await start()).port);
    expect(await disk.open(epoch(1), a)).toBe('ok');
    expect((await disk.execute(write(4096, 'hello'))).status).toBe('ok');
    expect(data(await disk.execute(read(4096, 5)))).toBe('hello');
    expect((await disk.execute({ kind: 'flush' })).status).toBe('ok');
    expect((await readFile(image)).subarray(4096, 4101).toString()).toBe('hello');
    expect((await disk.execute(read(SIZE - 4, 8))).status).toBe('error');
  });

  test('a newer generation fences the older one, and only one instance gets it', async () => {
    const { port } = await start();
    const [first, second, third] = [client(port), client(port), client(port)];
    expect(await first.open(epoch(1), a)).toBe('ok');
    expect(await second.open(epoch(2), b)).toBe('ok');
    expect(await third.open(epoch(2), a)).toBe('refused');
    expect((await first.execute(write(0, 'late'))).status).toBe('fenced');
    expect(data(await second.execute(read(0, 4)))).toBe('\0\0\0\0');
  });

  test('the fence and the record outlive the server', async () => {
    const before = await start();
    const { port } = before;
    const [old, fresh] = [client(port), client(port)];
    await old.open(epoch(1), a);
    await fresh.open(epoch(2), b);
    await before.close();
    const pending = fresh.execute(write(0, 'kept'));
    const late = old.execute(write(0, 'late'));
    await start(port);
    expect((await pending).status).toBe('ok');
    expect((await late).status).toBe('fenced');
    expect((await readFile(image)).subarray(0, 4).toString()).toBe('kept');
  });

  test('one winner: of 100 competing claims exactly one wins, repeated answers included', async () => {
    const { port } = await start();
    const ask = (name: string, request: object): Promise<ArbiterAnswer> =>
      new Promise((resolve) => {
        const arbiter = new AskedArbiter(new DiskServerArbiter({ host: '127.0.0.1', port, disk: 'vda' }));
        closing.push(() => arbiter.close());
        arbiter.listen({ answered: resolve });
        arbiter.request({ vm, nonce: nonce(name), ...request } as never);
      });
    const on = await ask('on', { kind: 'restart', instance: a, expected: epoch(0) });
    expect(on.verdict).toBe('won');
    await ask('pair', { kind: 'commit', instance: a, expected: epoch(1), backup: b });
    const claims = Array.from({ length: 100 }, (_, i) => {
      const instance = i % 2 === 0 ? a : b;
      return ask(`claim-${i}`, { kind: 'claim', instance, lowest: epoch(2), highest: epoch(2) });
    });
    const answers = await Promise.all(claims);
    expect(answers.filter((answer) => answer.verdict === 'won')).toHaveLength(1);
    const winner = answers.findIndex((answer) => answer.verdict === 'won');
    const again = await ask(`claim-${winner}`, {
      kind: 'claim',
      instance: winner % 2 === 0 ? a : b,
      lowest: epoch(2),
      highest: epoch(2),
    });
    expect(again).toMatchObject({ verdict: 'won', epoch: 3 });
  });

  test('a disk belongs to one VM', async () => {
    const { port } = await start();
    await client(port).open(epoch(1), a);
    const stranger = new DiskClient({
      address: { host: '127.0.0.1', port, disk: 'vda' },
      vm: vmId('other'),
      generations: true,
    });
    closing.push(() => stranger.close());
    expect(await stranger.open(epoch(9), b)).toBe('refused');
  });

  test('rubbish on the port ends that connection and no other', async () => {
    const { port } = await start();
    const disk = client(port);
    await disk.open(epoch(1), a);
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.alloc(4096, 0xa5)));
      socket.resume();
      socket.on('close', () => resolve());
      socket.on('error', () => undefined);
    });
    expect((await disk.execute(write(0, 'fine'))).status).toBe('ok');
  });

  test("a connection that asks for no disk does not stay; the arbiter's does, however seldom it is asked", async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    closing.push(() => vi.useRealTimers());
    const { port } = await start();
    const greeted = async (bytes: Uint8Array): Promise<{ socket: Socket; closed: Promise<unknown> }> => {
      const socket = connect(port, '127.0.0.1');
      // Hung up on with bytes unread, it hears of a reset.
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.on('close', resolve));
      closing.push(() => socket.destroy());
      await once(socket, 'data');
      socket.write(bytes);
      return { socket, closed };
    };
    const arbiter = new DiskServerArbiter({ host: '127.0.0.1', port, disk: 'vda' });
    closing.push(() => arbiter.close());
    const ask = (name: string) =>
      arbiter.ask(
        { kind: 'restart', vm, nonce: nonce(name), instance: a, expected: epoch(0) },
        AbortSignal.timeout(5000),
      );
    await ask('first');
    const idle = [await greeted(Buffer.alloc(0)), await greeted(Buffer.of(0, 0, 0, 3))];
    vi.advanceTimersByTime(HANDSHAKE_MS_MAX - 1);
    expect(idle.map(({ socket }) => socket.destroyed)).toEqual([false, false]);
    vi.advanceTimersByTime(1);
    await Promise.all(idle.map(({ closed }) => closed));
    // On the same connection: another one would have failed this question.
    expect((await ask('first')).verdict).toBe('won');
  });

  test('errors are one line: missing file, read-only file, odd size, second server, port in use', async () => {
    const { port } = await start();
    const error = async (path: string, at = 0) => {
      const server = await DiskServer.start({ port: at, disks: [{ name: 'vda', path }] });
      if (server.ok) await server.value.close();
      return server.ok ? 'started' : server.error;
    };
    expect(await error(join(folder, 'none'))).toMatch(/does not exist$/);
    expect(await error(folder)).toMatch(/is a folder/);
    expect(await error(image)).toMatch(/in use by another guest or disk server/);
    const other = join(folder, 'other.img');
    await writeFile(other, Buffer.alloc(1000));
    expect(await error(other)).toMatch(/no multiple of 512/);
    await writeFile(other, Buffer.alloc(1024));
    expect(await error(other, port)).toMatch(/is in use/);
    await chmod(other, 0o444);
    expect(await error(other)).toMatch(/is read-only/);
    await chmod(other, 0o644);
    await writeFile(`${other}.lockstep-state`, '{"version":1,"fence":');
    expect(await error(other)).toMatch(/is damaged/);
    // A server that could not start holds no lock.
    expect(await error(other)).toMatch(/is damaged/);
  });

  test('a client of a port that does not speak NBD is refused, not stuck', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closing.push(() => new Promise((resolve) => server.close(resolve)));
    const { port } = server.address() as { port: number };
    expect(await client(port).open(epoch(1), a)).toBe('refused');
  });

  test('a read-only export refuses writes and serves reads', async () => {
    const file = await RawFile.open(image, { readOnly: true });
    expect(file.ok && file.value.readOnly).toBe(true);
    if (file.ok) await file.value.close();
    const server = await DiskServer.start({ port: 0, disks: [{ name: 'vda', path: image, readOnly: true }] });
    if (!server.ok) throw new Error(server.error);
    closing.push(() => server.value.close());
    const disk = new DiskClient({
      address: { host: '127.0.0.1', port: server.value.port, disk: 'vda' },
      vm,
      generations: false,
    });
    closing.push(() => disk.close());
    await disk.open(epoch(0), a);
    expect((await disk.execute(write(0, 'x'))).status).toBe('read-only');
    expect(data(await disk.execute(read(0, 1)))).toBe('\0');
    // A client that writes all the same.
    const socket = connect(server.value.port, '127.0.0.1');
    closing.push(() => socket.destroy());
    const request = { flags: 0, command: NBD_COMMAND.write, handle: 7n, offset: 0n, length: 1 };
    const name = Buffer.from([0, 0, 0, 3, 0x76, 0x64, 0x61, 0, 0]);
    socket.write(Buffer.of(0, 0, 0, 3));
    socket.write(
      Buffer.concat([encodeOption(NBD_OPTION.go, name), encodeRequest(request), Buffer.from('x')]),
    );
    let received = Buffer.alloc(0);
    const answer = Buffer.from([0x67, 0x44, 0x66, 0x98, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
    while (!received.subarray(-16).equals(answer)) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      received = Buffer.concat([received, chunk]);
    }
    expect((await readFile(image))[0]).toBe(0);
  });
});

describe('disk port', () => {
  const request = (
    id: number,
    operation: 'read' | 'write',
    offset: number,
    text: string,
  ): DiskRequestOutput => ({
    kind: 'disk-request',
    disk: 0,
    request: id,
    operation,
    offset,
    length: text.length,
    data: operation === 'write' ? Buffer.from(text) : new Uint8Array(0),
  });

  test('overlapping operations take effect in the order of issue; each is completed once', async () => {
    const { port } = await start();
    const disks = new ServedDiskPort([client(port)]);
    closing.push(() => disks.close());
    const completions: DiskCompletedInput[] = [];
    const finished = new Promise<void>((resolve) => {
      disks.listen({
        opened: (_, verdict) => {
          expect(verdict).toBe('ok');
          for (let i = 0; i < 100; i++) disks.issue(request(i, 'write', i % 7, String(i).padStart(8, '0')));
          disks.issue(request(99, 'write', 0, 'repeated'));
          disks.issue(request(100, 'read', 0, ' '.repeat(16)));
        },
        completed: (completion) => {
          completions.push(completion);
          if (completions.length === 101) resolve();
        },
        fenced: () => undefined,
      });
    });
    disks.open(epoch(1), a);
    await finished;
    const expected = Buffer.alloc(16);
    for (let i = 0; i < 100; i++) expected.write(String(i).padStart(8, '0'), i % 7);
    const last = completions.find((completion) => completion.request === 100);
    expect(Buffer.from(last?.data ?? [])).toEqual(expected);
    expect(new Set(completions.map((completion) => completion.request)).size).toBe(101);
  });

  test('no write of a fenced session reaches the disk after the newer opening is answered', async () => {
    const { port } = await start();
    const [old, fresh] = [new ServedDiskPort([client(port)]), new ServedDiskPort([client(port)])];
    closing.push(
      () => old.close(),
      () => fresh.close(),
    );
    let wasFenced = false;
    let issuing = true;
    old.listen({ opened: () => undefined, completed: () => undefined, fenced: () => (wasFenced = true) });
    const opened = (events: ServedDiskPort, at: number, instance: typeof a) =>
      new Promise<string>((resolve) => {
        events.listen({
          opened: (_, verdict) => resolve(verdict),
          completed: () => undefined,
          fenced: () => (wasFenced = true),
        });
        events.open(epoch(at), instance);
      });
    await opened(old, 1, a);
    const load = (async () => {
      for (let i = 0; issuing; i++) {
        old.issue(request(i, 'write', (i % 8) * 512, `old ${i}`));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(await opened(fresh, 2, b)).toBe('ok');
    const before = await readFile(image);
    await new Promise((resolve) => setTimeout(resolve, 50));
    issuing = false;
    await load;
    expect((await readFile(image)).equals(before)).toBe(true);
    expect(wasFenced).toBe(true);
  });
});

const run = promisify(execFile);
const here = (program: string) => existsSync(`/usr/bin/${program}`);

describe('foreign NBD clients', () => {
  test('what a disk is may be asked of a disk that a generation has', async () => {
    const { port } = await start();
    await client(port).open(epoch(1), a);
    expect(await servedDisk({ host: '127.0.0.1', port, disk: 'vda' })).toMatchObject({
      ok: true,
      value: { size: SIZE, readOnly: false },
    });
    expect(await servedDisk({ host: '127.0.0.1', port, disk: 'vdz' })).toMatchObject({ ok: false });
  });

  test.skipIf(!here('nbdinfo'))('nbdinfo lists the disk (needs libnbd-bin)', async () => {
    const { port } = await start();
    const { stdout } = await run('nbdinfo', ['--json', `nbd://127.0.0.1:${port}/vda`]);
    const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(exports[0]).toMatchObject({
      'export-size': SIZE,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
    });
  });

  test.skipIf(!here('nbdcopy'))('nbdcopy copies it over several connections (needs libnbd-bin)', async () => {
    const content = Buffer.from(Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    await writeFile(image, content);
    const { port } = await start();
    const copy = join(folder, 'copy.img');
    await run('nbdcopy', [`nbd://127.0.0.1:${port}/vda`, copy]);
    expect((await readFile(copy)).equals(content)).toBe(true);
  });

  test.skipIf(!here('qemu-io'))(
    'qemu-io writes with FUA, flushes and verifies (needs qemu-utils)',
    async () => {
      const { port } = await start();
      const commands = [
        'write -f -P 0x5a 8192 65536',
        'flush',
        'read -P 0x5a 8192 65536',
        'read -P 0 0 8192',
      ];
      const { stdout } = await run('qemu-io', [
        ...['-f', 'raw', `nbd://127.0.0.1:${port}/vda`],
        ...commands.flatMap((command) => ['-c', command]),
      ]);
      expect(stdout).not.toMatch(/fail/i);
      expect((await readFile(image)).subarray(8192, 8192 + 65536).every((byte) => byte === 0x5a)).toBe(true);
    },
  );
});

describe.skipIf(!here('nbdkit'))('foreign NBD server (needs nbdkit)', () => {
  test('serves a disk of one host alone, and is refused where fencing is needed', async () => {
    const port = await freePort();
    const nbdkit = spawn('nbdkit', ['-f', '-i', '127.0.0.1', '-p', String(port), 'memory', '1M'], {
      stdio: 'ignore',
    });
    closing.push(() => nbdkit.kill('SIGKILL'));
    const address = { host: '127.0.0.1', port, disk: '' };
    const plain = new DiskClient({ address, vm, generations: false });
    closing.push(() => plain.close());
    // The client keeps trying until the server is up.
    expect(await plain.open(epoch(0), a)).toBe('ok');
    expect((await plain.execute(write(512, 'foreign'))).status).toBe('ok');
    expect((await plain.execute({ kind: 'flush' })).status).toBe('ok');
    expect(data(await plain.execute(read(512, 7)))).toBe('foreign');

    const fenced = new DiskClient({ address, vm, generations: true });
    closing.push(() => fenced.close());
    expect(await fenced.open(epoch(1), a)).toBe('refused');
  });
});
