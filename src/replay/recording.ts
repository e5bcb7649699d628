import { assert } from '../base/assert.ts';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { crc32c, hash128 } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { type InstructionCount, instructionCount } from '../base/units.ts';
import { decodeEntry, encodeEntry, hexBytes, hexText } from './codec.ts';
import { EntryOrder } from './entry-order.ts';
import { encodeFrame, FRAME_TAG, type Frame, FrameReader } from './frame.ts';
import type { LogEntry, LogPayload } from './log-entry.ts';
import type { NumberedOutput } from './numbered-output.ts';
import type { LogPosition } from './position.ts';
import { outputMark } from './recorder.ts';

/**
 * A recording: header, initial image, start, entries, end (docs/LOG_FORMAT.md). It suffices alone: what the
 * machine is made of stands in the header, what it starts from in the image.
 *
 * After every digest and after the end stands a check over all entries so far. It finds an entry that was altered
 * together with its own checksum, also where the guest would never have noticed the difference.
 */

/** The first eight bytes of a recording. */
export const RECORDING_MAGIC = Uint8Array.from([0x4c, 0x4b, 0x53, 0x54, 0x52, 0x45, 0x43, 0x0a]);

const IMAGE_PART_BYTES = 1024 * 1024;

export interface RecordingStart {
  /** The VM's configuration, as the machine's factory wrote it. Opaque here. */
  readonly configuration: Uint8Array;
  /** A snapshot of the machine at the first entry. */
  readonly image: Uint8Array;
  readonly count: InstructionCount;
  readonly position: LogPosition;
}

/** Turns a live history into the bytes of a recording. Chunks go to `write` in order. */
export class RecordingWriter {
  readonly #write: (bytes: Uint8Array) => void;
  #sequence = 0n;
  #ended = false;
  #check = 0;

  constructor(start: RecordingStart, write: (bytes: Uint8Array) => void) {
    this.#write = write;
    write(RECORDING_MAGIC);
    write(encodeFrame(FRAME_TAG['recording-header'], start.configuration));
    for (let at = 0; at < start.image.length; at += IMAGE_PART_BYTES) {
      write(encodeFrame(FRAME_TAG['recording-image'], start.image.subarray(at, at + IMAGE_PART_BYTES)));
    }
    const body = new ByteWriter().uint(start.image.length);
    body.raw(hexBytes(hash128(start.image)));
    body.u64(start.count).u64(start.position.outputs);
    write(encodeFrame(FRAME_TAG['recording-start'], body.finish()));
  }

  get entries(): bigint {
    return this.#sequence;
  }

  entry(at: InstructionCount, payload: LogPayload): void {
    assert(!this.#ended, 'nothing follows the end of a recording');
    this.#sequence += 1n;
    this.#ended = payload.kind === 'end';
    const frame = encodeEntry({ sequence: this.#sequence, at, ...payload });
    this.#check = crc32c(frame, this.#check);
    this.#write(frame);
    if (payload.kind === 'digest' || payload.kind === 'end') {
      const body = new ByteWriter(12).u64(this.#sequence).u32(this.#check);
      this.#write(encodeFrame(FRAME_TAG['recording-check'], body.finish()));
    }
  }

  output(output: NumberedOutput): void {
    this.entry(output.at, outputMark(output));
  }
}

export type RecordingItem =
  | { readonly kind: 'start'; readonly start: RecordingStart }
  | { readonly kind: 'entry'; readonly entry: LogEntry };

/**
 * Reads a recording chunk by chunk, so a long one need not be in memory. Whatever is wrong is one line; the
 * reader gives nothing more after it.
 */
export class RecordingReader {
  readonly #frames = new FrameReader();
  #magic = 0;
  #configuration: Uint8Array | undefined;
  #image: Uint8Array[] = [];
  #imageBytes = 0;
  #order: EntryOrder | undefined;
  #count = 0n;
  #check = 0;
  /** Sequence and count up to which the entries are proved to be those that were written. */
  #checked = 0n;
  #checkedCount = 0n;

  push(chunk: Uint8Array): Result<undefined> {
    const take = Math.min(RECORDING_MAGIC.length - this.#magic, chunk.length);
    for (let index = 0; index < take; index++) {
      if (chunk[index] !== RECORDING_MAGIC[this.#magic + index])
        return failed('this is not a Lockstep recording');
    }
    this.#magic += take;
    this.#frames.push(chunk.subarray(take));
    return ok(undefined);
  }

  /** The next item, undefined when more bytes are needed. */
  next(): Result<RecordingItem | undefined> {
    for (;;) {
      const frame = this.#frames.next();
      if (!frame.ok) return failed(`the recording ${this.#place()}: ${frame.error}`);
      if (!frame.value) return ok(undefined);
      const item = this.#order ? this.#entry(frame.value, this.#order) : this.#opening(frame.value);
      if (!item.ok || item.value) return item;
    }
  }

  /** Called when there are no more bytes: an error when the recording does not end here. */
  finish(): Result<undefined> {
    const order = this.#order;
    if (order?.ended && this.#checked === order.sequence && this.#frames.atFrameBoundary)
      return ok(undefined);
    return failed(`the recording ${this.#place()} is truncated: it has no end`);
  }

  #place(): string {
    return this.#order ? `after entry ${this.#order.sequence} (count ${this.#count})` : 'at its head';
  }

  #entry(frame: Frame, order: EntryOrder): Result<RecordingItem | undefined> {
    if (frame.tag === FRAME_TAG['recording-check']) return this.#verify(frame, order);
    const entry = decodeEntry(frame);
    if (!entry.ok) return failed(`the recording ${this.#place()} is damaged: ${entry.error}`);
    const admitted = order.admit(entry.value);
    if (!admitted.ok) return failed(`the recording is damaged: ${admitted.error}`);
    this.#count = entry.value.at;
    // The frame as it was written: decoding is strict, so encoding again gives the same bytes.
    this.#check = crc32c(encodeFrame(frame.tag, frame.body), this.#check);
    return ok({ kind: 'entry', entry: entry.value });
  }

  #verify(frame: Frame, order: EntryOrder): Result<undefined> {
    const body = new ByteReader(frame.body);
    const good = body.remaining === 12 && body.u64() === order.sequence && body.u32() === this.#check;
    if (!good) {
      return failed(
        `the recording is damaged: an entry after ${this.#checked} (count ${this.#checkedCount}) and up to ` +
          `${order.sequence} (count ${this.#count}) is not the one that was written`,
      );
    }
    this.#checked = order.sequence;
    this.#checkedCount = this.#count;
    return ok(undefined);
  }

  #opening(frame: Frame): Result<RecordingItem | undefined> {
    switch (frame.tag) {
      case FRAME_TAG['recording-header']:
        if (this.#configuration) return failed('the recording is damaged: it has two headers');
        this.#configuration = frame.body.slice();
        return ok(undefined);
      case FRAME_TAG['recording-image']:
        this.#image.push(frame.body.slice());
        this.#imageBytes += frame.body.length;
        return ok(undefined);
      case FRAME_TAG['recording-start']:
        return this.#start(frame);
      default:
        return failed(`the recording is damaged: tag ${frame.tag} before its start`);
    }
  }

  #start(frame: Frame): Result<RecordingItem | undefined> {
    if (!this.#configuration) return failed('the recording is damaged: it has no header');
    const image = new Uint8Array(this.#imageBytes);
    let at = 0;
    for (const part of this.#image) {
      image.set(part, at);
      at += part.length;
    }
    this.#image = [];
    try {
      const body = new ByteReader(frame.body);
      const length = body.uint();
      const hash = hexText(body.raw(16));
      const count = instructionCount(body.u64());
      const outputs = body.u64();
      if (length !== image.length || hash !== hash128(image) || body.remaining > 0) {
        return failed('the recording is damaged: its initial image is not the one that was written');
      }
      this.#order = new EntryOrder(0n, count);
      this.#count = count;
      const position = { outputs };
      return ok({ kind: 'start', start: { configuration: this.#configuration, image, count, position } });
    } catch (error) {
      if (error instanceof TruncatedError) return failed('the recording is damaged: its start is malformed');
      throw error;
    }
  }
}
