import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { freePort } from '../tools/free-ports.ts';
import { assembledGuest } from './assembled-guest.ts';
import { type Disks, folder, machine, oneJournal, pair, Vm } from './journal-pair.ts';

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

/** Of two consoles: how much of the later one repeats the end of the earlier one. */
function overlap(earlier: string, later: string): number {
  let length = Math.min(earlier.length, later.length);
  while (!earlier.endsWith(later.slice(0, length))) length -= 1;
  return length;
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

const DISK_BYTES = 16 * 1024 * 1024;
/** Blocks of 64 KiB in which copies are made: of the whole disk, and of where the guest writes. */
const COPY_BLOCKS = DISK_BYTES / 65_536;
const WRITTEN_BLOCKS = (BLOCK * BLOCKS) / 65_536;

/** Hosts that share nothing but a directory in which their VM's record stands. */
class Hosts {
  readonly #arbiter = join(folder, `arbiter-${Math.random()}`);

  static async prepare(): Promise<Hosts> {
    const hosts = new Hosts();
    await mkdir(hosts.#arbiter);
    return hosts;
  }

  /** A disk image, all of it this byte. */
  async disk(fill: number): Promise<string> {
    const path = join(folder, `own-${Math.random()}.img`);
    await writeFile(path, Buffer.alloc(DISK_BYTES, fill));
    return path;
  }

  config(file: string): object {
    return {
      machine: { ...machine, disks: [{ capacity: DISK_BYTES, readOnly: false, serial: 'own' }] },
      ...guest(),
      storage: { mode: 'non-shared', files: [file] },
      arbiter: { kind: 'directory', path: this.#arbiter },
    };
  }

  async backup(file: string): Promise<{ vm: Vm; address: string }> {
    const listen = `127.0.0.1:${await freePort()}`;
    const vm = new Vm({ role: 'backup', listen, ...this.config(file) });
    await vm.is('WAIT');
    return { vm, address: listen };
  }
}

/** How many blocks its last copy of the disks took, as the primary says. */
function blocksCopied(vm: Vm): number {
  const gate = vm.reports.findLast(({ kind, state }) => kind === 'state' && state === 'GATE');
  return Number(/of the disks (\d+) blocks/.exec(gate?.detail ?? '')?.[1]);
}

test('non-shared disks: a survivor has every acknowledged write on its own copy; a copy that comes back gets what it lacks', async () => {
  const hosts = await Hosts.prepare();
  const [onA, onB] = [await hosts.disk(0), await hosts.disk(0xee)];
  const first = await hosts.backup(onB);
  const a = new Vm({ role: 'primary', protect: first.address, ...hosts.config(onA) });
  await a.is('PAIR');
  expect(blocksCopied(a)).toBe(COPY_BLOCKS);
  await a.writes(20);

  // An outage: what is written meanwhile is noted, and nothing else is copied afterwards.
  first.vm.signal('SIGKILL');
  await a.is('SOLE');
  await a.writes(20);
  const again = await hosts.backup(onB);
  a.order({ order: 'protect', address: again.address });
  await a.is('PAIR');
  expect(blocksCopied(a)).toBeGreaterThan(0);
  expect(blocksCopied(a)).toBeLessThanOrEqual(WRITTEN_BLOCKS);
  await a.writes(20);

  a.signal('SIGKILL');
  const b = again.vm;
  await b.is('SOLE');
  await b.writes(40);
  const journal = oneJournal(a.console, b.console);
  expect(journal).toBeDefined();
  expect(missingWrites(await numbersOn(onB), linesOf(journal))).toEqual([]);
  // What was on its disk before is gone.
  expect((await readFile(onB)).subarray(BLOCK * BLOCKS).every((byte) => byte === 0)).toBe(true);

  // The old primary's copy has writes that never happened, maybe: it gets everything.
  const returned = await hosts.backup(onA);
  b.order({ order: 'protect', address: returned.address });
  await b.is('PAIR');
  expect(blocksCopied(b)).toBe(COPY_BLOCKS);
  b.signal('SIGKILL');
  await returned.vm.is('SOLE');
  await returned.vm.writes(10);
  const whole = oneJournal(
    a.console,
    b.console + returned.vm.console.slice(overlap(b.console, returned.vm.console)),
  );
  expect(whole).toBeDefined();
  expect(missingWrites(await numbersOn(onA), linesOf(whole))).toEqual([]);
});
