import { deflateRawSync } from 'node:zlib';
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
