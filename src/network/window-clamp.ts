import { checksumOf, foldedSum, readLong, readWord, writeWord } from '../base/packet/checksum.ts';
import { type TcpLayout, tcpLayoutOf } from '../base/packet/tcp-layout.ts';

/**
 * Keeps what passt sends at once within what its socket holds. It sends all that a guest's TCP window allows, at the speed of
 * memory, and loses what its socket has no room for; then it sends all of it again, and again. A window of more than the
 * socket's buffer is told to it as one of that buffer.
 */

/** A unix socket takes 212,992 bytes unless told otherwise (net.core.wmem_default), and one piece more. */
const WINDOW_BYTES_MAX = 192 * 1024;
const FLOWS_MAX = 4096;
const SYN = 2;
const OPTION = { end: 0, none: 1, windowScale: 3 } as const;
const SCALE_MAX = 14;

export class WindowClamp {
  /** By how much a guest's windows are shifted, by flow; the flow used last is last [RFC 7323 2.2]. */
  readonly #scales = new Map<string, number>();

  /** The frame itself, or a copy with a smaller window and a right checksum. */
  clamped(frame: Uint8Array): Uint8Array {
    const layout = tcpLayoutOf(frame);
    if (layout === undefined) return frame;
    const flow = flowOf(frame, layout);
    if ((frame[layout.tcp + 13]! & SYN) !== 0) {
      // The window of a SYN is never scaled.
      this.#scales.delete(flow);
      this.#scales.set(flow, scaleIn(frame, layout));
      const oldest = this.#scales.keys().next().value;
      if (this.#scales.size > FLOWS_MAX && oldest !== undefined) this.#scales.delete(oldest);
      return frame;
    }
    const scale = this.#scales.get(flow);
    // Of a connection that is older than this program nothing is known.
    if (scale === undefined) return frame;
    const window = WINDOW_BYTES_MAX >> scale;
    return readWord(frame, layout.tcp + 14) <= window ? frame : withWindow(frame, layout.tcp, window);
  }
}

function withWindow(frame: Uint8Array, tcp: number, window: number): Uint8Array {
  const smaller = frame.slice();
  const sum = ~readWord(frame, tcp + 16) & 0xffff;
  writeWord(smaller, tcp + 14, window);
  // The change of one word changes the sum by as much [RFC 1624].
  const changed = foldedSum(sum + (~readWord(frame, tcp + 14) & 0xffff) + window);
  writeWord(smaller, tcp + 16, checksumOf(changed));
  return smaller;
}

function flowOf(frame: Uint8Array, { version, ip, tcp }: TcpLayout): string {
  const ports = readLong(frame, tcp);
  const [from, to] = version === 4 ? [ip + 12, ip + 20] : [ip + 8, ip + 40];
  let text = `${ports}`;
  for (let at = from; at < to; at += 4) text += `.${readLong(frame, at)}`;
  return text;
}

function scaleIn(frame: Uint8Array, { tcp, payload }: TcpLayout): number {
  for (let at = tcp + 20; at < payload; ) {
    const kind = frame[at]!;
    if (kind === OPTION.end) break;
    if (kind === OPTION.none) {
      at += 1;
      continue;
    }
    const length = frame[at + 1] ?? 0;
    if (length < 2) break;
    if (kind === OPTION.windowScale && length === 3 && at + 2 < payload)
      return Math.min(frame[at + 2]!, SCALE_MAX);
    at += length;
  }
  return 0;
}
