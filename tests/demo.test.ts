import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildImage } from '../src/host/image/build-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';

const MINUTES = 60_000;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-test-'));
  const image = await buildImage('demo', { progress: () => undefined });
  if (!image.ok) throw new Error(image.error);
}, 10 * MINUTES);
const started: ChildProcess[] = [];
afterAll(async () => {
  // A demo that a failing test left behind.
  for (const { pid, exitCode } of started)
    if (pid !== undefined && exitCode === null) process.kill(-pid, 'SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

/** The demo in a process group of its own, as a terminal would start it, with its files in `folder`. */
function start(...args: string[]): {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
} {
  const script = join(repositoryRoot(), 'dist/tools/demo.js');
  const child = spawn(process.execPath, [script, ...args], {
    detached: true,
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.push(child);
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, output: () => text, ended: new Promise((resolve) => child.once('close', resolve)) };
}

/** passt changes its user and its session's limits; its group stays. */
function processesOfGroup(group: number): string[] {
  const all = execFileSync('ps', ['-eo', 'pgid=,stat=,args=']).toString().split('\n');
  return all.filter((line) => Number.parseInt(line, 10) === group && !/^\s*\d+\s+Z/.test(line));
}

const missing = ['passt'].filter((program) => !existsSync(`/usr/bin/${program}`));

describe.skipIf(missing.length > 0)('the demo (needs passt)', () => {
  test(
    'a guest outlives the SIGKILL of its host: nothing is lost, one connection, no contradiction',
    async () => {
      const demo = start('--json');
      const code = await demo.ended;
      const lines = demo.output().trim().split('\n');
      const verdict = lines.findLast((line) => line.startsWith('{')) ?? '{}';
      expect(JSON.parse(verdict), demo.output()).toEqual({
        ok: true,
        connectionSurvived: true,
        acknowledgedWritesLost: 0,
        contradictions: 0,
        takeoverMs: expect.any(Number),
        longestClientGapMs: expect.any(Number),
        bootMs: expect.any(Number),
        lagMsP99: expect.any(Number),
      });
      expect(code).toBe(0);
      expect(processesOfGroup(demo.child.pid ?? 0)).toEqual([]);
      expect(await readdir(folder)).toEqual([]);
    },
    5 * MINUTES,
  );

  test(
    'Ctrl-C leaves no process and no file behind',
    async () => {
      const demo = start();
      const group = demo.child.pid ?? 0;
      while (!demo.output().includes('Protected')) await new Promise((resolve) => setTimeout(resolve, 50));
      expect(processesOfGroup(group).length).toBeGreaterThan(4);
      expect(await readdir(folder)).toHaveLength(1);
      process.kill(-group, 'SIGINT');
      expect(await demo.ended).toBe(130);
      expect(processesOfGroup(group)).toEqual([]);
      expect(await readdir(folder)).toEqual([]);
    },
    2 * MINUTES,
  );

  test('an unknown option is one line', async () => {
    const demo = start('--fast');
    expect(await demo.ended).toBe(2);
    expect(demo.output()).toBe('demo: --fast is unknown; there are --json and --keep\n');
  });
});
