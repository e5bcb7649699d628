import { readSync } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage } from '../src/host/image/build-image.ts';
import { replayRecording } from '../src/host/recording-replay.ts';
import { type Ended, LockstepProcess, lockstep, report } from './lockstep-process.ts';
import { otherNode } from './other-node.ts';

/**
 * Debian's own cloud kernel, busybox, python3 and redis with its benchmark, recorded once; the recording is what
 * the other tests here replay. This is the expensive file: a run costs half a minute of processor time.
 */
const MINUTES = 60_000;
const MEMORY_MB = 256;

let folder = '';
let recording = '';
let run: Ended;
/** The most memory that the process had beside the guest's touched RAM. */
let costMB = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-guest-'));
  recording = join(folder, 'recording');
  const image = await buildImage('check', { progress: () => {} });
  if (!image.ok) throw new Error(image.error);
  const { kernel, initrd, commandLine } = image.value;
  const guest = new LockstepProcess([
    ...['run', '--kernel', kernel, '--initrd', initrd, '--append', commandLine],
    ...['--memory', `${MEMORY_MB}M`, '--no-reboot', '--record', recording, '--json'],
  ]);
  guest.child.stdin.end();
  const sampling = setInterval(async () => {
    const cost = await memoryBesideTheGuest(guest.child.pid ?? 0);
    if (cost !== undefined && cost > costMB) costMB = cost;
  }, 500);
  run = await guest.ended;
  clearInterval(sampling);
}, 10 * MINUTES);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe("Debian's cloud kernel with its plain command line", () => {
  it('reaches userland and powers off', () => {
    expect(run.stdout).toContain('Linux version 6.');
    expect(run.stdout).toMatch(/LOCKSTEP-BOOT-READY Linux 6\./);
    expect(run.stdout).toContain('reboot: Power down');
    expect(report(run)).toMatchObject({ ok: true, end: 'off' });
    expect(run.code).toBe(0);
  });

  it('finds nothing to complain about', () => {
    expect(run.stdout).not.toMatch(/BUG:|WARNING:|Call Trace|Oops|panic|soft lockup|rcu.*stall/);
  });

  it('runs busybox, python3 and redis with right output', () => {
    for (const check of ['busybox', 'python', 'redis']) {
      expect(run.stdout).toContain(`LOCKSTEP-CHECK end ${check}`);
    }
    expect(run.stdout).not.toMatch(/LOCKSTEP-CHECK .*failed/);
    expect(run.stdout).toContain('LOCKSTEP-CHECK redis-benchmark ok');
    expect(run.stdout).toContain('LOCKSTEP-CHECK all ok');
  });

  it('costs its touched memory and at most 200 MB', () => {
    expect(costMB).toBeGreaterThan(50);
    expect(costMB).toBeLessThan(200);
  });
});

describe('its recording replays with the same digest at every logged point', () => {
  const expectEqual = (ended: Ended) => {
    const { reason, ...figures } = report(ended);
    expect(reason).toMatch(/^replayed to the end/);
    expect(figures).toMatchObject({ ok: true, verdict: 'equal', count: report(run).instructions });
    expect(figures.digests).toBeGreaterThan(20);
    expect(ended.stdout).toBe(run.stdout);
  };

  it(
    'in the interpreter, all of it',
    async () => {
      expectEqual(await lockstep(['replay', recording, '--verify', '--json', '--engine', 'interpreter']));
      // The run itself was compiled, for the most part: a billion instructions are checked against each other here.
      expect(report(run).jitShare).toBeGreaterThan(0.5);
      expect(report(run).instructions).toBeGreaterThan(1_000_000_000);
    },
    10 * MINUTES,
  );

  it(
    'with small regions that are compiled late and thrown away at any moment',
    async () => {
      const file = await open(recording);
      try {
        const buffer = Buffer.alloc(1 << 18);
        const next = () => {
          const length = readSync(file.fd, buffer, 0, buffer.length, null);
          return length === 0 ? undefined : Uint8Array.from(buffer.subarray(0, length));
        };
        const jit = { threshold: 100, window: 500_000, patience: 3, live: 300, shake: 5, regrow: 50 };
        const outcome = replayRecording(next, { engine: { engine: 'jit', jit }, until: 600_000_000n });
        expect(outcome).toMatchObject({ ok: true, value: { verdict: 'until', reason: '' } });
        // How many there are depends on the host's speed: they are made by the clock.
        expect(outcome.ok && outcome.value.figures.digests).toBeGreaterThan(4);
      } finally {
        await file.close();
      }
    },
    10 * MINUTES,
  );

  it(
    'with the smallest translation cache and in small steps',
    async () => {
      const options = ['--verify', '--json', '--tlb-entries', '16', '--budget', '4999'];
      const env = { TZ: 'Pacific/Chatham', LC_ALL: 'C' };
      expectEqual(await lockstep(['replay', recording, ...options], { cwd: '/', env }));
    },
    10 * MINUTES,
  );

  it(
    'on Node 24, with a large translation cache',
    async (context) => {
      const node = await otherNode(24);
      if (node === undefined) return context.skip('the npm package node@24 cannot be installed');
      expectEqual(
        await lockstep(['replay', recording, '--json', '--tlb-entries', '8192'], { node, cwd: '/' }),
      );
    },
    10 * MINUTES,
  );
});

/**
 * The process's resident memory without the touched pages of guest RAM. These lie in the one mapping that is larger
 * than the guest's memory, together with caches of the engine; the caches are counted as if wholly touched.
 */
async function memoryBesideTheGuest(pid: number): Promise<number | undefined> {
  const smaps = await readFile(`/proc/${pid}/smaps`, 'utf8').catch(() => '');
  let resident = 0;
  let largest = 0;
  let touched: number | undefined;
  let size = 0;
  for (const [, name, value] of smaps.matchAll(/^(Size|Rss): +(\d+) kB$/gm)) {
    if (name === 'Size') size = Number(value) / 1024;
    else {
      const here = Number(value) / 1024;
      resident += here;
      if (size < MEMORY_MB || size > 2 * MEMORY_MB || here < largest) continue;
      largest = here;
      touched = here - (size - MEMORY_MB);
    }
  }
  // Not yet: the guest is still being made.
  return touched === undefined || touched < 0 ? undefined : resident - touched;
}
