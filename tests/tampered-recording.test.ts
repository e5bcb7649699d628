import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { guestNanoseconds } from '../src/base/units.ts';
import { type ReplayOptions, type ReplayOutcome, replayRecording } from '../src/host/recording-replay.ts';
import { decodeEntry, encodeEntry } from '../src/replay/codec.ts';
import { encodeFrame, FRAME_HEADER_BYTES, FRAME_TAG } from '../src/replay/frame.ts';
import type { LogEntry } from '../src/replay/log-entry.ts';
import { RECORDING_MAGIC } from '../src/replay/recording.ts';
import { assembledGuest } from './assembled-guest.ts';
import { LockstepProcess } from './lockstep-process.ts';
import { Random } from './silicon/random.ts';

/** One small recording of a real machine, replayed whole and with one entry changed. */
let folder = '';
let recording: Frames;

/** A recording cut into its frames; `entries` are the places of the log entries among them. */
interface Frames {
  readonly frames: readonly Uint8Array[];
  readonly entries: readonly number[];
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lockstep-tampered-'));
  const kernel = join(folder, 'ticker.bz');
  const file = join(folder, 'recording');
  await writeFile(kernel, await assembledGuest('ticker'));
  const guest = new LockstepProcess([
    ...['run', '--kernel', kernel, '--memory', '16M', '--append', 'x', '--record', file],
  ]);
  await guest.says('TICKER\n');
  for (const text of ['z', 'yx', 'w']) {
    const { size } = await stat(file);
    guest.child.stdin.write(text);
    // Dozens of clock entries, whatever else happens on this host.
    while ((await stat(file)).size < size + 5000) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  guest.child.stdin.write('q');
  expect((await guest.ended).code).toBe(0);
  recording = cut(new Uint8Array(await readFile(file)));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function cut(bytes: Uint8Array): Frames {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Uint8Array[] = [];
  const entries: number[] = [];
  for (let from = RECORDING_MAGIC.length; from < bytes.length; ) {
    const to = from + FRAME_HEADER_BYTES + view.getUint32(from, true);
    if (view.getUint8(from + 5) < FRAME_TAG['recording-header']) entries.push(frames.length);
    frames.push(bytes.slice(from, to));
    from = to;
  }
  return { frames, entries };
}

function replay(frames: readonly Uint8Array[], options: ReplayOptions = {}): ReplayOutcome {
  const chunks = [RECORDING_MAGIC, ...frames][Symbol.iterator]();
  const outcome = replayRecording(() => chunks.next().value, options);
  if (!outcome.ok) throw new Error(outcome.error);
  return outcome.value;
}

function entryOf(frame: Uint8Array): LogEntry {
  const decoded = decodeEntry({ tag: frame[5]!, body: frame.subarray(FRAME_HEADER_BYTES) });
  if (!decoded.ok) throw new Error(decoded.error);
  return decoded.value;
}

/** Without the frames that prove all entries at once, so that what finds a change is the machine. */
function unproved(frames: readonly Uint8Array[]): Uint8Array[] {
  return frames.filter((frame) => frame[5] !== FRAME_TAG['recording-check']);
}

describe('a recording replays to the same state', () => {
  it('with translation caches of 16, 1,024 and 8,192 entries', () => {
    const digests = [16, 1024, 8192].map((tlbEntries) => {
      const { verdict, digest } = replay(recording.frames, { verify: true, engine: { tlbEntries } });
      expect(verdict).toBe('equal');
      return digest;
    });
    expect(new Set(digests).size).toBe(1);
  });

  it('with any budget, down to one instruction at a time', () => {
    const digests = [1n, 3n, 1000n, 1_000_000n].map((budget) => {
      const { verdict, digest } = replay(recording.frames, { budget });
      expect(verdict).toBe('equal');
      return digest;
    });
    expect(new Set(digests).size).toBe(1);
  });
});

/** Spread over the recording, so that a few tests see all kinds of entries. */
function some(count: number, seed: number): number[] {
  const next = new Random(seed);
  return Array.from({ length: count }, () => recording.entries[next.below(recording.entries.length)]!);
}

describe('one changed entry is reported, with the count:', () => {
  const expectReport = ({ verdict, reason }: ReplayOutcome) => {
    expect(['damaged', 'diverged', 'truncated']).toContain(verdict);
    expect(reason).toMatch(/^[^\n]*count \d+[^\n]*$/);
  };

  it('an entry that is not there', () => {
    for (const at of some(40, 1)) expectReport(replay(recording.frames.filter((_, index) => index !== at)));
  });

  it('an entry that is there twice', () => {
    for (const at of some(40, 2)) {
      expectReport(
        replay(recording.frames.flatMap((frame, index) => (index === at ? [frame, frame] : [frame]))),
      );
    }
  });

  it('an entry with one bit flipped', () => {
    const next = new Random(3);
    for (const at of some(40, 4)) {
      const frame = recording.frames[at]!.slice();
      frame[next.below(frame.length)]! ^= 1 << next.below(8);
      expectReport(replay(recording.frames.with(at, frame)));
    }
  });

  it('an entry with one bit flipped and its checksum mended', () => {
    const next = new Random(5);
    for (const at of some(40, 6)) {
      const frame = recording.frames[at]!.slice();
      frame[FRAME_HEADER_BYTES + next.below(frame.length - FRAME_HEADER_BYTES)]! ^= 1 << next.below(8);
      expectReport(
        replay(recording.frames.with(at, encodeFrame(frame[5]!, frame.subarray(FRAME_HEADER_BYTES)))),
      );
    }
  });
});

describe('with every proof but the machine taken away, divergence is what reports', () => {
  it('a changed output mark or digest, always', () => {
    const marks = recording.entries.filter((at) => {
      const { kind } = entryOf(recording.frames[at]!);
      return kind === 'output-mark' || kind === 'digest';
    });
    for (const at of marks) {
      const entry = entryOf(recording.frames[at]!);
      const hash = 'f'.repeat(32);
      const changed = entry.kind === 'digest' ? { ...entry, digest: hash } : { ...entry, hash };
      const outcome = replay(unproved(recording.frames.with(at, encodeEntry(changed as LogEntry))));
      expect(outcome.verdict).toBe('diverged');
      expect(outcome.reason).toMatch(/^divergence at count \d+: [^\n]+$/);
    }
  });

  it('a changed console byte, by the next output or digest', () => {
    for (const at of recording.entries) {
      const entry = entryOf(recording.frames[at]!);
      if (entry.kind !== 'input' || entry.input.kind !== 'console') continue;
      const bytes = entry.input.bytes.map((byte) => byte ^ 1);
      const changed = { ...entry, input: { ...entry.input, bytes } };
      expect(replay(unproved(recording.frames.with(at, encodeEntry(changed)))).verdict).toBe('diverged');
    }
  });

  it('a changed clock, by the next digest', () => {
    const clocks = recording.entries.filter((at) => {
      const entry = entryOf(recording.frames[at]!);
      return entry.kind === 'input' && entry.input.kind === 'clock';
    });
    for (const [index, at] of clocks.entries()) {
      const entry = entryOf(recording.frames[at]!);
      if (entry.kind !== 'input' || entry.input.kind !== 'clock') continue;
      if (index % Math.ceil(clocks.length / 12) !== 0) continue;
      // A second later, so that no later clock entry makes up for it before the next digest.
      const guestTime = guestNanoseconds(entry.input.guestTime + 1_000_000_000n);
      const cap = guestNanoseconds(entry.input.cap + 1_000_000_000n);
      const changed = { ...entry, input: { ...entry.input, guestTime, cap } };
      expect(replay(unproved(recording.frames.with(at, encodeEntry(changed)))).verdict).toBe('diverged');
    }
    expect(clocks.length).toBeGreaterThan(10);
  });
});
