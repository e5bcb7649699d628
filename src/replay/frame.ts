import { crc32c } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';

/**
 * One frame of the log format: what the logging channel and a recording are made of (docs/LOG_FORMAT.md).
 *
 *   u32 body length | u8 format version | u8 tag | u16 zero | u32 CRC-32C of the eight bytes before and the body
 *
 * The version is that of log entries, or, in a message of the channel, that of the frames themselves: sides with
 * different log formats can tell each other so, and a guest can move between them. Little-endian. There is no resynchronising: the first bad frame ends the stream, and nothing of it is used.
 */
export const LOG_FORMAT_VERSION = 3;

/** Of frames that carry messages. Raised only with these twelve bytes themselves. */
export const MESSAGE_FRAME_VERSION = 2;

/** Tags from here on are messages. */
export const MESSAGE_TAG_MIN = 128;

export const FRAME_HEADER_BYTES = 12;

/** No frame is longer; a length above it is damage, and is refused before memory is taken for it. */
export const FRAME_BODY_MAX_BYTES = 64 * 1024 * 1024;

/** Every tag of the format, in one table. A tag is never reused; a retired one stays as a comment. */
export const FRAME_TAG = {
  // Log entries.
  clock: 1,
  frame: 2,
  'disk-completed': 3,
  console: 4,
  entropy: 5,
  control: 6,
  'output-mark': 7,
  released: 8,
  digest: 9,
  end: 10,
  // 11 and 12 are kept for keyboard and pointer.
  'clock-after-halt': 13,
  'read-reference': 14,
  // A recording's own frames.
  'recording-header': 64,
  'recording-image': 65,
  'recording-start': 66,
  'recording-check': 67,
  // Messages of the logging channel.
  hello: 128,
  welcome: 129,
  'snapshot-begin': 130,
  'snapshot-part': 131,
  'snapshot-end': 132,
  ack: 133,
  heartbeat: 134,
  over: 135,
  diverged: 136,
  'held-output': 137,
  compressed: 138,
  pages: 139,
  staged: 140,
  'take-over': 141,
  'disks-begin': 142,
  'disk-block': 143,
  'disks-end': 144,
  'blocks-stored': 145,
  'disks-whole': 146,
  'disks-secured': 147,
} as const;

export interface Frame {
  readonly tag: number;
  /** Valid until the next call of the reader. */
  readonly body: Uint8Array;
}

export function encodeFrame(tag: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  bytes.set(body, FRAME_HEADER_BYTES);
  return finishFrame(tag, bytes);
}

/** Writes the header of a frame in front of its body, where twelve bytes were left for it. */
export function finishFrame(tag: number, bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_HEADER_BYTES);
  const body = bytes.subarray(FRAME_HEADER_BYTES);
  view.setUint32(0, body.length, true);
  view.setUint8(4, frameVersion(tag));
  view.setUint8(5, tag);
  view.setUint16(6, 0, true);
  view.setUint32(8, crc32c(body, crc32c(bytes.subarray(0, 8))), true);
  return bytes;
}

function frameVersion(tag: number): number {
  return tag >= MESSAGE_TAG_MIN ? MESSAGE_FRAME_VERSION : LOG_FORMAT_VERSION;
}

/** Cuts a stream of chunks into frames. Holds at most one unfinished frame. */
export class FrameReader {
  /** Refuses longer frames from now on. */
  bodyMax: number;
  /** The header, then the whole frame, of which #filled bytes are there. */
  #partial = new Uint8Array(FRAME_HEADER_BYTES);
  #filled = 0;
  #frames = 0;
  #failure: string | undefined;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(bodyMax = FRAME_BODY_MAX_BYTES) {
    this.bodyMax = bodyMax;
  }

  /** Adds bytes; every frame of the earlier chunk must have been taken. */
  push(chunk: Uint8Array): void {
    if (this.#at < this.#chunk.length) {
      const rest = this.#chunk.subarray(this.#at);
      const joined = new Uint8Array(rest.length + chunk.length);
      joined.set(rest);
      joined.set(chunk, rest.length);
      chunk = joined;
    }
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** True when the stream may end here: no frame has begun. */
  get atFrameBoundary(): boolean {
    return this.#filled === 0 && this.#at === this.#chunk.length && this.#failure === undefined;
  }

  /** The next whole frame, undefined when more bytes are needed, or what is wrong, for ever. */
  next(): Result<Frame | undefined> {
    if (this.#failure !== undefined) return failed(this.#failure);
    if (this.#filled < FRAME_HEADER_BYTES && !this.#fill(FRAME_HEADER_BYTES)) return ok(undefined);
    const header = new DataView(this.#partial.buffer, 0, FRAME_HEADER_BYTES);
    const length = header.getUint32(0, true);
    const version = header.getUint8(4);
    // Checked before the body is awaited, so rubbish is refused at its first twelve bytes.
    const expectedVersion = frameVersion(header.getUint8(5));
    if (version !== expectedVersion) {
      return this.#fail(`has log format ${version}, this program reads ${expectedVersion}`);
    }
    if (header.getUint16(6, true) !== 0 || length > this.bodyMax)
      return this.#fail('is damaged (bad header)');
    const size = FRAME_HEADER_BYTES + length;
    if (this.#partial.length < size) {
      const grown = new Uint8Array(size);
      grown.set(this.#partial.subarray(0, this.#filled));
      this.#partial = grown;
    }
    if (!this.#fill(size)) return ok(undefined);
    const body = this.#partial.subarray(FRAME_HEADER_BYTES, size);
    const tag = this.#partial[5]!;
    const expected = new DataView(this.#partial.buffer).getUint32(8, true);
    if (crc32c(body, crc32c(this.#partial.subarray(0, 8))) !== expected) {
      return this.#fail('is damaged (checksum)');
    }
    this.#filled = 0;
    this.#frames++;
    this.#partial = new Uint8Array(FRAME_HEADER_BYTES);
    return ok({ tag, body });
  }

  #fill(size: number): boolean {
    const take = Math.min(size - this.#filled, this.#chunk.length - this.#at);
    this.#partial.set(this.#chunk.subarray(this.#at, this.#at + take), this.#filled);
    this.#filled += take;
    this.#at += take;
    return this.#filled === size;
  }

  #fail(what: string): Result<Frame | undefined> {
    this.#failure = `frame ${this.#frames + 1} ${what}`;
    return failed(this.#failure);
  }
}
