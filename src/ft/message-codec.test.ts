import fc from 'fast-check';
import { expect, test } from 'vitest';
import { INTRODUCED } from '../../tests/greetings.ts';
import { instructionCount } from '../base/units.ts';
import { FrameReader } from '../replay/frame.ts';
import { epoch, instanceId, vmId } from './identity.ts';
import type { Heartbeat, Message } from './message.ts';
import { decodeHeartbeat, decodeMessage, encodeHeartbeat, encodeMessage } from './message-codec.ts';
import { SnapshotReception } from './snapshot-reception.ts';

const envelope = { vm: vmId('vm-é'), generation: epoch(7), sender: instanceId('a') };
const count = instructionCount(99n);
const hash = '0123456789abcdef'.repeat(2);
const messages: Message[] = [
  { kind: 'hello', ...envelope, ...INTRODUCED, fresh: true, attempt: 1, purpose: 'pair' },
  { kind: 'welcome', ...envelope, ...INTRODUCED, loaded: true, received: 12n },
  {
    kind: 'snapshot-begin',
    bytes: 3,
    count,
    position: { outputs: 4n },
    released: 3n,
    digest: hash,
    stoodUs: 7,
    faultTolerance: true,
  },
  {
    kind: 'held-output',
    output: { number: 4n, at: count, hash, output: { kind: 'frame', nic: 0, frame: Uint8Array.of(1, 2) } },
  },
  {
    kind: 'held-output',
    output: {
      number: 5n,
      at: count,
      hash,
      output: {
        kind: 'disk-request',
        disk: 0,
        request: 9,
        operation: 'write',
        offset: 2 ** 40,
        length: 2,
        data: Uint8Array.of(5, 6),
      },
    },
  },
  {
    kind: 'held-output',
    output: { number: 6n, at: count, hash, output: { kind: 'power', state: 'off', value: 0 } },
  },
  { kind: 'snapshot-part', bytes: Uint8Array.of(7, 8, 9) },
  { kind: 'snapshot-end' },
  { kind: 'entry', entry: { sequence: 1n, at: count, kind: 'released', output: 3n } },
  { kind: 'ack', received: 5n, replayed: 4n },
  { kind: 'take-over', faultTolerance: true },
  { kind: 'over', epoch: epoch(8) },
  { kind: 'diverged', reason: 'divergence at count 7' },
];

function decode(bytes: Uint8Array): ReturnType<typeof decodeMessage> {
  const reader = new FrameReader();
  reader.push(bytes);
  const frame = reader.next();
  if (!frame.ok) return frame;
  if (!frame.value) return { ok: false, error: 'incomplete' };
  return decodeMessage(frame.value);
}

test('every message comes back as it was sent', () => {
  for (const message of messages)
    expect(decode(encodeMessage(message))).toEqual({ ok: true, value: message });
  const heartbeat: Heartbeat = { ...envelope, received: 3n, replayed: 2n };
  const reader = new FrameReader();
  reader.push(encodeHeartbeat(heartbeat));
  const frame = reader.next();
  expect(frame.ok && frame.value && decodeHeartbeat(frame.value)).toEqual({ ok: true, value: heartbeat });
});

test('a body that is cut, or has a byte too many, is malformed and never throws', () => {
  const reader = (bytes: Uint8Array) => {
    const frames = new FrameReader();
    frames.push(bytes);
    const frame = frames.next();
    if (!frame.ok || !frame.value) throw new Error('the sample is a frame');
    return frame.value;
  };
  for (const message of messages) {
    if (message.kind === 'snapshot-part') continue;
    const { tag, body } = reader(encodeMessage(message));
    for (let length = 0; length < body.length; length++) {
      expect(decodeMessage({ tag, body: body.subarray(0, length) }).ok).toBe(false);
    }
    expect(decodeMessage({ tag, body: Uint8Array.of(...body, 0) }).ok).toBe(false);
  }
});

test('no body, under any tag, makes the decoders throw', () => {
  fc.assert(
    fc.property(fc.nat(255), fc.uint8Array({ maxLength: 120 }), (tag, body) => {
      decodeMessage({ tag, body });
      decodeHeartbeat({ tag, body });
    }),
    { numRuns: 2000 },
  );
});

test('a snapshot out of order, of the wrong length or of any size is refused in one line', () => {
  const begin = messages.find((message) => message.kind === 'snapshot-begin')!;
  const part: Message = { kind: 'snapshot-part', bytes: Uint8Array.of(1, 2) };
  const end: Message = { kind: 'snapshot-end' };
  const receive = (...parts: Message[]): string => {
    const reception = new SnapshotReception();
    for (const message of parts) {
      const result = reception.receive(message as Parameters<SnapshotReception['receive']>[0]);
      if (!result.ok) return result.error;
    }
    return 'fine';
  };
  expect(receive(part)).toMatch(/before the snapshot begins/);
  expect(receive(begin, begin)).toMatch(/second snapshot/);
  expect(receive(begin, part, part)).toMatch(/longer than announced/);
  expect(receive(begin, part, end)).toMatch(/2 bytes instead of 3/);
  expect(receive({ ...begin, bytes: Number.MAX_SAFE_INTEGER } as Message)).toMatch(/a snapshot of \d+ bytes/);
  const held = messages[4] as Extract<Message, { kind: 'held-output' }>;
  // Reads are not held, so numbers may be missing; none comes twice, or after a later one.
  expect(receive(begin, held)).toBe('fine');
  expect(receive(begin, held, held)).toMatch(/held output 5 comes after 5/);
  const old = { ...held, output: { ...held.output, number: 3n } };
  expect(receive(begin, old)).toMatch(/held output 3 comes after 3/);
});
