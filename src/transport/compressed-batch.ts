import { deflateRawSync, type InflateRaw, inflateRawSync } from 'node:zlib';
import { failed, ok, type Result } from '../base/result.ts';
import { encodeFrame, FRAME_TAG } from '../replay/frame.ts';

/** A batch is at most so long before it is compressed, so a small frame cannot become a large one [RFC 1951]. */
export const BATCH_MAX_BYTES = 1024 * 1024;
/** Below it nothing is gained. */
const BATCH_MIN_BYTES = 256;
const QUICK = 1;

/** The frames of one write as one frame, where that is shorter. Every reader understands both. */
export function compressedBatch(frames: Uint8Array): Uint8Array {
  if (frames.length < BATCH_MIN_BYTES || frames.length > BATCH_MAX_BYTES) return frames;
  const batch = encodeFrame(FRAME_TAG.compressed, deflateRawSync(frames, { level: QUICK }));
  return batch.length < frames.length ? batch : frames;
}

/** The frames of a batch's body. Nothing may follow the compressed bytes, and there has to be something in them. */
export function inflatedBatch(compressed: Uint8Array): Result<Uint8Array> {
  try {
    const options = { maxOutputLength: BATCH_MAX_BYTES, info: true };
    // With `info` the engine comes along; its types do not say so.
    const inflated = inflateRawSync(compressed, options) as unknown as {
      readonly buffer: Buffer;
      readonly engine: InflateRaw;
    };
    if (inflated.buffer.length === 0) return failed('a compressed batch is empty');
    if (inflated.engine.bytesWritten !== compressed.length)
      return failed('a compressed batch has bytes too many');
    return ok(inflated.buffer);
  } catch (error) {
    return failed(`a compressed batch is damaged: ${(error as Error).message}`);
  }
}
