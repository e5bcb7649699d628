import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lockstep, report } from '../lockstep-process.ts';
import { judge, type Program, type Verdict } from './list.ts';
import { listedPrograms, prepareGuest } from './programs-guest.ts';

/** The fast share of tests/programs/list: Debian's programs in one guest, and a replay of its recording. */

const MINUTES = 60_000;
const programs: Program[] = (await listedPrograms()).filter(({ fast }) => fast);

let folder = '';
let recording = '';
let console_ = '';
let verdicts: Verdict[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-programs-'));
  recording = join(folder, 'recording');
  const guest = await prepareGuest(programs, folder, 'cloud', () => {});
  const run = await lockstep([
    ...['run', '--kernel', guest.kernel, '--initrd', guest.initrd, '--append', guest.commandLine],
    ...['--disk', guest.disk, '--memory', '512M', '--no-reboot', '--record', recording, '--json'],
  ]);
  console_ = run.stdout;
  verdicts = judge(programs, console_);
}, 20 * MINUTES);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('a program does what it does on a real processor', () => {
  it.each(programs.map(({ name }) => name))('%s', (name) => {
    expect(verdicts.find((verdict) => verdict.name === name)?.problem).toBeUndefined();
  });
});

it(
  'replays equal',
  async () => {
    const replayed = await lockstep(['replay', recording, '--json']);
    expect(report(replayed)).toMatchObject({ ok: true, verdict: 'equal' });
    expect(replayed.stdout).toBe(console_);
  },
  10 * MINUTES,
);
