import { describe, expect, test } from 'vitest';
import { epoch, instanceId } from '../ft/identity.ts';
import type { DiskBackend } from './disk-backend.ts';
import { FencedDisk } from './fenced-disk.ts';

const [a, b] = [instanceId('a'), instanceId('b')];

/** A disk whose writes end when the test says so. */
class SlowDisk implements DiskBackend {
  readonly size = 4096;
  readonly readOnly = false;
  readonly bytes = new Uint8Array(4096);
  readonly held: (() => void)[] = [];
  hold = false;

  read(offset: number, length: number): Promise<Uint8Array> {
    return Promise.resolve(this.bytes.slice(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    if (this.hold) await new Promise<void>((resolve) => this.held.push(resolve));
    this.bytes.set(data, offset);
  }

  async clear(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, offset + length);
  }

  flush = () => Promise.resolve();
  close = () => Promise.resolve();
}

function fencedDisk(backend: DiskBackend, persisted: unknown[] = []): FencedDisk {
  const fence = { epoch: epoch(0), instance: undefined };
  return new FencedDisk(backend, fence, async (next) => void persisted.push(next));
}

const write = (value: number) =>
  ({ kind: 'write', offset: 0, data: Uint8Array.of(value), durable: false }) as const;
const turns = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

describe('fencing', () => {
  test('opening a newer generation refuses the older one, and an older one is refused', async () => {
    const disk = fencedDisk(new SlowDisk());
    const old = await disk.open(epoch(1), a);
    const fresh = await disk.open(epoch(2), b);
    expect(await old?.execute(write(1))).toEqual({ status: 'fenced' });
    expect((await fresh?.execute(write(2)))?.status).toBe('ok');
    expect(await disk.open(epoch(1), a)).toBeUndefined();
    expect(await disk.open(epoch(2), a)).toBeUndefined();
    expect(disk.fence).toEqual({ epoch: 2, instance: 'b' });
  });

  test('the opening is answered only after older operations have ended', async () => {
    const backend = new SlowDisk();
    const disk = fencedDisk(backend);
    const old = await disk.open(epoch(1), a);
    backend.hold = true;
    const oldWrite = old?.execute(write(1));
    let opened = false;
    const opening = disk.open(epoch(2), b).then((session) => {
      opened = true;
      return session;
    });
    await turns();
    expect(opened).toBe(false);
    // The fence is in force before the opening is answered.
    expect(await old?.execute(write(3))).toEqual({ status: 'fenced' });
    backend.hold = false;
    backend.held[0]?.();
    const fresh = await opening;
    expect((await oldWrite)?.status).toBe('ok');
    await fresh?.execute(write(2));
    expect(backend.bytes[0]).toBe(2);
  });

  test('the same instance may open its epoch again, and its earlier session is drained too', async () => {
    const backend = new SlowDisk();
    const persisted: unknown[] = [];
    const disk = fencedDisk(backend, persisted);
    const first = await disk.open(epoch(1), a);
    backend.hold = true;
    void first?.execute(write(1));
    let opened = false;
    const again = disk.open(epoch(1), a).then((session) => {
      opened = true;
      return session;
    });
    await turns();
    expect(opened).toBe(false);
    backend.hold = false;
    backend.held[0]?.();
    expect((await (await again)?.execute(write(2)))?.status).toBe('ok');
    expect(first?.fenced).toBe(true);
    expect(persisted).toHaveLength(1);
  });

  test('a fence that cannot be made durable is not in force', async () => {
    const disk = new FencedDisk(new SlowDisk(), { epoch: epoch(0), instance: undefined }, () =>
      Promise.reject(new Error('no space')),
    );
    await expect(disk.open(epoch(1), a)).rejects.toThrow('no space');
    expect(disk.fence.epoch).toBe(0);
    expect(disk.openWithoutGeneration()).toBeDefined();
  });

  test('clients without generations are refused once a generation has the disk', async () => {
    const disk = fencedDisk(new SlowDisk());
    const plain = disk.openWithoutGeneration();
    expect((await plain?.execute(write(1)))?.status).toBe('ok');
    await disk.open(epoch(1), a);
    expect(await plain?.execute(write(1))).toEqual({ status: 'fenced' });
    expect(disk.openWithoutGeneration()).toBeUndefined();
  });

  test('what lies outside the disk is refused and changes nothing', async () => {
    const backend = new SlowDisk();
    const session = await fencedDisk(backend).open(epoch(1), a);
    expect(await session?.execute({ kind: 'read', offset: 4096, length: 1 })).toEqual({
      status: 'out-of-range',
    });
    const beyond = { kind: 'write', offset: 4090, data: new Uint8Array(7).fill(9), durable: false } as const;
    expect(await session?.execute(beyond)).toEqual({ status: 'out-of-range' });
    expect(backend.bytes.every((byte) => byte === 0)).toBe(true);
  });
});
