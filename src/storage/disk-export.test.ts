import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { DiskExport } from './disk-export.ts';
import { LEASE_MS } from './vm-record.ts';

/** The lease of a VM whose arbiter is the disk server: as long as its owner says, not as the server thinks. */

let folder: string;
let path: string;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-export-'));
  path = join(folder, 'disk.img');
  await writeFile(path, Buffer.alloc(4096));
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(async () => {
  vi.useRealTimers();
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function open(): Promise<DiskExport> {
  const opened = await DiskExport.open({ name: 'vda', path });
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}

async function restart(disk: DiskExport, name: string, expected: number, leaseMs?: number) {
  const [vm, instance] = [vmId('vm'), instanceId(name)];
  const request = { kind: 'restart', vm, nonce: nonce(name), instance, expected: epoch(expected) } as const;
  return (await disk.arbitrate(request, leaseMs))?.verdict;
}

test.for([
  { said: undefined, lasts: LEASE_MS },
  { said: 3 * LEASE_MS, lasts: 3 * LEASE_MS },
])('a lease of $said ms lasts $lasts ms, whatever the one who restarts says of its own', async (lease) => {
  const disk = await open();
  closing.push(() => disk.close());
  expect(await restart(disk, 'a', 0, lease.said)).toBe('won');
  vi.advanceTimersByTime(lease.lasts - 1);
  expect(await restart(disk, 'b', 1, 1)).toBe('superseded');
  vi.advanceTimersByTime(1);
  expect(await restart(disk, 'b', 1, 1)).toBe('won');
});

test('a server that starts again gives the owner its whole lease anew', async () => {
  const before = await open();
  expect(await restart(before, 'a', 0, 3 * LEASE_MS)).toBe('won');
  await before.close();
  const after = await open();
  closing.push(() => after.close());
  vi.advanceTimersByTime(3 * LEASE_MS - 1);
  expect(await restart(after, 'b', 1)).toBe('superseded');
  vi.advanceTimersByTime(1);
  expect(await restart(after, 'b', 1)).toBe('won');
});

test('a renewal whose length is another one is kept over a restart of the server', async () => {
  const before = await open();
  expect(await restart(before, 'a', 0)).toBe('won');
  const [vm, instance] = [vmId('vm'), instanceId('a')];
  const renewal = { kind: 'renew', vm, nonce: nonce('r'), instance, epoch: epoch(1) } as const;
  expect((await before.arbitrate(renewal, 3 * LEASE_MS))?.verdict).toBe('won');
  await before.close();
  const after = await open();
  closing.push(() => after.close());
  vi.advanceTimersByTime(3 * LEASE_MS - 1);
  expect(await restart(after, 'b', 1)).toBe('superseded');
});

test('a state file without a lease is read, one with a wrong lease is damaged', async () => {
  const disk = await open();
  await restart(disk, 'a', 0);
  await disk.close();
  const state = JSON.parse(await readFile(`${path}.lockstep-state`, 'utf8'));
  const reopened = async (leaseMs: unknown) => {
    await writeFile(`${path}.lockstep-state`, JSON.stringify({ ...state, leaseMs }));
    const opened = await DiskExport.open({ name: 'vda', path });
    if (opened.ok) await opened.value.close();
    return opened.ok ? 'opened' : opened.error;
  };
  expect(await reopened(undefined)).toBe('opened');
  expect(await reopened(-1)).toMatch(/is damaged/);
});
