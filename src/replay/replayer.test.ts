import { expect, test } from 'vitest';
import { ToyMachine } from '../../tests/toy-machine.ts';
import { type GuestNanoseconds, guestNanoseconds, instructionCount } from '../base/units.ts';
import type { OutputSink } from '../machine/door.ts';
import { encodeEntry } from './codec.ts';
import { FRAME_HEADER_BYTES } from './frame.ts';
import type { LogEntry, LogPayload } from './log-entry.ts';
import { LOG_START } from './position.ts';
import { Recorder } from './recorder.ts';
import { RecordingReader, RecordingWriter } from './recording.ts';
import { Replayer } from './replayer.ts';

/** A live run of the toy guest with clock entries, requests, halts and early stops. */
function record(rounds: number): { bytes: Uint8Array; digest: string; entries: LogEntry[] } {
  let sink: OutputSink = { output: () => {} };
  const machine = new ToyMachine({ output: (output) => sink.output(output) });
  const chunks: Uint8Array[] = [];
  const writer = new RecordingWriter(
    {
      configuration: Uint8Array.of(7),
      image: machine.snapshot(),
      count: machine.count,
      position: LOG_START,
    },
    (bytes) => chunks.push(bytes),
  );
  const disk: number[] = [];
  const recorder = new Recorder(
    machine,
    {
      entry: (at, payload: LogPayload) => writer.entry(at, payload),
      output: (numbered) => {
        writer.output(numbered);
        if (numbered.output.kind === 'disk-request') disk.push(numbered.output.request);
      },
    },
    LOG_START,
  );
  sink = recorder;
  let time = 0n;
  for (let round = 0; round < rounds; round++) {
    time += BigInt((round * 977) % 4000) * 1000n;
    if (recorder.halted || round % 2 === 0) {
      const guestTime: GuestNanoseconds = guestNanoseconds(
        time > machine.guestTime ? time : machine.guestTime,
      );
      recorder.apply({
        kind: 'clock',
        guestTime,
        rate: 1000n << 32n,
        cap: guestNanoseconds(guestTime + 90_000n),
      });
    }
    if (round % 5 === 0)
      recorder.apply({ kind: 'frame', nic: 0, frame: Uint8Array.of(round & 255, round & 3) });
    if (round % 11 === 0) recorder.apply({ kind: 'console', port: 0, bytes: Uint8Array.of(65) });
    const completed = round % 3 === 0 ? disk.shift() : undefined;
    if (completed !== undefined) {
      recorder.apply({
        kind: 'disk-completed',
        disk: 0,
        request: completed,
        status: 'ok',
        data: new Uint8Array(0),
      });
    }
    if (round % 17 === 0 && !recorder.halted) recorder.digest();
    machine.stopRequested = round % 13 === 0;
    recorder.run(instructionCount(machine.count + BigInt(1 + (round % 50))));
  }
  if (recorder.halted) {
    recorder.apply({ kind: 'clock', guestTime: machine.guestTime, rate: 0n, cap: machine.guestTime });
  }
  recorder.digest();
  recorder.end('stopped');
  const bytes = Buffer.concat(chunks);
  return { bytes, digest: machine.digest(), entries: read(bytes).entries };
}

function read(bytes: Uint8Array, chunk = 1000): { entries: LogEntry[]; error: string | undefined } {
  const reader = new RecordingReader();
  const entries: LogEntry[] = [];
  for (let at = 0; at < bytes.length; at += chunk) {
    const pushed = reader.push(bytes.subarray(at, at + chunk));
    if (!pushed.ok) return { entries, error: pushed.error };
    for (;;) {
      const item = reader.next();
      if (!item.ok) return { entries, error: item.error };
      if (!item.value) break;
      if (item.value.kind === 'entry') entries.push(item.value.entry);
    }
  }
  const finished = reader.finish();
  return { entries, error: finished.ok ? undefined : finished.error };
}

function replay(
  entries: readonly LogEntry[],
  budget = 1_000_000n,
  stopEvery = 0,
): { digest: string; outcome: string } {
  let sink: OutputSink = { output: () => {} };
  const machine = new ToyMachine({ output: (output) => sink.output(output) });
  const replayer = new Replayer(machine, LOG_START);
  sink = replayer;
  for (const entry of entries) replayer.feed(entry);
  for (let steps = 1; ; steps++) {
    machine.stopRequested = stopEvery > 0 && steps % stopEvery === 0;
    const step = replayer.step(budget);
    if (step.kind === 'busy') continue;
    return { digest: machine.digest(), outcome: step.kind === 'diverged' ? step.reason : step.kind };
  }
}

test('a recording replays to the same state, whatever pieces it is replayed in', () => {
  const recorded = record(3000);
  expect(recorded.entries.length).toBeGreaterThan(3000);
  for (const budget of [1n, 7n, 1_000_000n]) {
    expect(replay(recorded.entries, budget)).toEqual({ digest: recorded.digest, outcome: 'ended' });
  }
});

test('a stop asked for at any moment, before a halt too, changes nothing of the replay', () => {
  const recorded = record(3000);
  for (const stopEvery of [2, 3, 7]) {
    const outcome = replay(recorded.entries, 5n, stopEvery);
    expect(outcome).toEqual({ digest: recorded.digest, outcome: 'ended' });
  }
});

test('a replayer never executes past the last entry it was given', () => {
  const recorded = record(300);
  let sink: OutputSink = { output: () => {} };
  const machine = new ToyMachine({ output: (output) => sink.output(output) });
  const replayer = new Replayer(machine, LOG_START);
  sink = replayer;
  for (const entry of recorded.entries) {
    replayer.feed(entry);
    while (replayer.step(1000n).kind === 'busy');
    expect(machine.count <= entry.at || entry.kind === 'released').toBe(true);
  }
  expect(machine.digest()).toBe(recorded.digest);
});

/** Reads and replays: the first complaint of either. */
function verdict(bytes: Uint8Array): string {
  const { entries, error } = read(bytes);
  const { outcome } = replay(entries);
  return outcome.startsWith('divergence') ? outcome : (error ?? outcome);
}

/** The frames of a recording that are entries, as ranges of bytes. */
function entryFrames(bytes: Uint8Array): { from: number; to: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: { from: number; to: number }[] = [];
  for (let from = 8; from < bytes.length; ) {
    const to = from + FRAME_HEADER_BYTES + view.getUint32(from, true);
    if (view.getUint8(from + 5) < 64) frames.push({ from, to });
    from = to;
  }
  return frames;
}

test('dropping, repeating or altering any one entry is reported, with the count', () => {
  const { bytes, entries } = record(120);
  const frames = entryFrames(bytes);
  expect(frames.length).toBe(entries.length);
  const complaint = /count \d+/;
  for (const [index, { from, to }] of frames.entries()) {
    const frame = bytes.subarray(from, to);
    const before = bytes.subarray(0, from);
    const after = bytes.subarray(to);
    expect(verdict(Buffer.concat([before, after]))).toMatch(complaint);
    expect(verdict(Buffer.concat([before, frame, frame, after]))).toMatch(complaint);
    const damaged = Buffer.from(frame);
    damaged[damaged.length - 1]! ^= 1;
    expect(verdict(Buffer.concat([before, damaged, after]))).toMatch(complaint);
    // Altered by someone who mends the checksum too.
    const altered = alter(entries[index]!);
    if (altered) expect(verdict(Buffer.concat([before, encodeEntry(altered), after]))).toMatch(complaint);
  }
});

test('an input, a mark and a digest that the machine does not agree with are divergence', () => {
  const { entries } = record(200);
  let found = 0;
  for (const [index, entry] of entries.entries()) {
    const changed = alter(entry);
    if (!changed || (changed.kind === 'input' && changed.input.kind === 'clock')) continue;
    const log = [...entries.slice(0, index), changed, ...entries.slice(index + 1)];
    expect(replay(log).outcome).toMatch(/^divergence at count \d+: /);
    found++;
  }
  expect(found).toBeGreaterThan(50);
});

function alter(entry: LogEntry): LogEntry | undefined {
  const { sequence, at } = entry;
  if (entry.kind === 'output-mark') return { ...entry, hash: 'f'.repeat(32) };
  if (entry.kind === 'digest') return { ...entry, digest: '0'.repeat(32) };
  if (entry.kind !== 'input') return undefined;
  const input = entry.input;
  if (input.kind === 'frame') {
    return { sequence, at, kind: 'input', input: { ...input, frame: Uint8Array.of(250, 3) } };
  }
  if (input.kind === 'clock') {
    return {
      sequence,
      at,
      kind: 'input',
      input: { ...input, guestTime: guestNanoseconds(input.guestTime + 1n) },
    };
  }
  return undefined;
}

test('a recording that is cut anywhere is reported as truncated, after all that it still holds', () => {
  const recorded = record(40);
  for (let length = 0; length < recorded.bytes.length; length += 7) {
    const { entries, error } = read(recorded.bytes.subarray(0, length));
    expect(error).toMatch(/truncated/);
    expect(entries).toEqual(recorded.entries.slice(0, entries.length));
  }
});

test('a damaged recording names the last good entry', () => {
  const { bytes, entries } = record(100);
  const damaged = Buffer.from(bytes);
  damaged[damaged.length - 100]! ^= 1;
  const result = read(damaged);
  const last = entries[result.entries.length - 1];
  expect(result.error).toContain(`after entry ${last?.sequence} (count ${last?.at})`);
  expect(result.error).not.toContain('\n');
});

test('a file that is no recording is named so', () => {
  expect(read(Buffer.from('not a recording at all')).error).toBe('this is not a Lockstep recording');
});
