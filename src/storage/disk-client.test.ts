import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { DiskClient } from './disk-client.ts';
import { DiskServer } from './disk-server.ts';
import { RawFile } from './raw-file.ts';

let folder: string;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-disk-client-'));
  await writeFile(join(folder, 'disk.img'), Buffer.alloc(4096));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

test('a newer epoch is open when the server says so, not because the older one was', async () => {
  const disks = [{ name: 'vda', path: join(folder, 'disk.img') }];
  const server = await DiskServer.start({ port: 0, disks });
  if (!server.ok) throw new Error(server.error);
  const { port } = server.value;
  const client = new DiskClient({
    address: { host: '127.0.0.1', port, disk: 'vda' },
    vm: vmId('vm'),
    generations: true,
  });
  closing.push(() => client.close());
  expect(await client.open(epoch(1), instanceId('a'))).toBe('ok');
  await server.value.close();

  // In its place one that takes connections and says nothing.
  const sockets: Socket[] = [];
  const connected = new Promise<void>((resolve) => {
    const mute = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      resolve();
    });
    mute.listen(port, '127.0.0.1');
    closing.push(() => {
      for (const socket of sockets) socket.destroy();
      return new Promise((done) => mute.close(done));
    });
  });
  let verdict: string | undefined;
  const heard = (said: string): void => {
    verdict = said;
  };
  void client.open(epoch(3), instanceId('a')).then(heard);
  await connected;
  void client.open(epoch(3), instanceId('a')).then(heard);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(verdict).toBeUndefined();
});

test('an operation that takes longer than a silence is answered all the same, once connections are given longer', async () => {
  const disks = [{ name: 'vda', path: join(folder, 'disk.img') }];
  const server = await DiskServer.start({ port: 0, disks });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  const silenceMs = 100;
  const clear = vi.spyOn(RawFile.prototype, 'clear').mockImplementation(async () => {
    await new Promise((resolve) => setTimeout(resolve, 5 * silenceMs));
  });
  closing.push(() => clear.mockRestore());
  const address = { host: '127.0.0.1', port: server.value.port, disk: 'vda' };
  const client = new DiskClient({ address, vm: vmId('vm'), generations: true, silenceMs });
  closing.push(() => client.close());
  expect(await client.open(epoch(1), instanceId('a'))).toBe('ok');
  const operation = { kind: 'write-zeroes', offset: 0, length: 4096, durable: false } as const;
  expect(await client.execute(operation)).toMatchObject({ status: 'ok' });
  expect(clear.mock.calls.length).toBeGreaterThan(1);
});
