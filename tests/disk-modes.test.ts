import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { assembledGuest } from './assembled-guest.ts';
import { type Disks, folder, oneJournal, pair, type Vm } from './journal-pair.ts';

/**
 * Pairs of real processes whose guest works with its disk (tests/guests/blocks.s): what it reads goes into every line of
 * its journal, and a line says that the write of its number is on the disk.
 */

const BLOCK = 4096;
const BLOCKS = 128;
const READ_PER_LINE = 4 * BLOCK;

beforeAll(async () => writeFile(join(folder, 'blocks'), await assembledGuest('blocks')));

const guest = () => ({ boot: { kernel: join(folder, 'blocks') }, digestEveryMs: 100, figuresEveryMs: 50 });

/** Bytes of the log, before compression and encryption, for each line that the guest has written meanwhile. */
async function logBytesPerLine(vm: Vm): Promise<number> {
  const logBytes = (): number => {
    const figures = vm.reports.findLast(({ kind }) => kind === 'figures');
    return (figures as unknown as { readonly logBytes?: number } | undefined)?.logBytes ?? 0;
  };
  const [bytes, console] = [logBytes(), vm.console.length];
  await vm.writes(60);
  return (logBytes() - bytes) / ((vm.console.length - console) / 18);
}

/** The last number that stands in each block. */
async function numbersOn(path: string): Promise<number[]> {
  const bytes = await readFile(path);
  return Array.from({ length: BLOCKS }, (_, block) => bytes.readUInt32LE(block * BLOCK));
}

/** The blocks that do not hold what the guest has said that it wrote there, after `lines` of its journal. */
function missingWrites(numbers: readonly number[], lines: number): number[] {
  const missing: number[] = [];
  for (let number = Math.max(1, lines - BLOCKS + 1); number <= lines; number++)
    if (numbers[number % BLOCKS]! < number) missing.push(number);
  return missing;
}

const linesOf = (journal: string | undefined): number => (journal ?? '').split('\n').length - 1;

test('reads executed on the backup: the log does not carry what was read, and the survivor has read the same', async () => {
  const withStorage = (disks: Disks, reads: string) => ({
    ...guest(),
    storage: { address: `127.0.0.1:${disks.port}`, disks: ['vda'], reads },
  });
  const start = async (reads: string) => {
    const before = await pair((disks) => withStorage(disks, reads));
    return { ...before, bytes: await logBytesPerLine(before.a) };
  };
  const logged = await start('log');
  expect(logged.bytes).toBeGreaterThan(READ_PER_LINE);
  logged.a.signal('SIGKILL');
  logged.b.signal('SIGKILL');

  const { a, b, bytes, disks } = await start('backup');
  expect(bytes).toBeLessThan(READ_PER_LINE / 4);
  expect(a.state).toBe('PAIR');
  a.signal('SIGKILL');
  await b.is('SOLE');
  await b.writes(200);
  const journal = oneJournal(a.console, b.console);
  expect(journal).toBeDefined();
  expect(missingWrites(await numbersOn(disks.path), linesOf(journal))).toEqual([]);
});
