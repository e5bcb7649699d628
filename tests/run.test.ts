import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assembledGuest } from './assembled-guest.ts';
import { LockstepProcess, lockstep, report } from './lockstep-process.ts';

/** `lockstep run` and `lockstep replay` around a small guest (guests/ticker.s). */
let folder = '';
let kernel = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-run-'));
  kernel = join(folder, 'ticker.bz');
  await writeFile(kernel, await assembledGuest('ticker'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const ticker = (command: string, ...options: string[]) => [
  ...['run', '--kernel', kernel, '--memory', '16M', '--append', command],
  ...options,
];

describe('the exit code of run', () => {
  it('is 0 when the guest powers off', async () => {
    const { code, stdout, stderr } = await lockstep(ticker('q'));
    expect(stdout).toMatch(/^TICKER\n[a-p]+$/);
    expect(stderr).toMatch(/^lockstep: the guest powered off after \d+ instructions, [\d.]+ s\n$/);
    expect(code).toBe(0);
  });

  it('is 0 on a reset with --no-reboot', async () => {
    const { code, stderr } = await lockstep(ticker('r', '--no-reboot'));
    expect(stderr).toContain('the guest was reset after');
    expect(code).toBe(0);
  });

  it('is (v << 1) | 1 when the guest writes v to the debug-exit port', async () => {
    const { code } = await lockstep(ticker('d', '--debug-exit'));
    expect(code).toBe((3 << 1) | 1);
  });

  it('is 143 after SIGTERM and 130 after SIGINT, with the recording ended in order', async () => {
    for (const [signal, expected] of [['SIGTERM', 143] as const, ['SIGINT', 130] as const]) {
      const recording = join(folder, `${signal}.rec`);
      const guest = new LockstepProcess(ticker('x', '--record', recording));
      await guest.says('TICKER');
      guest.child.kill(signal);
      expect((await guest.ended).code).toBe(expected);
      const replayed = await lockstep(['replay', recording]);
      expect(replayed.stderr).toContain('replayed to the end');
      expect(replayed.code).toBe(0);
    }
  });
});

it('starts a guest again that resets, without --no-reboot', async () => {
  const guest = new LockstepProcess(ticker('x'));
  for (let starts = 1; starts <= 3; starts++) {
    while (guest.stdout.split('TICKER').length - 1 < starts) await pause();
    guest.child.stdin.write(starts < 3 ? (starts === 1 ? 'r' : 't') : 'q');
  }
  const { code, stderr } = await guest.ended;
  expect(stderr).toContain('was reset and starts again');
  expect(stderr).toContain('was reset by a triple fault and starts again');
  expect(code).toBe(0);
});

it('passes standard input on, however much there is', async () => {
  const guest = new LockstepProcess(ticker('x'));
  await guest.says('TICKER');
  const text = 'zyxwvu'.repeat(4000);
  guest.child.stdin.write(`${text}q`);
  const { stdout, code } = await guest.ended;
  // The guest's own letters a to p come in between.
  expect(stdout.replace(/[A-Za-p\n]/g, '')).toBe(`${text}q`);
  expect(code).toBe(0);
});

it('says that a guest sleeps with interrupts off', async () => {
  const guest = new LockstepProcess(ticker('h'));
  await guest.says('TICKER');
  const deadline = 200;
  for (let tries = 0; tries < deadline && !guest.errors.includes('nothing will wake it'); tries++)
    await pause();
  guest.child.kill('SIGTERM');
  expect((await guest.ended).stderr).toContain('the guest is halted with interrupts off');
});

describe('a recording', () => {
  it('replays with the console, and may be read by its owner only', async () => {
    const recording = join(folder, 'owner.rec');
    const { stdout } = await lockstep(ticker('q', '--record', recording));
    expect((await stat(recording)).mode & 0o777).toBe(0o600);
    const replayed = await lockstep(['replay', recording, '--verify', '--json'], { cwd: '/' });
    expect(replayed.stdout).toBe(stdout);
    expect(report(replayed)).toMatchObject({ ok: true, verdict: 'equal' });
    expect(replayed.code).toBe(0);
  });

  it('of a recorder that was killed replays as far as it goes, and says so', async () => {
    const recording = join(folder, 'killed.rec');
    const guest = new LockstepProcess(ticker('b', '--record', recording));
    await guest.says('TICKER');
    const begun = (await stat(recording)).size;
    while ((await stat(recording)).size < begun + 4000) await pause();
    guest.child.kill('SIGKILL');
    await guest.ended;
    const replayed = await lockstep(['replay', recording]);
    expect(replayed.stderr).toMatch(
      /after entry \d+ \(count \d+\) is truncated: it has no end; .* are equal\n$/,
    );
    expect(replayed.code).toBe(1);
  });

  it('is not written over a file that is none', async () => {
    const precious = join(folder, 'precious.txt');
    await writeFile(precious, 'a thesis');
    const { code, stderr } = await lockstep(ticker('q', '--record', precious));
    expect(code).toBe(2);
    expect(stderr).toBe(`lockstep: recording ${precious} exists and is not a recording: give another name\n`);
    expect(await readFile(precious, 'utf8')).toBe('a thesis');
  });

  it('survives a run that cannot start', async () => {
    const recording = join(folder, 'older.rec');
    await lockstep(ticker('q', '--record', recording));
    const before = await readFile(recording);
    const { code } = await lockstep(['run', '--kernel', recording, '--record', recording]);
    expect(code).toBe(2);
    expect(await readFile(recording)).toEqual(before);
  });

  it('replays up to any count that is asked for', async () => {
    const recording = join(folder, 'until.rec');
    await lockstep(ticker('q', '--record', recording));
    const whole = report(await lockstep(['replay', recording, '--json']));
    const half = Math.floor((whole.count as number) / 2);
    const stopped = report(await lockstep(['replay', recording, '--json', '--until', String(half)]));
    expect(stopped).toMatchObject({ ok: true, verdict: 'until' });
    expect(stopped.count as number).toBeLessThanOrEqual(half);
    expect(stopped.count as number).toBeGreaterThan(half - 1000);
  });
});

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}
