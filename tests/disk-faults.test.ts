import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ArbiterAnswer } from '../src/ft/arbiter.ts';
import { epoch, instanceId, nonce, vmId } from '../src/ft/identity.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../src/machine/door.ts';
import { DiskClient } from '../src/storage/disk-client.ts';
import { DiskLease } from '../src/storage/disk-lease.ts';
import { type PortDisk, ServedDiskPort } from '../src/storage/disk-port.ts';
import { servedDisk } from '../src/storage/disk-size.ts';
import { LocalDisk } from '../src/storage/local-disk.ts';
import {
  encodeOptionReply,
  encodeSimpleReply,
  NBD_COMMAND,
  NBD_COMMAND_FLAG,
  NBD_ERROR,
  NBD_EXPORT_FLAG,
  NBD_INFO,
  NBD_REPLY,
} from '../src/storage/nbd-wire.ts';
import { type Fault, FaultyNbdServer } from './faulty-nbd-server.ts';
import { nbdkit } from './served-disk.ts';

/**
 * Storage that goes away, is full, answers with errors or with lies: the guest waits or gets an error, hears of nothing
 * else, and goes on; a clear line says so.
 */

const SIZE = 2 ** 20;
const SECOND = 1_000;

let folder: string;
let said: string[];
let closing: (() => unknown)[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-faults-'));
  said = [];
  closing = [];
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

const say = (line: string) => said.push(line);

/** A guest's end of one disk: it issues, and keeps what comes back. */
class Guest {
  readonly port: ServedDiskPort;
  readonly completions = new Map<number, DiskCompletedInput>();
  #last = 0;

  private constructor(disk: PortDisk) {
    this.port = new ServedDiskPort([disk], say);
    closing.push(() => this.port.close());
  }

  static async open(disk: PortDisk): Promise<Guest> {
    const guest = new Guest(disk);
    await new Promise<void>((resolve) => {
      guest.port.listen({
        opened: (_epoch, verdict) => {
          expect(verdict).toBe('ok');
          resolve();
        },
        completed: (completion) => {
          // Each operation is answered once.
          expect(guest.completions.has(completion.request)).toBe(false);
          guest.completions.set(completion.request, completion);
        },
        fenced: () => say('fenced'),
      });
      guest.port.open(epoch(0), instanceId('a'));
    });
    return guest;
  }

  issue(
    operation: DiskRequestOutput['operation'],
    offset: number,
    data: Uint8Array,
    length = data.length,
  ): number {
    const request = ++this.#last;
    this.port.issue({ kind: 'disk-request', disk: 0, request, operation, offset, length, data });
    return request;
  }

  write(offset: number, byte: number): number {
    return this.issue('write', offset, Buffer.alloc(512, byte));
  }

  async done(request: number): Promise<DiskCompletedInput> {
    for (;;) {
      const completion = this.completions.get(request);
      if (completion !== undefined) return completion;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async read(offset: number, length = 512): Promise<DiskCompletedInput> {
    return this.done(this.issue('read', offset, new Uint8Array(0), length));
  }
}

function client(port: number): DiskClient {
  const address = { host: '127.0.0.1', port, disk: '' };
  return new DiskClient({ address, vm: vmId('vm'), generations: false, say });
}

async function faulty(): Promise<{ server: FaultyNbdServer; guest: Guest }> {
  const server = await FaultyNbdServer.start(SIZE);
  closing.push(() => server.close());
  return { server, guest: await Guest.open(client(server.port)) };
}

/** Does something wrong with the first so many requests that come. */
function firstly(times: number, fault: Fault): Fault {
  let left = times;
  return (request, answer) => (left-- > 0 ? fault(request, answer) : undefined);
}

test.each<[string, Fault]>([
  ['hangs up without an answer', () => 'hang-up'],
  ['ends in mid-answer', (_, answer) => Buffer.concat([answer.subarray(0, answer.length - 1)])],
  [
    'answers what was not asked',
    ({ handle }, answer) => {
      const wrong = Buffer.from(answer);
      wrong.writeBigUInt64BE(handle + 1000n, 8);
      return wrong;
    },
  ],
  ['answers twice', (_, answer) => Buffer.concat([answer, answer])],
  ['answers with rubbish', () => Buffer.alloc(64, 0xa5)],
  ['answers with too much', (_, answer) => Buffer.concat([answer, Buffer.alloc(100)])],
  ['says that it is ending', ({ handle }) => encodeSimpleReply(handle, NBD_ERROR.shutdown)],
])('a server that %s is asked again, and nothing is lost', async (_what, fault) => {
  const { server, guest } = await faulty();
  server.bytes.fill(7);
  const once = firstly(3, fault);
  server.fault = (request, answer) => {
    const wrong = once(request, answer);
    // What is cut short has to end, or the client waits for the rest.
    if (wrong instanceof Buffer && wrong.length < answer.length) queueMicrotask(() => server.cut());
    return wrong;
  };
  const requests = [
    guest.write(0, 1),
    guest.write(512, 2),
    guest.issue('read', 4096, new Uint8Array(0), 512),
  ];
  for (const request of requests) expect((await guest.done(request)).status).toBe('ok');
  expect(Buffer.from((await guest.read(0, 1024)).data)).toEqual(
    Buffer.concat([Buffer.alloc(512, 1), Buffer.alloc(512, 2)]),
  );
  const third = guest.completions.get(requests[2] as number);
  expect(Buffer.from(third?.data ?? [])).toEqual(Buffer.alloc(512, 7));
  expect(server.connections).toBeGreaterThan(1);
  expect(said).not.toContain('fenced');
});

test('a server that lies again and again is told of once, and once when it is back', async () => {
  const { server, guest } = await faulty();
  const lies: Fault = () => Buffer.alloc(16, 0xa5);
  server.fault = lies;
  const request = guest.write(0, 1);
  while (server.connections < 5) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(said).toEqual([
    `disk nbd://127.0.0.1:${server.port}/ is not served as it should be: its answer cannot be read; asking again until it is`,
  ]);
  server.fault = () => undefined;
  expect((await guest.done(request)).status).toBe('ok');
  expect(said.slice(1)).toEqual([`disk nbd://127.0.0.1:${server.port}/ answers again`]);
});

test.each([
  [
    'another size',
    (server: FaultyNbdServer) => (server.size = SIZE / 2),
    /has 524288 bytes now, and had 1048576/,
  ],
  [
    'read-only',
    (server: FaultyNbdServer) => (server.flags |= NBD_EXPORT_FLAG.readOnly),
    /it is read-only now/,
  ],
  [
    'in too large blocks',
    (server: FaultyNbdServer) => (server.optionAnswer = blocksOf(4096)),
    /takes blocks of 4096 bytes only/,
  ],
  [
    'no NBD',
    (server: FaultyNbdServer) => (server.greeting = Buffer.from('SSH-2.0-OpenSSH_9.2p1 x')),
    /does not speak NBD/,
  ],
])('a disk that comes back as %s is waited for', async (_what, change, line) => {
  const { server, guest } = await faulty();
  const { size, flags } = server;
  change(server);
  server.fault = firstly(1, () => 'hang-up');
  const request = guest.write(0, 1);
  while (server.connections < 4) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(said).toHaveLength(1);
  expect(said[0]).toMatch(line);
  expect(guest.completions.size).toBe(0);
  Object.assign(server, { size, flags, greeting: undefined, optionAnswer: undefined });
  expect((await guest.done(request)).status).toBe('ok');
  expect(server.bytes.subarray(0, 512).equals(Buffer.alloc(512, 1))).toBe(true);
});

function blocksOf(bytes: number): (option: number) => Buffer {
  return (option) => {
    const blocks = Buffer.alloc(14);
    blocks.writeUInt16BE(NBD_INFO.blockSize, 0);
    for (const at of [2, 6]) blocks.writeUInt32BE(bytes, at);
    blocks.writeUInt32BE(2 ** 25, 10);
    const info = Buffer.alloc(12);
    info.writeBigUInt64BE(BigInt(SIZE), 2);
    info.writeUInt16BE(1, 10);
    return Buffer.concat([
      encodeOptionReply(option, NBD_REPLY.info, blocks),
      encodeOptionReply(option, NBD_REPLY.info, info),
      encodeOptionReply(option, NBD_REPLY.ack, Buffer.alloc(0)),
    ]);
  };
}

test.each([
  [
    'an answer to another option',
    (option: number) => encodeOptionReply(option + 1, NBD_REPLY.ack, Buffer.alloc(0)),
  ],
  [
    'too long an answer',
    (option: number) => {
      const reply = encodeOptionReply(option, NBD_REPLY.info, Buffer.alloc(12));
      reply.writeUInt32BE(0xffff_ffff, 16);
      return reply;
    },
  ],
  ['no size', (option: number) => encodeOptionReply(option, NBD_REPLY.ack, Buffer.alloc(0))],
  [
    'information without end',
    (option: number) =>
      Buffer.concat(
        Array.from({ length: 70 }, () => encodeOptionReply(option, NBD_REPLY.info, Buffer.alloc(12))),
      ),
  ],
  [
    'an impossible size',
    (option: number) => {
      const info = Buffer.alloc(12, 0xff);
      info.writeUInt16BE(0, 0);
      return Buffer.concat([
        encodeOptionReply(option, NBD_REPLY.info, info),
        encodeOptionReply(option, NBD_REPLY.ack, Buffer.alloc(0)),
      ]);
    },
  ],
])('asked what its disk is, a server that gives %s is an error in one line', async (_what, answer) => {
  const server = await FaultyNbdServer.start(SIZE);
  closing.push(() => server.close());
  server.optionAnswer = answer;
  const described = await servedDisk({ host: '127.0.0.1', port: server.port, disk: '' });
  expect(described).toMatchObject({ ok: false });
  expect((described as { error: string }).error).toMatch(/^the disk server at 127\.0\.0\.1:\d+: .+[^\n]$/);
});

test('errors of the server reach the guest as errors, and nothing else happens', async () => {
  const { server, guest } = await faulty();
  for (const error of [5, 12, 22, 75, 95, 0xffff_ffff]) {
    server.fault = ({ handle }) => encodeSimpleReply(handle, error);
    expect((await guest.read(0)).status).toBe('error');
    expect((await guest.done(guest.write(0, 1))).status).toBe('error');
  }
  server.fault = () => undefined;
  expect((await guest.done(guest.write(0, 2))).status).toBe('ok');
  expect(server.connections).toBe(1);
  expect(said).toEqual([]);
});

test('storage that is full makes the guest wait; with room again everything is there, in order', async () => {
  const { server, guest } = await faulty();
  server.fault = ({ handle, command }) =>
    command === NBD_COMMAND.write ? encodeSimpleReply(handle, NBD_ERROR.noSpace) : undefined;
  const requests = [guest.write(0, 1), guest.write(0, 2), guest.write(512, 3)];
  // Reads go on meanwhile.
  expect((await guest.read(4096)).status).toBe('ok');
  while (server.requests.length < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(guest.completions.size).toBe(1);
  expect(said).toEqual(['disk 0: its storage is full; the guest waits until there is room']);
  server.fault = () => undefined;
  for (const request of requests) expect((await guest.done(request)).status).toBe('ok');
  expect(Buffer.from((await guest.read(0, 1024)).data)).toEqual(
    Buffer.concat([Buffer.alloc(512, 2), Buffer.alloc(512, 3)]),
  );
  expect(said.slice(1)).toEqual(['disk 0: its storage has room again']);
});

test('a file whose file system is full: the same', async () => {
  let full = true;
  const bytes = Buffer.alloc(SIZE);
  const guest = await Guest.open(
    new LocalDisk({
      size: SIZE,
      readOnly: false,
      read: async (offset, length) => bytes.subarray(offset, offset + length),
      write: async (offset, data) => {
        if (full) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
        bytes.set(data, offset);
      },
      clear: async () => {
        throw Object.assign(new Error('input/output error'), { code: 'EIO' });
      },
      flush: async () => {},
      close: async () => {},
    }),
  );
  const request = guest.write(0, 7);
  expect((await guest.done(guest.issue('discard', 4096, new Uint8Array(0), 512))).status).toBe('error');
  expect((await guest.read(8192)).status).toBe('ok');
  expect(guest.completions.has(request)).toBe(false);
  full = false;
  expect((await guest.done(request)).status).toBe('ok');
  expect(bytes.subarray(0, 512).equals(Buffer.alloc(512, 7))).toBe(true);
  expect(said).toEqual([
    'disk 0: its storage is full; the guest waits until there is room',
    'disk 0: its storage has room again',
  ]);
});

test('a flush that found the storage full is an error: what it lost does not come back', async () => {
  const { server, guest } = await faulty();
  server.fault = firstly(1, ({ handle }) => encodeSimpleReply(handle, NBD_ERROR.noSpace));
  expect((await guest.done(guest.issue('flush', 0, new Uint8Array(0)))).status).toBe('error');
});

test.each([
  ['shares its cache between connections', NBD_EXPORT_FLAG.canMultiConn | NBD_EXPORT_FLAG.sendFua, [0], 0],
  ['does not', NBD_EXPORT_FLAG.sendFua, [NBD_COMMAND_FLAG.fua], 0],
  ['does not, nor knows FUA', 0, [0], 1],
])(
  'a server that %s: a flush covers what an earlier connection completed (protocol 6)',
  async (_what, has, flags, flushes) => {
    const server = await FaultyNbdServer.start(SIZE);
    closing.push(() => server.close());
    server.flags = NBD_EXPORT_FLAG.hasFlags | NBD_EXPORT_FLAG.sendFlush | has;
    const guest = await Guest.open(client(server.port));
    expect((await guest.done(guest.write(0, 1))).status).toBe('ok');
    const sent = (command: number) => server.requests.filter((request) => request.command === command);
    expect(sent(NBD_COMMAND.write).map((request) => request.flags)).toEqual(flags);
    expect(sent(NBD_COMMAND.flush)).toHaveLength(flushes);
  },
);

const here = existsSync('/usr/bin/nbdkit');

test.skipIf(!here)(
  'a server that stands still for a while: the guest waits, is told of, and goes on',
  async () => {
    const image = join(folder, 'disk.img');
    await writeFile(image, Buffer.alloc(SIZE));
    const { disk, server } = await nbdkit(image, { closing, say });
    const guest = await Guest.open(disk);
    server?.signal?.('SIGSTOP');
    const requests = [guest.write(0, 1), guest.write(512, 2), guest.write(0, 3)];
    while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(said[0]).toMatch(/^disk nbd:\S+ does not answer; waiting until it does$/);
    expect(guest.completions.size).toBe(0);
    server?.signal?.('SIGCONT');
    for (const request of requests) expect((await guest.done(request)).status).toBe('ok');
    expect((await readFile(image)).subarray(0, 1024)).toEqual(
      Buffer.concat([Buffer.alloc(512, 3), Buffer.alloc(512, 2)]),
    );
    expect(said.slice(1)).toEqual([expect.stringMatching(/answers again$/)]);
  },
  60 * SECOND,
);

test.skipIf(!here)('nbdkit without room: the guest waits until there is', async () => {
  const image = join(folder, 'disk.img');
  const full = join(folder, 'full');
  await writeFile(image, Buffer.alloc(SIZE));
  await writeFile(full, '');
  const { disk } = await nbdkit(image, {
    closing,
    say,
    words: ['--filter=error'],
    parameters: ['error=ENOSPC', 'error-pwrite-rate=100%', `error-file=${full}`],
  });
  const guest = await Guest.open(disk);
  const request = guest.write(0, 9);
  while (said.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(said).toEqual(['disk 0: its storage is full; the guest waits until there is room']);
  await unlink(full);
  expect((await guest.done(request)).status).toBe('ok');
  expect((await readFile(image)).subarray(0, 512)).toEqual(Buffer.alloc(512, 9));
});

test('a refusal at first is a verdict: nobody waits for a disk that is not there', async () => {
  const server = await FaultyNbdServer.start(SIZE);
  closing.push(() => server.close());
  server.optionAnswer = (option) =>
    encodeOptionReply(option, NBD_REPLY.errorUnknown, Buffer.from('no such\ndisk'));
  expect(await client(server.port).open(epoch(0), instanceId('a'))).toBe('refused');
  const described = await servedDisk({ host: '127.0.0.1', port: server.port, disk: 'x' });
  expect(described).toEqual({
    ok: false,
    error: `the disk server at 127.0.0.1:${server.port}: disk x is refused by the server: no such?disk`,
  });
});

test('without the lease nothing is written, however long it waits and wherever it is sent again; reads go on', async () => {
  const server = await FaultyNbdServer.start(SIZE);
  closing.push(() => server.close());
  let ms = 0;
  const lease = new DiskLease({ leaseMs: 1000, driftMs: 100, lateMs: 100 }, () => ms);
  let answer: (answer: ArbiterAnswer) => void = () => {};
  const arbiter = lease.overhear({
    listen: ({ answered }) => {
      answer = answered;
    },
    request: () => {},
  });
  arbiter.listen({ answered: () => {} });
  const renew = (name: string) => {
    const request = { vm: vmId('vm'), instance: instanceId('a'), nonce: nonce(name), epoch: epoch(1) };
    arbiter.request({ kind: 'renew', ...request });
    answer({ nonce: nonce(name), verdict: 'won', epoch: epoch(1) });
  };
  const address = { host: '127.0.0.1', port: server.port, disk: '' };
  const guest = await Guest.open(new DiskClient({ address, vm: vmId('vm'), generations: false, lease, say }));
  renew('first');
  expect((await guest.done(guest.write(0, 1))).status).toBe('ok');
  // Issued in time, and lost with its connection: it is not in time any more when it is sent again.
  server.fault = firstly(1, () => 'hang-up');
  const lost = guest.write(512, 2);
  while (server.requests.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  ms = 900;
  const late = guest.write(1024, 3);
  while (server.connections < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  expect((await guest.read(4096)).status).toBe('ok');
  const writes = () => server.requests.filter(({ command }) => command === NBD_COMMAND.write).length;
  expect([guest.completions.has(lost), guest.completions.has(late), writes()]).toEqual([false, false, 2]);
  renew('second');
  for (const request of [lost, late]) expect((await guest.done(request)).status).toBe('ok');
  expect(writes()).toBe(4);
});
