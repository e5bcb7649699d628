import { deflateRawSync } from 'node:zlib';
import type { Random } from '../../sim/random.ts';
import { crc32c } from '../../src/base/hash.ts';
import type { Message } from '../../src/ft/message.ts';
import { encodeMessage } from '../../src/ft/message-codec.ts';
import { EntryOrder } from '../../src/replay/entry-order.ts';
import { encodeFrame, FRAME_HEADER_BYTES, FRAME_TAG } from '../../src/replay/frame.ts';
import { MessageStream } from '../../src/transport/message-stream.ts';
import { mutated } from './mutation.ts';
import { ENVELOPE, INTRODUCED, randomEntry, randomMessage } from './random-message.ts';
import { holds, type Target } from './target.ts';

const TAG_AT = 5;
const HELLO: Message = {
  kind: 'hello',
  ...ENVELOPE,
  ...INTRODUCED,
  fresh: true,
  attempt: 1,
  purpose: 'pair',
};

/**
 * The bytes of a logging channel. What is given out is, written again, exactly what the stream began with: so
 * nothing of a bad frame is, nor of anything behind it; and entries that order admits follow each other.
 */
export const logFrames: Target = {
  name: 'log frames and control messages',
  share: 0.4,
  run: (random) => {
    const frames = randomFrames(random);
    const stream = random.chance(0.5) ? damagedBytes(random, frames) : damagedFrames(random, frames);
    const { messages, error } = read(random, stream);
    const again = Buffer.concat(messages.map(encodeMessage));
    const whole = error === undefined ? wholeFrames(stream) : again.length;
    const same = again.length === whole && again.equals(stream.subarray(0, again.length));
    holds(same, 'what was given out is not what came', stream);
    const order = new EntryOrder();
    let last = 0n;
    for (const message of messages) {
      if (message.kind !== 'entry') continue;
      if (!order.admit(message.entry).ok) break;
      holds(message.entry.sequence === last + 1n, 'entries were admitted out of order', stream);
      last = message.entry.sequence;
    }
    return messages.length > 0;
  },
};

/** The same inside a compressed batch, which has no spelling of its own to compare with. */
export const compressedBatches: Target = {
  name: 'compressed batches',
  share: 0.05,
  run: (random) => {
    const inner = Buffer.concat(randomFrames(random).slice(1));
    const damaged = mutated(random, inner, inner);
    const packed = deflateRawSync(damaged, { level: 1 });
    const body = random.chance(0.5) ? packed : mutated(random, packed, packed);
    const stream = Buffer.concat([encodeMessage(HELLO), encodeFrame(FRAME_TAG.compressed, body)]);
    const { messages, error } = read(random, stream, false);
    const again = Buffer.concat(messages.slice(1).map(encodeMessage));
    // What was packed may have been changed as well, but a batch is used whole or not at all.
    holds(error !== undefined || messages.length > 1, 'a batch without any frame was taken', stream);
    if (body === packed)
      holds(again.equals(damaged.subarray(0, again.length)), 'a batch gave out other frames', stream);
    return messages.length > 1;
  },
};

function randomFrames(random: Random): Uint8Array[] {
  const frames: Uint8Array[] = [encodeMessage(HELLO)];
  let sequence = 0n;
  for (let count = 1 + random.below(5); count > 0; count--) {
    sequence += 1n;
    const message: Message = random.chance(0.6)
      ? { kind: 'entry', entry: randomEntry(random, sequence, sequence * 3n) }
      : randomMessage(random, sequence);
    frames.push(encodeMessage(message));
  }
  return frames;
}

/** Damage of the wire: the checksums say so. */
function damagedBytes(random: Random, frames: readonly Uint8Array[]): Buffer {
  const stream = Buffer.concat(frames);
  return mutated(random, stream, stream);
}

/** Damage with a right checksum: what a broken or hostile sender makes. */
function damagedFrames(random: Random, frames: readonly Uint8Array[]): Buffer {
  const at = random.below(frames.length);
  return Buffer.concat(
    frames.map((frame, index) => {
      if (index !== at) return frame;
      const body = mutated(random, frame.subarray(FRAME_HEADER_BYTES), frames[random.below(frames.length)]!);
      const tag = random.chance(0.8) ? frame[TAG_AT]! : random.below(256);
      // Compressed batches have their own target.
      return sealed(random, tag === FRAME_TAG.compressed ? 0 : tag, body);
    }),
  );
}

function sealed(random: Random, tag: number, body: Uint8Array): Uint8Array {
  const frame = encodeFrame(tag, body);
  if (random.chance(0.9)) return frame;
  const view = new DataView(frame.buffer);
  frame[random.below(8)] = random.below(256);
  if (frame[TAG_AT] === FRAME_TAG.compressed) frame[TAG_AT] = 0;
  view.setUint32(8, crc32c(body, crc32c(frame.subarray(0, 8))), true);
  return frame;
}

interface ReadMessages {
  readonly messages: readonly Message[];
  readonly error: string | undefined;
}

/** In pieces, as a socket gives them. Nothing may be thrown. */
function read(random: Random, stream: Buffer, bound = true): ReadMessages {
  const reader = new MessageStream('hello', bound ? ENVELOPE : undefined);
  const messages: Message[] = [];
  for (let at = 0; at < stream.length; ) {
    const length = 1 + random.below(random.chance(0.3) ? 16 : stream.length);
    const pushed = reader.push(stream.subarray(at, at + length));
    at += length;
    if (!pushed.ok) {
      const after = reader.push(stream);
      holds(!after.ok, 'a stream went on behind an error', stream);
      return { messages, error: pushed.error };
    }
    messages.push(...pushed.value);
  }
  return { messages, error: undefined };
}

/** So many bytes of the stream are whole frames, by their lengths. */
function wholeFrames(stream: Buffer): number {
  let at = 0;
  while (at + FRAME_HEADER_BYTES <= stream.length) {
    const end = at + FRAME_HEADER_BYTES + stream.readUInt32LE(at);
    if (end > stream.length) break;
    at = end;
  }
  return at;
}
