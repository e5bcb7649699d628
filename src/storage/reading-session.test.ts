import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { DiskClient } from './disk-client.ts';
import { DiskServer } from './disk-server.ts';

/** Sessions of backups that read beside whatever generation has the disk [FT 4.2]. */

let folder: string;
const closing: (() => unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-reading-'));
  await writeFile(join(folder, 'disk.img'), Buffer.alloc(4096, 7));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function served(): Promise<(vm: string, reading: boolean) => DiskClient> {
  const server = await DiskServer.start({
    port: 0,
    disks: [{ name: 'vda', path: join(folder, 'disk.img') }],
  });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  const address = { host: '127.0.0.1', port: server.value.port, disk: 'vda' };
  return (vm, reading) => {
    const client = new DiskClient({ address, vm: vmId(vm), generations: true, reading });
    closing.push(() => client.close());
    return client;
  };
}

test('it reads what the newest generation has written, fences nobody, and is fenced by nobody', async () => {
  const client = await served();
  const [owner, reader] = [client('vm', false), client('vm', true)];
  expect(await owner.open(epoch(5), instanceId('a'))).toBe('ok');
  expect(await reader.open(epoch(0), instanceId('b'))).toBe('ok');
  const data = new Uint8Array(512).fill(9);
  const write = { kind: 'write', offset: 512, data, durable: false } as const;
  expect(await owner.execute(write)).toMatchObject({ status: 'ok' });
  const read = { kind: 'read', offset: 512, length: 512 } as const;
  expect(await reader.execute(read)).toMatchObject({ status: 'ok' });
  expect(await owner.open(epoch(6), instanceId('b'))).toBe('ok');
  const answer = await reader.execute(read);
  expect(answer.status === 'ok' && [...answer.data]).toEqual([...data]);
});

test('it writes nothing, and another VM gets none', async () => {
  const client = await served();
  const [owner, reader, stranger] = [client('vm', false), client('vm', true), client('other', true)];
  await owner.open(epoch(1), instanceId('a'));
  await reader.open(epoch(0), instanceId('b'));
  const write = { kind: 'write', offset: 0, data: new Uint8Array(512), durable: false } as const;
  expect(await reader.execute(write)).toMatchObject({ status: 'read-only' });
  const first = await owner.execute({ kind: 'read', offset: 0, length: 1 });
  expect(first.status === 'ok' && first.data[0]).toBe(7);
  expect(await stranger.open(epoch(0), instanceId('c'))).toBe('refused');
});
