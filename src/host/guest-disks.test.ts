import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { DiskServer } from '../storage/disk-server.ts';
import { GuestDisks } from './guest-disks.ts';

const SIZE = 1 << 20;
let folder: string;
const closing: (() => unknown)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-guest-disks-'));
  await writeFile(join(folder, 'disk.img'), Buffer.alloc(SIZE, 7));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

/** Opens the server's one disk for a VM; `said` is what its user is told. */
async function served() {
  const server = await DiskServer.start({
    port: 0,
    disks: [{ name: 'vda', path: join(folder, 'disk.img') }],
  });
  if (!server.ok) throw new Error(server.error);
  closing.push(() => server.value.close());
  const address = { host: '127.0.0.1', port: server.value.port, disk: 'vda' };
  const said: string[] = [];
  const open = async (vm: string, capacity: number, readOnly: boolean) => {
    const opened = await GuestDisks.open(
      [{ kind: 'served', address, readOnly }],
      [{ capacity, readOnly, serial: 'x' }],
      { vm: vmId(vm), say: (line) => said.push(line) },
    );
    if (!opened.ok) throw new Error(opened.error);
    const disk = opened.value.disks[0]!;
    closing.push(() => disk.close());
    return { disk, verdict: await disk.open(epoch(1), instanceId(vm)) };
  };
  return { open, said };
}

test('a disk of another size than the guest has is refused, whoever takes it over', async () => {
  const { open, said } = await served();
  expect((await open('vm', 8 * SIZE, false)).verdict).toBe('refused');
  expect(said).toEqual([
    `disk vda cannot be used: it has ${SIZE} bytes, the guest's disk has ${8 * SIZE}: serve the disk that the guest had`,
  ]);
});

test('a read-only disk of the server is any VM’s, whoever has written it; for writing it is not', async () => {
  const { open, said } = await served();
  const maker = await open('maker', SIZE, false);
  const byte = new Uint8Array(512).fill(9);
  await maker.disk.execute({ kind: 'write', offset: 0, data: byte, durable: false });
  const readers = [await open('one', SIZE, true), await open('two', SIZE, true)];
  for (const { verdict, disk } of readers) {
    expect(verdict).toBe('ok');
    const read = await disk.execute({ kind: 'read', offset: 0, length: 512 });
    expect(read.status === 'ok' && read.data[0]).toBe(9);
    expect((await disk.execute({ kind: 'flush' })).status).toBe('ok');
    const write = await disk.execute({ kind: 'write', offset: 0, data: byte, durable: false });
    expect(write.status).toBe('read-only');
  }
  expect((await open('one', SIZE, false)).verdict).toBe('refused');
  expect(said).toEqual(['disk vda cannot be used: a newer generation or another VM has it']);
});

test('who only reads a disk does not make it its own', async () => {
  const { open } = await served();
  expect((await open('reader', SIZE, true)).verdict).toBe('ok');
  expect((await open('maker', SIZE, false)).verdict).toBe('ok');
});
