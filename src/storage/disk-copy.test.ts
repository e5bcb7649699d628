import { expect, test } from 'vitest';
import { epoch, instanceId } from '../ft/identity.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import { COPY_CHUNK_BYTES, DiskCopy } from './disk-copy.ts';
import { ServedDiskPort } from './disk-port.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';

const SIZE = 8 * COPY_CHUNK_BYTES - 512;

/** A disk whose operations take a while, a random one. */
class SlowDisk {
  readonly bytes = Buffer.alloc(SIZE);
  refusesReads = false;

  open = () => Promise.resolve('ok' as const);
  close = () => {};

  async execute(operation: DiskOperation): Promise<DiskAnswer> {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
    if (operation.kind === 'write') Buffer.from(operation.data).copy(this.bytes, operation.offset);
    if (operation.kind === 'discard')
      this.bytes.fill(0, operation.offset, operation.offset + operation.length);
    if (operation.kind !== 'read') return { status: 'ok', data: Buffer.alloc(0) };
    if (this.refusesReads) return { status: 'error' };
    const { offset, length } = operation;
    return { status: 'ok', data: Buffer.from(this.bytes.subarray(offset, offset + length)) };
  }
}

function portOf(disk: SlowDisk) {
  const port = new ServedDiskPort([disk]);
  const completions: DiskCompletedInput[] = [];
  let last = 0;
  port.listen({ opened: () => {}, completed: (each) => completions.push(each), fenced: () => {} });
  port.open(epoch(1), instanceId('a'));
  const issue = (operation: DiskRequestOutput['operation'], offset: number, length: number, byte: number) => {
    const data = operation === 'write' ? Buffer.alloc(length, byte) : Buffer.alloc(0);
    port.issue({ kind: 'disk-request', disk: 0, request: ++last, operation, offset, length, data });
  };
  const settled = async () => {
    while (completions.length < last) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  return { port, issue, settled, completions };
}

test('a copy holds what the disk held at its beginning, whatever is written meanwhile', async () => {
  const disk = new SlowDisk();
  for (let at = 0; at < SIZE; at += 512) disk.bytes.fill(1 + (at % 251), at, at + 512);
  disk.bytes.fill(0, COPY_CHUNK_BYTES, 3 * COPY_CHUNK_BYTES);
  const { port, issue, settled, completions } = portOf(disk);
  const before = Buffer.from(disk.bytes);
  const copy = Buffer.alloc(SIZE);
  const stored: number[] = [];
  let over = false;
  const copied = port
    .copy([SIZE], () => async (offset, data) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      stored.push(offset / COPY_CHUNK_BYTES);
      Buffer.from(data).copy(copy, offset);
    })
    .finally(() => (over = true));
  await expect(port.copy([SIZE], () => () => Promise.resolve())).rejects.toThrow('another snapshot');
  // From the end on, where it comes last; and across the borders of chunks.
  while (!over) {
    for (let chunk = 7; chunk >= 0; chunk--) {
      issue('write', chunk * COPY_CHUNK_BYTES + 4096, 512, 255);
      if (chunk > 0) issue('write', chunk * COPY_CHUNK_BYTES - 512, 1024, 254);
      issue('discard', chunk * COPY_CHUNK_BYTES + 8192, 512, 0);
    }
    await settled();
  }
  await copied;
  expect(copy.equals(before)).toBe(true);
  // Zeroes are not stored, and nothing is copied twice.
  expect(stored.sort()).toEqual([0, 3, 4, 5, 6, 7]);
  expect(completions.every(({ status }) => status === 'ok')).toBe(true);
  expect(disk.bytes[4096]).toBe(255);
});

test('a copy that fails says why, and holds nobody up', async () => {
  const disk = new SlowDisk();
  const { port, issue, settled, completions } = portOf(disk);
  disk.refusesReads = true;
  const copied = port.copy([SIZE], () => () => Promise.resolve());
  issue('write', 7 * COPY_CHUNK_BYTES, 512, 1);
  await expect(copied).rejects.toThrow(/^reading the disk at \d+: error$/);
  await settled();
  expect(completions.map(({ status }) => status)).toEqual(['ok']);
  const full = new DiskCopy(new SlowDisk(), SIZE, () => Promise.reject(new Error('no space')));
  await full.whole();
});
