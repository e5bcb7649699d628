import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Dice } from '../../bench/chaos/dice.ts';
import { MODES } from '../../bench/disk/modes.ts';
import { pause, reaches } from '../../bench/pair-rounds.ts';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import type { ProtectedGuest, SavedGuest } from '../../tools/pair/protected-guest.ts';
import { savedGuest } from '../../tools/pair/saved-guest.ts';
import { withPair } from '../../tools/pair/with-pair.ts';
import { crashGuest } from './crash-guest.ts';

/**
 * A guest with ext4 and sqlite under write load, killed at random instants, in each mode of the disks. Then its disk, as
 * it lies there: the file system is clean, the database is whole, and every transaction that was acknowledged on the
 * console is in it. LOCKSTEP_KILLS kills for each mode (3 when it is not set), LOCKSTEP_SEED to repeat a run.
 */

const KILLS = Number(process.env.LOCKSTEP_KILLS ?? 3);
const SEED = process.env.LOCKSTEP_SEED ?? String(Date.now());
const MINUTES = 60_000;
const tools = ['/usr/sbin/e2fsck', '/usr/sbin/debugfs', '/usr/bin/sqlite3'];
const missing = tools.filter((tool) => !existsSync(tool));
const run = promisify(execFile);

let image: GuestImage;
let from: SavedGuest;
let folder: string;
beforeAll(async () => {
  image = await crashGuest();
  from = await savedGuest(image, () => undefined);
}, 10 * MINUTES);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-crash-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** The highest transaction that the guest has acknowledged. */
function acknowledged(guest: ProtectedGuest): number {
  const acks = [...guest.consoleText.matchAll(/^ACK (\d+)\.\r?$/gm)].map(([, number]) => Number(number));
  return acks.length === 0 ? 0 : Math.max(...acks);
}

async function until(what: () => string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 2 * MINUTES;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within two minutes: ${what()}`);
    await pause(10);
  }
}

/** Throws unless the disk is what a guest finds after a power loss; the highest transaction in its database. */
async function checkDisk(disk: string): Promise<number> {
  const copy = join(folder, 'disk.img');
  await copyFile(disk, copy);
  // As a mount does first: what the journal has is written. After that nothing may be left to repair.
  await run('/usr/sbin/e2fsck', ['-E', 'journal_only', '-y', copy]).catch((error: { code?: number }) => {
    if (error.code !== 1) throw error;
  });
  await run('/usr/sbin/e2fsck', ['-f', '-n', copy]);
  const database = join(folder, 'load.db');
  for (const suffix of ['', '-journal']) {
    await rm(`${database}${suffix}`, { force: true });
    await run('/usr/sbin/debugfs', ['-R', `dump /load.db${suffix} ${database}${suffix}`, copy]);
    const dumped = await stat(`${database}${suffix}`).catch(() => undefined);
    if (dumped?.size === 0) await rm(`${database}${suffix}`);
  }
  const ask = async (text: string) => (await run('/usr/bin/sqlite3', [database, text])).stdout.trim();
  expect(await ask('pragma integrity_check;')).toBe('ok');
  const [count, highest, wrong] = (
    await ask("select count(*), coalesce(max(n), 0), coalesce(sum(x not like '% ' || n), 0) from t;")
  ).split('|');
  expect(count).toBe(highest);
  expect(wrong).toBe('0');
  return Number(highest);
}

describe.skipIf(missing.length > 0)(
  `kills under write load${missing.length > 0 ? `: needs ${missing}` : ''}`,
  () => {
    for (const mode of MODES)
      test(`${mode.name}: ${KILLS} kills, seed ${SEED}`, { timeout: KILLS * 5 * MINUTES }, async () => {
        for (let kill = 0; kill < KILLS; kill++) {
          const dice = new Dice(`${SEED}/${mode.name}/${kill}`);
          const world = await mode.world(from.disk);
          const both = dice.below(3) === 0;
          const afterMs = dice.below(3000);
          const text = `kill ${kill} (${both ? 'both' : 'primary, then the survivor'}) after ${afterMs} ms`;
          try {
            await withPair(image, { from, world: world.of }, async (guest) => {
              const [a, b] = guest.hosts;
              await reaches(guest, 'PAIR');
              guest.type('sh /load\n');
              await until(
                () => `a transaction (${a.state}: ${a.reason}; ${guest.consoleText.slice(-300)})`,
                () => acknowledged(guest) > 0,
              );
              await pause(afterMs);
              a.process.kill();
              if (!both) {
                await a.process.ended;
                const before = acknowledged(guest);
                await until(
                  () => `host B goes on (${b.state}: ${b.reason})`,
                  () => acknowledged(guest) > before + 2,
                );
                await pause(dice.below(1000));
              }
              b.process.kill();
              await Promise.all([a.process.ended, b.process.ended]);
              const told = acknowledged(guest);
              await Promise.all(guest.services.map((service) => service.end()));
              const there = await checkDisk(world.disk?.(both ? 'A' : 'B') ?? guest.disk);
              console.log(`${mode.name}: ${text}: ${told} acknowledged, ${there} there`);
              expect(there, text).toBeGreaterThanOrEqual(told);
            });
          } finally {
            await world.end();
          }
        }
      });
  },
);
