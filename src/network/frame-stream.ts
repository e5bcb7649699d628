import type { Socket } from 'node:net';

/**
 * QEMU's stream framing: a 4-byte big-endian length, then that many bytes [QEMU net/stream.c]. passt speaks it,
 * QEMU's `-netdev stream` too.
 */

/** Longest frame: 64 KiB of payload and its headers; passt sends no longer ones. */
export const FRAME_LENGTH_MAX = 65536 + 64;

export function encodeFrame(frame: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(4 + frame.length);
  bytes.writeUInt32BE(frame.length, 0);
  bytes.set(frame, 4);
  return bytes;
}

/** What is written in one turn goes to the kernel in one call. */
export function writeTogether(socket: Socket, bytes: Buffer): void {
  if (socket.writableCorked === 0) {
    socket.cork();
    process.nextTick(() => socket.uncork());
  }
  socket.write(bytes);
}

/** Cuts a stream of bytes into frames. */
export class FrameDecoder {
  readonly #lengthMax: number;
  #rest: Buffer = Buffer.alloc(0);

  constructor(lengthMax: number = FRAME_LENGTH_MAX) {
    this.#lengthMax = lengthMax;
  }

  /** The frames that these bytes complete; undefined when they are no frames, and the stream is of no more use. */
  push(bytes: Buffer): Buffer[] | undefined {
    let all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const frames: Buffer[] = [];
    while (all.length >= 4) {
      const length = all.readUInt32BE(0);
      if (length > this.#lengthMax) return undefined;
      if (all.length < 4 + length) break;
      frames.push(all.subarray(4, 4 + length));
      all = all.subarray(4 + length);
    }
    this.#rest = all;
    return frames;
  }
}
