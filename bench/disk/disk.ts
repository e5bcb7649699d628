import { failed, ok, type Result } from '../../src/base/result.ts';
import { buildIdentity } from '../../src/host/build-identity.ts';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import type { ProtectedGuest, SavedGuest } from '../../tools/pair/protected-guest.ts';
import { savedGuest } from '../../tools/pair/saved-guest.ts';
import { withPair } from '../../tools/pair/with-pair.ts';
import { type Bench, type BenchOptions, type BenchResult, median, rounded } from '../bench.ts';
import { pause, reaches, type Sample, watchPrimary } from '../pair-rounds.ts';
import { CORES, pinClients } from '../placing.ts';
import { CELLS, type Cell, type GuestConsole, measureCell, nameOf } from './cells.ts';
import { diskGuest } from './image.ts';
import { MODES, type Mode } from './modes.ts';
import { measureQemu } from './qemu.ts';

const MEMORY_MB = 128;
const CELL_MS = 1500;
const WARM_MS = 300;
const SETTLE_MS = 1000;

/**
 * What fault tolerance costs a disk: sequential (64 KiB) and random (4 KiB) reads and writes at depth 1 and 32, without,
 * with, and without fault tolerance again, in each mode of the disks; QEMU's TCG on the same disk server beside it.
 */
export const disk: Bench = {
  name: 'disk',
  summary: 'reads and writes of a disk, fault tolerance off and on, in each mode; QEMU TCG beside it',
  rounds: 3,
  settings: { ms: 'how long each cell is measured, in milliseconds', only: 'one mode' },
  run: runDisk,
};

/** MB/s off and on, and what the log took. */
interface Measured {
  readonly off: number;
  readonly on: number;
  readonly logMbitPerSecond: number;
}

type Round = ReadonlyMap<string, Measured>;

interface Ground {
  readonly image: GuestImage;
  readonly from: SavedGuest;
  readonly cores: { readonly cores?: typeof CORES };
  readonly complaint: string | undefined;
}

async function runDisk({ say, rounds, settings }: BenchOptions): Promise<BenchResult> {
  const complaints: string[] = [];
  const nothing = (why: string): BenchResult => ({
    bench: 'disk',
    ok: false,
    figures: {},
    rows: [],
    complaints: [why],
  });
  const ms = Number(settings.ms ?? CELL_MS);
  if (!(ms >= 100)) return nothing('--ms takes a number from 100');
  const ground = await prepare(say);
  if (!ground.ok) return nothing(ground.error);
  if (ground.value.complaint !== undefined) complaints.push(ground.value.complaint);
  const modes = MODES.filter(({ name }) => settings.only === undefined || name === settings.only);
  if (modes.length === 0) return nothing(`--only takes one of ${MODES.map(({ name }) => name).join(', ')}`);
  if (settings.only !== undefined) complaints.push(`only ${settings.only} was measured`);
  const measured = new Map<string, Round[]>(modes.map(({ name }) => [name, []]));
  const qemu: Map<string, number>[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const mode of modes) {
      say(`round ${round} of ${rounds}: ${mode.name}`);
      try {
        measured.get(mode.name)?.push(await oneRound(ground.value, mode, ms));
      } catch (error) {
        complaints.push(`${mode.name}, round ${round}: ${(error as Error).message}`);
      }
    }
    say(`round ${round} of ${rounds}: QEMU`);
    try {
      qemu.push(await measureQemu(ground.value.image, CELLS, { ms, warmMs: WARM_MS, memoryMb: MEMORY_MB }));
    } catch (error) {
      complaints.push(`QEMU, round ${round}: ${(error as Error).message}`);
    }
  }
  return { bench: 'disk', ok: complaints.length === 0, ...summary(measured, qemu), complaints };
}

async function prepare(say: (line: string) => void): Promise<Result<Ground>> {
  const image = await diskGuest(say);
  if (!image.ok) return image;
  try {
    const from = await savedGuest(image.value, say, MEMORY_MB * 2 ** 20);
    const unpinned = await pinClients();
    const cores = unpinned === undefined ? { cores: CORES } : {};
    return ok({ image: image.value, from, cores, complaint: unpinned });
  } catch (error) {
    return failed(`${(error as Error).message} (build ${buildIdentity()})`);
  }
}

async function oneRound({ image, from, cores }: Ground, mode: Mode, ms: number): Promise<Round> {
  const world = await mode.world(from.disk);
  try {
    return await withPair(
      image,
      { from, protectAtStart: false, ...cores, world: world.of },
      async (guest) => {
        const console = consoleOf(guest);
        await reaches(guest, 'SOLE');
        for (const cell of CELLS) await measureCell(console, cell, WARM_MS);
        const before = await speeds(console, ms);
        guest.protect();
        await reaches(guest, 'PAIR');
        for (const cell of CELLS) await measureCell(console, cell, WARM_MS);
        await pause(SETTLE_MS);
        const watch = watchPrimary(guest);
        const on = new Map<string, { speed: number; logMbitPerSecond: number }>();
        for (const cell of CELLS) {
          const first = watch.samples.length;
          const speed = await measureCell(console, cell, ms);
          on.set(nameOf(cell), { speed, logMbitPerSecond: logRate(watch.samples.slice(first)) });
        }
        if (watch.states.length > 0) throw new Error(`host A left PAIR: ${watch.states.join(', ')}`);
        guest.unprotect();
        await reaches(guest, 'SOLE');
        await pause(SETTLE_MS);
        const after = await speeds(console, ms);
        return new Map(
          CELLS.map((cell) => {
            const name = nameOf(cell);
            const { speed, logMbitPerSecond } = on.get(name)!;
            // What only changes with time, as the programs become warmer, falls out.
            const off = ((before.get(name) ?? 0) + (after.get(name) ?? 0)) / 2;
            return [name, { off, on: speed, logMbitPerSecond }] as const;
          }),
        );
      },
    );
  } finally {
    await world.end();
  }
}

async function speeds(console: GuestConsole, ms: number): Promise<Map<string, number>> {
  const measured = new Map<string, number>();
  for (const cell of CELLS) measured.set(nameOf(cell), await measureCell(console, cell, ms));
  return measured;
}

function logRate(samples: readonly Sample[]): number {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || last.ms === first.ms) return Number.NaN;
  return ((last.logBytes - first.logBytes) * 8) / (last.ms - first.ms) / 1000;
}

function consoleOf(guest: ProtectedGuest): GuestConsole {
  return {
    type: (text) => guest.type(text),
    text: () => guest.consoleText,
    ended: () => (guest.primary === undefined ? guest.hosts[0].reason || 'no host runs it' : undefined),
  };
}

function summary(
  measured: ReadonlyMap<string, readonly Round[]>,
  qemu: readonly ReadonlyMap<string, number>[],
): Pick<BenchResult, 'figures' | 'rows' | 'table'> {
  const rows: Record<string, string | number>[] = [];
  const middle = (mode: string, cell: Cell, of: (measured: Measured) => number) =>
    median(
      (measured.get(mode) ?? []).flatMap((round) => {
        const found = round.get(nameOf(cell));
        return found === undefined ? [] : [of(found)];
      }),
    );
  const qemuSpeed = (cell: Cell) => median(qemu.map((round) => round.get(nameOf(cell)) ?? Number.NaN));
  for (const mode of measured.keys())
    for (const cell of CELLS)
      rows.push({
        mode,
        cell: nameOf(cell),
        offMBPerSecond: rounded(middle(mode, cell, ({ off }) => off)),
        onMBPerSecond: rounded(middle(mode, cell, ({ on }) => on)),
        ratio: rounded(middle(mode, cell, ({ off, on }) => on / off)),
        logMbitPerSecond: rounded(middle(mode, cell, ({ logMbitPerSecond }) => logMbitPerSecond)),
        qemuMBPerSecond: rounded(qemuSpeed(cell)),
      });
  const ratio = (mode: string, operation: Cell['operation']) =>
    rounded(
      geometricMean(
        CELLS.filter((cell) => cell.operation === operation).map((cell) =>
          middle(mode, cell, ({ off, on }) => on / off),
        ),
      ),
    );
  const log = (mode: string) =>
    rounded(Math.max(...CELLS.map((cell) => middle(mode, cell, ({ logMbitPerSecond }) => logMbitPerSecond))));
  const figures: Record<string, number> = {};
  if (measured.has('shared')) {
    figures.sharedWriteRatio = ratio('shared', 'write');
    figures.logReadRatio = ratio('shared', 'read');
    const ratios = CELLS.map((cell) => middle('shared', cell, ({ off }) => off) / qemuSpeed(cell));
    figures.ratioToQemu = rounded(geometricMean(ratios));
  }
  if (measured.has('non-shared')) figures.nonSharedWriteRatio = ratio('non-shared', 'write');
  if (measured.has('backup-reads')) figures.backupReadRatio = ratio('backup-reads', 'read');
  for (const mode of measured.keys()) figures[`${camel(mode)}LogMbitPerSecondMax`] = log(mode);
  return { figures, rows, table: tableOf(rows) };
}

function camel(mode: string): string {
  return mode.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

function tableOf(rows: readonly Readonly<Record<string, string | number>>[]): string[] {
  const heads = ['mode', 'cell', 'off MB/s', 'on MB/s', 'on/off', 'log Mbit/s', 'QEMU MB/s'];
  const cells = rows.map((row) => Object.values(row).map(String));
  const widths = heads.map((head, at) =>
    Math.max(head.length, ...cells.map((row) => (row[at] ?? '').length)),
  );
  return [heads, ...cells].map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
