import { encodeFrame, FrameDecoder } from '../network/frame-stream.ts';
import type { PasstUplink } from '../network/passt-uplink.ts';

/** Frames that passt has not taken yet; beyond it the network drops, as networks do. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024;

/** The guest's one interface, wired to passt without a switch between them. */
export class LocalNetwork {
  readonly #uplink: PasstUplink;
  readonly #decoder = new FrameDecoder();
  #closed = false;

  constructor(
    uplink: PasstUplink,
    events: { readonly frame: (frame: Uint8Array) => void; readonly ended: () => void },
  ) {
    this.#uplink = uplink;
    const { socket } = uplink;
    socket.setNoDelay?.(true);
    socket.on('data', (bytes: Buffer) => {
      const frames = this.#decoder.push(bytes);
      if (frames === undefined) {
        socket.destroy();
        return;
      }
      // A copy: the frame outlives the chunk that it was cut from.
      for (const frame of frames) events.frame(new Uint8Array(frame));
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (!this.#closed) events.ended();
      this.#closed = true;
    });
  }

  send(frame: Uint8Array): void {
    const { socket } = this.#uplink;
    if (this.#closed || socket.writableLength > QUEUED_BYTES_MAX) return;
    socket.write(encodeFrame(frame));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#uplink.close();
  }
}
