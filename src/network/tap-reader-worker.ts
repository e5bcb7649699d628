import { parentPort, workerData } from 'node:worker_threads';
import { OFFLOAD_BYTES } from '../base/packet/offload.ts';
import { FRAME_LENGTH_MAX } from './frame-stream.ts';
import { ERRNO, readInto, waitFor } from './tap-calls.ts';
import type { TapReaderData, TapReaderNews } from './tap-reader.ts';

/** The thread that reads a TAP [tap-reader.ts]. */

const BATCH_FRAMES_MAX = 64;
const UNDER_WAY_MAX = 1024;
/** How soon to look again, when the other thread is behind, or the interface is down with frames in it. */
const AGAIN_MS = 1;
const DOWN_MS = 100;

const { fd, bell, underWay } = workerData as TapReaderData;
const buffer = new Uint8Array(OFFLOAD_BYTES + FRAME_LENGTH_MAX);

function tell(news: TapReaderNews, transfer: readonly ArrayBuffer[] = []): void {
  parentPort?.postMessage(news, transfer);
}

/** What is there, up to a batch; the errno why no more of it. */
function batch(): { readonly frames: Uint8Array<ArrayBuffer>[]; readonly errno: number } {
  const frames: Uint8Array<ArrayBuffer>[] = [];
  while (frames.length < BATCH_FRAMES_MAX) {
    const length = readInto(fd, buffer);
    if (length < 0) return { frames, errno: -length };
    frames.push(buffer.slice(0, length));
  }
  return { frames, errno: 0 };
}

for (;;) {
  if (Atomics.load(underWay, 0) >= UNDER_WAY_MAX) {
    if (waitFor([bell], AGAIN_MS)[0]) break;
    continue;
  }
  if (waitFor([bell, fd], -1)[0]) break;
  const { frames, errno } = batch();
  if (frames.length > 0) {
    Atomics.add(underWay, 0, frames.length);
    tell(
      { kind: 'frames', frames },
      frames.map(({ buffer }) => buffer),
    );
  }
  if (errno === ERRNO.EBADFD) {
    tell({ kind: 'gone' });
    break;
  }
  const nothingWrong = errno === 0 || errno === ERRNO.EAGAIN || errno === ERRNO.EINTR;
  if (!nothingWrong && waitFor([bell], DOWN_MS)[0]) break;
}
