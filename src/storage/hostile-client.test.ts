import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { DiskClient } from './disk-client.ts';
import { DiskServer } from './disk-server.ts';
import { encodeOption, encodeRequest, NBD_COMMAND, NBD_OPTION } from './nbd-wire.ts';

/** Whatever bytes a stranger sends to the disk server: the disk, its fence and its record stay, others are served. */

const SIZE = 64 * 1024 * 1024;
let folder: string;
let image: string;
let server: DiskServer;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-hostile-'));
  image = join(folder, 'disk.img');
  await writeFile(image, Buffer.alloc(SIZE));
  const started = await DiskServer.start({ port: 0, disks: [{ name: 'vda', path: image }] });
  if (!started.ok) throw new Error(started.error);
  server = started.value;
});
afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

/** Sends the bytes; resolves when the server hangs up, or after a while. */
async function send(bytes: Uint8Array): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port: server.port });
  socket.on('error', () => {});
  socket.resume();
  socket.write(bytes);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, 30);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  socket.destroy();
}

function random(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2_654_435_761 + 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37) | 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}

const hello = Buffer.of(0, 0, 0, 3);
const option = (number: number, content: string | Uint8Array): Buffer =>
  encodeOption(number, Buffer.from(content as string));

test('rubbish on the disk server moves no fence and no record, and the next client is served', async () => {
  const owner = new DiskClient({
    address: { host: '127.0.0.1', port: server.port, disk: 'vda' },
    vm: vmId('vm'),
    generations: true,
  });
  expect(await owner.open(epoch(2), instanceId('a'))).toBe('ok');
  const state = await readFile(`${image}.lockstep-state`, 'utf8');
  const huge = option(NBD_OPTION.go, '');
  huge.writeUInt32BE(0xffff_ffff, 12);
  const wrong: Buffer[] = [
    ...Array.from({ length: 8 }, (_, seed) => random(seed, 3000)),
    ...Array.from({ length: 8 }, (_, seed) => Buffer.concat([hello, random(seed, 3000)])),
    ...[NBD_OPTION.exportName, NBD_OPTION.go, NBD_OPTION.info, NBD_OPTION.lockstepOpen].map((number) =>
      Buffer.concat([hello, option(number, random(number, 60))]),
    ),
    Buffer.concat([hello, huge]),
    ...[
      'null',
      '[]',
      '{}',
      '{"disk":"vda"}',
      '{"disk":"vda","vm":"vm","epoch":-1,"instance":"x"}',
      '{"disk":"vda","vm":"vm","epoch":1e300,"instance":"x"}',
      '{"disk":"vda","vm":"vm","epoch":2.5,"instance":"x"}',
      '{"disk":"vda","vm":"vm","epoch":1,"instance":"x"}',
      '{"disk":"vda","vm":"vm","epoch":2,"instance":"x"}',
      '{"disk":"vda","vm":"other","epoch":9,"instance":"x"}',
      '{"disk":"__proto__","vm":"vm","epoch":9,"instance":"x"}',
    ].map((text) => Buffer.concat([hello, option(NBD_OPTION.lockstepOpen, text)])),
    ...[
      '{"disk":"vda","request":null}',
      '{"disk":"vda","request":{"kind":"claim","vm":"vm","nonce":"n","instance":"x","lowest":0,"highest":9}}',
      '{"disk":"vda","request":{"kind":"commit","vm":"vm","nonce":"n","instance":"x","expected":0,"backup":"y"}}',
      '{"disk":"vda","request":{"kind":"restart","vm":"other","nonce":"n","instance":"x","expected":0}}',
      '{"disk":"vda","request":{"kind":"toString","vm":"vm","nonce":"n","instance":"x"}}',
      ...['0', '-1', '1e300', '86400001', '"30000"', 'null'].map(
        (leaseMs) =>
          `{"disk":"vda","leaseMs":${leaseMs},"request":{"kind":"restart","vm":"vm","nonce":"n","instance":"x","expected":0}}`,
      ),
    ].map((text) => Buffer.concat([hello, option(NBD_OPTION.lockstepArbiter, text)])),
  ];
  for (const bytes of wrong) await send(bytes);
  expect(await readFile(`${image}.lockstep-state`, 'utf8')).toBe(state);
  expect(
    (await owner.execute({ kind: 'write', offset: 0, data: Buffer.from('mine'), durable: false })).status,
  ).toBe('ok');
  owner.close();
});

test('a client that asks for much at once and reads nothing takes a bounded amount of memory', async () => {
  const socket: Socket = connect({ host: '127.0.0.1', port: server.port });
  socket.on('error', () => {});
  const first = new Promise((resolve) => socket.once('data', resolve));
  socket.write(
    Buffer.concat([hello, option(NBD_OPTION.go, Buffer.from([0, 0, 0, 3, 0x76, 0x64, 0x61, 0, 0]))]),
  );
  await first;
  socket.pause();
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  const requests = Array.from({ length: 60 }, (_, index) =>
    encodeRequest({
      flags: 0,
      command: NBD_COMMAND.read,
      handle: BigInt(index),
      offset: 0n,
      length: 32 * 1024 * 1024,
    }),
  );
  socket.write(Buffer.concat(requests));
  for (let round = 0; round < 20; round++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  socket.destroy();
  expect(most).toBeLessThan(200 * 1024 * 1024);
});

test('a client that sends options and reads no reply is held back', async () => {
  // Long names: what the server would have to keep is two hundred times what it is asked.
  const disks = Array.from({ length: 20 }, (_, index) => ({
    name: `${index}`.padEnd(200, 'x'),
    path: join(folder, `${index}.img`),
  }));
  for (const { path } of disks) await writeFile(path, Buffer.alloc(4096));
  const started = await DiskServer.start({ port: 0, disks });
  if (!started.ok) throw new Error(started.error);
  const socket: Socket = connect({ host: '127.0.0.1', port: started.value.port });
  socket.on('error', () => {});
  const before = process.memoryUsage().rss;
  socket.write(Buffer.concat([hello, ...Array.from({ length: 50_000 }, () => option(NBD_OPTION.list, ''))]));
  let most = 0;
  // Rounds of the event loop, not milliseconds: the server runs in this process too.
  for (let round = 0; round < 300; round++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    most = Math.max(most, process.memoryUsage().rss - before);
  }
  socket.destroy();
  await started.value.close();
  expect(most).toBeLessThan(64 * 1024 * 1024);
});

test('a client that reads the replies to its options late gets them all', async () => {
  const list = option(NBD_OPTION.list, '');
  // Far more than the server writes before it waits for the client, and done long before it loses its patience.
  const OPTIONS = 8192;
  const socket: Socket = connect({ host: '127.0.0.1', port: server.port });
  socket.write(Buffer.concat([hello, ...Array.from({ length: OPTIONS }, () => list)]));
  await new Promise((resolve) => setTimeout(resolve, 50));
  let heard = 0;
  socket.on('data', (bytes: Buffer) => {
    heard += bytes.length;
  });
  const replies = OPTIONS * (2 * 20 + 4 + 'vda'.length);
  await expect.poll(() => heard, { timeout: 20_000 }).toBeGreaterThanOrEqual(replies);
  socket.destroy();
});
