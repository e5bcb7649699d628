import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { epoch, instanceId, vmId } from '../src/ft/identity.ts';
import { DiskClient } from '../src/storage/disk-client.ts';
import { NBD_ERROR } from '../src/storage/nbd-wire.ts';
import { freePorts } from '../tools/free-ports.ts';
import { assembledGuest } from './assembled-guest.ts';
import { closing, Disks, folder, oneJournal, pair, Vm } from './journal-pair.ts';
import { writesOf } from './nbd-transcript.ts';
import { Tap } from './tap.ts';

/**
 * What a disk holds at an instant, with real processes whose guest writes block n mod 128 full of n, and says on its
 * console when that is on the disk (tests/guests/blocks.s).
 */

const BLOCK = 4096;
const BLOCKS = 128;

beforeAll(async () => writeFile(join(folder, 'blocks'), await assembledGuest('blocks')));

const guest = () => ({ boot: { kernel: join(folder, 'blocks') }, digestEveryMs: 100 });
const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function numbersOn(path: string): Promise<number[]> {
  const bytes = await readFile(path);
  const numbers: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    const words = new Set(new Uint32Array(bytes.buffer, bytes.byteOffset + block * BLOCK, BLOCK / 4));
    // A write is there as a whole or not at all, once nothing is under way.
    expect(words.size).toBe(1);
    numbers.push([...words][0]!);
  }
  return numbers;
}

test('a primary that is stopped between issuing a write and its landing: nothing of it lands after the takeover', async () => {
  const disks = await Disks.create();
  const tap = await Tap.start(disks.port);
  closing.push(() => tap.close());
  const storage = (port: number) => ({ address: `127.0.0.1:${port}`, disks: ['vda'] });
  const [port = 0] = await freePorts(1);
  const listen = `127.0.0.1:${port}`;
  const b = new Vm({ role: 'backup', storage: storage(disks.port), listen, ...guest(), boot: undefined });
  await b.is('WAIT');
  const a = new Vm({ role: 'primary', storage: storage(tap.port), protect: listen, ...guest() });
  await a.is('PAIR');
  await a.writes(10);
  // The write of one block is on its way, and stays there.
  tap.holdFrom(BLOCK);
  while (tap.heldBytes < BLOCK) await new Promise((resolve) => setTimeout(resolve, 1));
  a.signal('SIGSTOP');
  await b.is('SOLE');
  // The survivor issues it again, and later writes another number over it.
  await b.writes(BLOCKS + 20);
  b.order({ order: 'pause' });
  let before = '';
  for (let now = sum(await readFile(disks.path)); now !== before; now = sum(await readFile(disks.path))) {
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  tap.release();
  a.signal('SIGCONT');
  expect(await a.ended).toBe(1);
  expect(a.reason).toMatch(/superseded|newer generation/);
  const late = tap.connections.flatMap((connection) =>
    writesOf(connection).filter(
      ({ at }) => at + 28 > (connection.passedBeforeHold ?? Number.POSITIVE_INFINITY),
    ),
  );
  expect(late.length).toBeGreaterThan(0);
  expect(late.filter(({ error }) => error !== NBD_ERROR.shutdown && error !== undefined)).toEqual([]);
  expect(sum(await readFile(disks.path))).toBe(before);
  // As the survivor reads it from the server.
  const address = { host: '127.0.0.1', port: disks.port, disk: 'vda' };
  const reader = new DiskClient({ address, vm: vmId('vm'), generations: true, reading: true });
  closing.push(() => reader.close());
  await reader.open(epoch(0), instanceId('reader'));
  const read = await reader.execute({ kind: 'read', offset: 0, length: 1024 * 1024 });
  expect(read.status === 'ok' && sum(read.data)).toBe(before);
  b.order({ order: 'resume' });
  await b.writes(20);
  expect(oneJournal(a.console, b.console)).toBeDefined();
});

test('a snapshot of a pair has memory and disk of one instant, and a new VM goes on from there', async () => {
  const { a, b } = await pair(guest());
  await a.writes(BLOCKS);
  const out = join(folder, 'snapshot');
  a.order({ order: 'snapshot', folder: out });
  const told = () => a.reports.find(({ kind }) => kind === 'snapshot') as { error?: string } | undefined;
  await a.until(() => told() !== undefined, 'took the snapshot');
  expect(told()?.error).toBeUndefined();
  await a.writes(20);
  expect([a.state, b.state]).toEqual(['PAIR', 'BACK']);

  const numbers = await numbersOn(join(out, 'disk-0.img'));
  const file = { file: join(out, 'disk-0.img') };
  const snapshot = join(out, 'memory');
  const restored = new Vm({ role: 'primary', snapshot, storage: { disks: [file] } });
  await restored.writes(3);
  const first = Number.parseInt(/^([0-9a-f]{8}) /m.exec(restored.console)?.[1] ?? '', 16);
  // All that had been acknowledged is on the disk as it was then; the next write may be, and none after it.
  for (const [block, number] of numbers.entries()) {
    const last = first - 1 - ((first - 1 - block) % BLOCKS);
    expect([last, last + BLOCKS]).toContain(number);
    expect(number).toBeLessThanOrEqual(first);
  }
  // Its own writes go to its own disk.
  await restored.writes(BLOCKS + 5);
  expect(Math.min(...(await numbersOn(file.file)))).toBeGreaterThan(first);
  expect((await readFile(join(out, 'snapshot.json'), 'utf8')).includes('"vm": "vm"')).toBe(true);

  a.order({ order: 'snapshot', folder: out });
  await a.until(
    () => a.reports.some(({ kind, ...rest }) => kind === 'snapshot' && 'error' in rest),
    'refused',
  );
  const refusal = a.reports.findLast(({ kind }) => kind === 'snapshot') as { error?: string };
  expect(refusal.error).toBe(`${out} is there already: a snapshot needs a new folder`);
});
