import fc from 'fast-check';
import { expect, test } from 'vitest';
import { guestNanoseconds, instructionCount } from '../base/units.ts';
import type { Input } from '../machine/door.ts';
import { decodeEntry, encodeEntry } from './codec.ts';
import { EntryOrder } from './entry-order.ts';
import { FRAME_TAG, FrameReader } from './frame.ts';
import type { LogEntry, LogPayload } from './log-entry.ts';

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const bytes = fc.uint8Array({ maxLength: 80 });
const byte = fc.nat(255);
const hash = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((raw) => Buffer.from(raw).toString('hex'));

const input: fc.Arbitrary<Input> = fc.oneof(
  fc.record({
    kind: fc.constant('clock' as const),
    guestTime: u64.map(guestNanoseconds),
    rate: fc.oneof(
      u64,
      fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }).map((units) => units << 16n),
    ),
    cap: u64.map(guestNanoseconds),
  }),
  fc.record({ kind: fc.constant('frame' as const), nic: byte, frame: bytes }),
  fc.record({
    kind: fc.constant('disk-completed' as const),
    disk: byte,
    request: fc.maxSafeNat(),
    status: fc.constantFrom('ok' as const, 'error' as const),
    data: bytes,
  }),
  fc.record({ kind: fc.constant('console' as const), port: byte, bytes }),
  fc.record({ kind: fc.constant('entropy' as const), seed: bytes }),
  fc.record({
    kind: fc.constant('control' as const),
    action: fc.constantFrom('power-button' as const, 'power-off' as const, 'reset' as const),
  }),
  fc.record({
    kind: fc.constant('control' as const),
    action: fc.constantFrom('disconnect' as const, 'connect' as const),
    nic: byte,
  }),
);

const payload: fc.Arbitrary<LogPayload> = fc.oneof(
  fc.record({ kind: fc.constant('input' as const), input }),
  fc.record({
    kind: fc.constant('output-mark' as const),
    output: u64,
    outputKind: fc.constantFrom(
      'frame' as const,
      'disk-request' as const,
      'console' as const,
      'power' as const,
    ),
    hash,
  }),
  fc.record({ kind: fc.constant('released' as const), output: u64 }),
  fc.record({ kind: fc.constant('digest' as const), digest: hash }),
  fc.record({ kind: fc.constant('end' as const), reason: fc.constantFrom('stopped' as const) }),
);

const entry: fc.Arbitrary<LogEntry> = fc
  .tuple(u64, u64, payload)
  .map(([sequence, at, rest]) => ({ sequence, at: instructionCount(at), ...rest }));

function decode(chunks: readonly Uint8Array[]): { entries: LogEntry[]; error: string | undefined } {
  const reader = new FrameReader();
  const entries: LogEntry[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (;;) {
      const frame = reader.next();
      if (!frame.ok) return { entries, error: frame.error };
      if (!frame.value) break;
      const decoded = decodeEntry(frame.value);
      if (!decoded.ok) return { entries, error: decoded.error };
      entries.push(decoded.value);
    }
  }
  return { entries, error: reader.atFrameBoundary ? undefined : 'truncated' };
}

const sample: LogEntry[] = [1n, 2n, 3n].map((sequence) => ({
  sequence,
  at: instructionCount(sequence * 100n),
  kind: 'input',
  input: { kind: 'frame', nic: 0, frame: Uint8Array.of(1, 2, 3, Number(sequence)) },
}));

test('every entry comes back as it was written, however the stream is cut', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 6 }), fc.nat(40), (entries, cut) => {
      const stream = Buffer.concat(entries.map(encodeEntry));
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < stream.length; at += cut + 1) chunks.push(stream.subarray(at, at + cut + 1));
      expect(decode(chunks)).toEqual({ entries, error: undefined });
    }),
    { numRuns: 200 },
  );
});

test('one changed bit anywhere is damage, and nothing from there on is given out', () => {
  const stream = Buffer.concat(sample.map(encodeEntry));
  for (let bit = 0; bit < stream.length * 8; bit++) {
    const damaged = Buffer.from(stream);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    const { entries, error } = decode([damaged]);
    expect(error).toBeDefined();
    expect(entries).toEqual(sample.slice(0, entries.length));
  }
});

test('a clock entry of a running guest has 32 bytes at most, so 250 a second are 64 kbit/s', () => {
  const encoded = encodeEntry({
    sequence: 100_000n,
    at: instructionCount(2n ** 41n),
    kind: 'input',
    input: {
      kind: 'clock',
      guestTime: guestNanoseconds(2n ** 41n),
      rate: 3n << 32n,
      cap: guestNanoseconds(2n ** 41n + 5_000_000n),
    },
  });
  expect(encoded.length).toBeLessThanOrEqual(32);
});

test('a number has one spelling: a longer one is refused', () => {
  for (const body of [
    [0x81, 0x00, 0x05],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x05],
    [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x05],
  ])
    expect(decodeEntry({ tag: FRAME_TAG.released, body: Uint8Array.from(body) })).toMatchObject({
      ok: false,
    });
});

test('a multiple that is written out is refused: it has a shorter spelling', () => {
  const clock = (...rate: number[]) => Uint8Array.from([1, 1, 0, ...rate, 6]);
  expect(decodeEntry({ tag: FRAME_TAG.clock, body: clock(2) })).toMatchObject({
    ok: true,
    value: { input: { rate: 1n << 16n, cap: 5_000_000n } },
  });
  expect(decodeEntry({ tag: FRAME_TAG.clock, body: clock(0, 1) })).toMatchObject({ ok: true });
  expect(decodeEntry({ tag: FRAME_TAG.clock, body: clock(0, 0x80, 0x80, 4) })).toMatchObject({ ok: false });
});

test('rubbish is refused at its first twelve bytes', () => {
  const reader = new FrameReader();
  reader.push(new Uint8Array(Buffer.from('GET / HTTP/1.1\r\n')));
  expect(reader.next()).toMatchObject({ ok: false });
});

test('another format version is named', () => {
  const frame = encodeEntry(sample[0]!);
  frame[4] = 9;
  expect(decode([frame]).error).toBe('frame 1 has log format 9, this program reads 3');
});

test('a gap, a repeat, a count that goes back and an entry after the end are refused by name', () => {
  const at = instructionCount(100n);
  const entryAt = (sequence: bigint, count = at): LogEntry => ({
    sequence,
    at: count,
    kind: 'released',
    output: 1n,
  });
  const after = (...entries: LogEntry[]): string => {
    const order = new EntryOrder();
    let error = '';
    for (const next of entries) {
      const result = order.admit(next);
      if (!result.ok) error = result.error;
    }
    return error;
  };
  expect(after(entryAt(1n), entryAt(3n))).toMatch(/entry 3 at count 100: entries from 2 on are missing/);
  expect(after(entryAt(1n), entryAt(1n))).toMatch(/entry 1 at count 100 is a repeat/);
  expect(after(entryAt(1n), entryAt(2n, instructionCount(7n)))).toMatch(/lies before count 100/);
  expect(after({ sequence: 1n, at, kind: 'end', reason: 'stopped' }, entryAt(2n))).toMatch(/follows the end/);
});

test('no two tags are the same', () => {
  const tags = Object.values(FRAME_TAG);
  expect(new Set(tags).size).toBe(tags.length);
});
