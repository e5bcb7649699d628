import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Ended, lockstep } from '../lockstep-process.ts';
import { judge, type Program } from './list.ts';
import { listedPrograms, prepareGuest } from './programs-guest.ts';

/** Debian's generic kernel: another compression, other drivers, ext4 from modules; the whole list runs by hand. */

const MINUTES = 60_000;
const NAMES = ['segments-16', 'i386-shell', 'sqlite'];
const programs: Program[] = (await listedPrograms()).filter(({ name }) => NAMES.includes(name));
let folder = '';
let run: Ended;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-generic-'));
  const guest = await prepareGuest(programs, folder, 'generic', () => {});
  run = await lockstep([
    ...['run', '--kernel', guest.kernel, '--initrd', guest.initrd, '--append', guest.commandLine],
    ...['--disk', guest.disk, '--memory', '512M', '--no-reboot'],
  ]);
}, 20 * MINUTES);

afterAll(() => rm(folder, { recursive: true, force: true }));

it('boots, mounts its disk and powers off', () => {
  expect(run.stdout).toMatch(/LOCKSTEP-BOOT-READY Linux \d+\.\d+\.\d+-\d+-amd64\r?\n/);
  expect(run.stdout).toMatch(/LOCKSTEP-PROGRAMS over/);
  expect(run.code).toBe(0);
});

it('runs 16-bit, 32-bit and 64-bit programs', () => {
  expect(programs.length).toBe(NAMES.length);
  expect(judge(programs, run.stdout).filter(({ problem }) => problem !== undefined)).toEqual([]);
});
