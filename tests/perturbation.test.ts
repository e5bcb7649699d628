import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type GuestNanoseconds, guestNanoseconds, instructionCount } from '../src/base/units.ts';
import { buildImage } from '../src/host/image/build-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { type ReplayOptions, type ReplayOutcome, replayRecording } from '../src/host/recording-replay.ts';
import { encodeConfig, type MachineConfig } from '../src/machine/config.ts';
import { createMachine, LockstepMachine } from '../src/machine/machine.ts';
import { PortSpace } from '../src/machine/ports.ts';
import { LOG_START } from '../src/replay/position.ts';
import { outputMark, Recorder } from '../src/replay/recorder.ts';
import { RecordingWriter } from '../src/replay/recording.ts';
import { EXCEPTION_IN_PURE_CODE } from '../tools/layout.ts';
import { impurities } from '../tools/pure-source.ts';
import { assembledGuest } from './assembled-guest.ts';
import { type Ended, type LockstepOptions, LockstepProcess, lockstep, report } from './lockstep-process.ts';
import { otherNode } from './other-node.ts';

/**
 * One proof for all of it (design 3): a recording replays equal whatever else is different on the host; and what
 * must not be there is noticed when it is put there.
 */
const MINUTES = 60_000;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-perturbed-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the start of a Debian kernel replays equal', () => {
  let recording = '';
  let live: Ended;

  beforeAll(async () => {
    recording = join(folder, 'kernel');
    const image = await buildImage('boot', { progress: () => {} });
    if (!image.ok) throw new Error(image.error);
    const { kernel, initrd, commandLine } = image.value;
    const guest = new LockstepProcess([
      ...['run', '--kernel', kernel, '--initrd', initrd, '--append', `${commandLine} cryptomgr.notests`],
      ...['--memory', '128M', '--record', recording, '--json'],
    ]);
    // Page tables, interrupts, timers, the first sixty lines: enough happened.
    await guest.says('Dentry cache');
    guest.child.kill('SIGINT');
    live = await guest.ended;
    expect(report(live)).toMatchObject({ ok: true, end: 'SIGINT' });
    // Much of it ran in compiled code, so that what compiles at other moments, or not at all, would show.
    expect(report(live).jitShare).toBeGreaterThan(0.1);
  }, 5 * MINUTES);

  async function expectEqual(options: LockstepOptions, flags: readonly string[] = []): Promise<void> {
    const ended = await lockstep(['replay', recording, '--json', ...flags], options);
    const { reason, ...figures } = report(ended);
    expect(reason).toMatch(/^replayed to the end/);
    expect(figures).toMatchObject({ ok: true, verdict: 'equal', count: report(live).instructions });
    expect(figures.digests).toBeGreaterThan(3);
    expect(ended.stdout).toBe(live.stdout);
  }

  it.each([
    ['the baseline compiler alone', ['--liftoff-only']],
    ['the optimizing compiler alone', ['--no-liftoff']],
    ['optimized code from the first call on', ['--wasm-tiering-budget=1', '--always-sparkplug']],
    ['no optimized JavaScript', ['--no-opt', '--no-sparkplug']],
    [
      'a collection every few hundred allocations, in a small young heap',
      ['--gc-interval=500', '--max-semi-space-size=1'],
    ],
    ['one thread', ['--single-threaded']],
  ])('with %s', (_, nodeFlags) => expectEqual({ nodeFlags }), 5 * MINUTES);

  it.each([
    ['by the interpreter alone', ['--engine', 'interpreter']],
    ['by the compiler, in small pieces', ['--engine', 'jit', '--budget', '9973']],
  ])('%s', (_, flags) => expectEqual({}, flags), 5 * MINUTES);

  it(
    'with heaps that move at each collection, for a part of it',
    async () => {
      const until = 20_000_000;
      const replay = async (nodeFlags: readonly string[]) =>
        report(await lockstep(['replay', recording, '--json', '--until', String(until)], { nodeFlags }));
      const plain = await replay([]);
      expect(plain).toMatchObject({ ok: true, verdict: 'until', count: until });
      expect(await replay(['--stress-compaction'])).toMatchObject({
        ok: true,
        count: until,
        digest: plain.digest,
      });
    },
    5 * MINUTES,
  );

  it(
    'in another time zone, with another locale, from another folder',
    () =>
      expectEqual({ cwd: '/', env: { TZ: 'Pacific/Chatham', LANG: 'tr_TR.UTF-8', LC_ALL: 'tr_TR.UTF-8' } }),
    5 * MINUTES,
  );

  it(
    'forty years on, with a monotonic clock that started elsewhere',
    async () => {
      const shim = join(folder, 'later.cjs');
      await writeFile(shim, LATER);
      await expectEqual({ nodeFlags: ['--require', shim] });
    },
    5 * MINUTES,
  );

  it(
    'while other processes take the processors',
    async () => {
      const busy = Array.from({ length: availableParallelism() }, () =>
        spawn(process.execPath, ['-e', 'for (;;) ;']),
      );
      try {
        await expectEqual({}, ['--budget', '9973']);
      } finally {
        for (const child of busy) child.kill('SIGKILL');
      }
    },
    5 * MINUTES,
  );

  it(
    'on Node 24, with everything else different as well',
    async (context) => {
      const node = await otherNode(24);
      if (node === undefined) return context.skip('the npm package node@24 cannot be installed');
      await expectEqual({ node, env: { TZ: 'America/St_Johns' }, nodeFlags: ['--liftoff-only'] }, [
        '--tlb-entries',
        '16',
      ]);
    },
    5 * MINUTES,
  );
});

/** Loaded before everything else: every clock of the process runs elsewhere. */
const LATER = `
const shift = 40 * 365.25 * 86_400_000;
const Real = Date;
const now = () => Real.now() + shift;
globalThis.Date = new Proxy(Real, {
  construct: (_, words) => (words.length === 0 ? new Real(now()) : new Real(...words)),
  get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
});
const since = performance.now.bind(performance);
performance.now = () => since() * 1.7 + 1e9;
const { hrtime } = process;
const big = hrtime.bigint.bind(hrtime);
process.hrtime.bigint = () => big() * 2n + 10n ** 18n;
`;

describe('what must not be there is noticed', () => {
  const config: MachineConfig = {
    memoryBytes: 16 * 2 ** 20,
    disks: [],
    nics: [],
    startEpochSeconds: 1_700_000_000,
    seed: '07'.repeat(32),
    debugExit: true,
  };
  let kernel: Uint8Array;

  beforeAll(async () => {
    kernel = await assembledGuest('ticker');
  });
  afterEach(() => vi.restoreAllMocks());

  /** A second of the ticker's life; it echoes what it is sent. */
  function record(): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    let recorder: Recorder | undefined;
    const made = createMachine(
      config,
      { kernel, initrd: new Uint8Array(0), commandLine: 'x' },
      { output: (output) => recorder?.output(output) },
    );
    if (!made.ok) throw new Error(made.error);
    const machine = made.value;
    const start = {
      configuration: encodeConfig(config),
      image: machine.snapshot(),
      count: machine.count,
      position: LOG_START,
    };
    const writer = new RecordingWriter(start, (bytes) => chunks.push(bytes));
    recorder = new Recorder(
      machine,
      {
        entry: (at, payload) => writer.entry(at, payload),
        output: (output) => writer.entry(output.at, outputMark(output)),
      },
      LOG_START,
    );
    let time: GuestNanoseconds = guestNanoseconds(0n);
    for (let round = 0; round < 300; round++) {
      time = guestNanoseconds(time + 3_300_000n);
      recorder.apply({
        kind: 'clock',
        guestTime: time,
        rate: 100n << 32n,
        cap: guestNanoseconds(time + 3_000_000n),
      });
      if (round % 20 === 19) recorder.digest();
      if (round > 20 && round % 10 === 0)
        recorder.apply({ kind: 'console', port: 0, bytes: Uint8Array.of(0x41 + (round % 23)) });
      recorder.run(instructionCount(machine.count + 5000n));
    }
    recorder.apply({ kind: 'clock', guestTime: machine.guestTime, rate: 0n, cap: machine.guestTime });
    recorder.digest();
    recorder.end('stopped');
    return chunks;
  }

  function replay(chunks: readonly Uint8Array[], options: ReplayOptions = {}): ReplayOutcome {
    const source = chunks[Symbol.iterator]();
    const outcome = replayRecording(() => source.next().value, options);
    if (!outcome.ok) throw new Error(outcome.error);
    return outcome.value;
  }

  /** From here on the serial port's data register is read with an error. */
  function plant(leak: (byte: number) => number): void {
    const honest = PortSpace.prototype.read;
    vi.spyOn(PortSpace.prototype, 'read').mockImplementation(function (this: PortSpace, port, size) {
      const value = honest.call(this, port, size);
      return port === 0x3f8 ? value ^ (leak(value) & 0x0f) : value;
    });
  }

  function expectDivergence({ verdict, reason, figures }: ReplayOutcome): void {
    expect(verdict).toBe('diverged');
    expect(reason).toMatch(/^divergence at count \d+: [^\n]+$/);
    const count = Number(/count (\d+)/.exec(reason)?.[1]);
    expect(count).toBeGreaterThan(0);
    expect(count).toBeLessThanOrEqual(Number(figures.count));
  }

  it('and without it the recording is equal', () => {
    const chunks = record();
    const { verdict, figures } = replay(chunks, { verify: true });
    expect(verdict).toBe('equal');
    expect(figures.outputs).toBeGreaterThan(30);
    expect(figures.digests).toBeGreaterThan(3);
    expect(replay(chunks, { budget: 7n }).verdict).toBe('equal');
  });

  it('a device that reads the clock of its host', () => {
    plant(() => Number(process.hrtime.bigint() >> 4n));
    expectDivergence(replay(record()));
  });

  it('a device that asks a Map for its first key, whose order came with the slices of the run', () => {
    const slices = new Map<bigint, true>();
    const honest = LockstepMachine.prototype.runUntil;
    vi.spyOn(LockstepMachine.prototype, 'runUntil').mockImplementation(function (
      this: LockstepMachine,
      until,
    ) {
      slices.set(until % 13n, true);
      return honest.call(this, until);
    });
    let reads = 0n;
    plant(() => Number([...slices.keys()][Number(reads++ % BigInt(slices.size))]!));
    const chunks = record();
    slices.clear();
    reads = 0n;
    expectDivergence(replay(chunks, { budget: 4999n }));
  });

  it('a result of Math.pow, once another version gives another last bit', () => {
    const view = new DataView(new ArrayBuffer(8));
    plant((byte) => {
      // biome-ignore lint/style/useExponentiationOperator: the function is what is replaced below.
      view.setFloat64(0, Math.pow(byte, 1.1), true);
      return view.getUint8(0);
    });
    const chunks = record();
    expect(replay(chunks).verdict).toBe('equal');
    const { pow } = Math;
    vi.spyOn(Math, 'pow').mockImplementation((base, exponent) => pow(base, exponent) * (1 + Number.EPSILON));
    expectDivergence(replay(chunks));
  });

  it('and nothing in the machine reads a clock, a random number or a transcendental of Math', async () => {
    // Whatever lies above the line of ports (ARCHITECTURE.md) must be a function of its inputs.
    const withHostAccess = new Set(['cli', 'host', 'network', 'storage', 'transport']);
    const pure = (await readdir(join(repositoryRoot(), 'src'))).filter(
      (area) => !withHostAccess.has(area) && !area.includes('.'),
    );
    const found: string[] = [];
    let files = 0;
    for (const area of pure) {
      for (const name of await readdir(join(repositoryRoot(), 'src', area), { recursive: true })) {
        if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue;
        files += 1;
        const text = await readFile(join(repositoryRoot(), 'src', area, name), 'utf8');
        const excepted = `src/${area}/${name}` === EXCEPTION_IN_PURE_CODE.path;
        const rest = excepted ? text.replace(EXCEPTION_IN_PURE_CODE.text, 'undefined') : text;
        for (const what of impurities(rest)) found.push(`${area}/${name}: ${what}`);
      }
    }
    expect(found).toEqual([]);
    expect(files).toBeGreaterThan(100);
  });
});
