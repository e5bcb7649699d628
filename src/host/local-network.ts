import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { ok, type Result } from '../base/result.ts';
import { epoch } from '../ft/identity.ts';
import { hexBytes } from '../machine/config.ts';
import { encodeFrame, FrameDecoder } from '../network/frame-stream.ts';
import { DEFAULT_PASST_OPTIONS, type Forward, PasstUplink } from '../network/passt-uplink.ts';
import { tapsAsNetwork } from './vm-network.ts';

/** passt, no network, or a TAP by name. */
export type NetworkChoice = 'user' | 'none' | { readonly tap: string };

/** What the one interface of a guest in the foreground is wired to. */
export interface LocalNetwork {
  /** The interface's, twelve hexadecimal digits. */
  readonly mac: string;
  send(frame: Uint8Array): void;
  close(): Promise<void>;
}

export interface LocalNetworkEvents {
  readonly frame: (frame: Uint8Array) => void;
  readonly ended: (reason: string) => void;
}

/** Locally administered. The same for every guest behind a passt: each has a network of its own. */
const MAC = '525400123456';
const OWN_MAC_PREFIX = '525400';

/** Frames that passt has not taken yet; beyond it the network drops, as networks do. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024;

export async function openLocalNetwork(
  { net, forwards }: { readonly net: NetworkChoice; readonly forwards: readonly Forward[] },
  events: LocalNetworkEvents,
): Promise<Result<LocalNetwork | undefined>> {
  if (net === 'none') return ok(undefined);
  if (net !== 'user') return openTap(net.tap, events);
  const uplink = await PasstUplink.start({ ...DEFAULT_PASST_OPTIONS, forwards });
  return uplink.ok ? ok(new PasstNetwork(uplink.value, events)) : uplink;
}

/** On a bridge a guest has neighbours: its address is its TAP's on this host, every time the same. */
async function openTap(tap: string, events: LocalNetworkEvents): Promise<Result<LocalNetwork>> {
  const own = createHash('sha256').update(`${hostname()}/${tap}`).digest('hex');
  const mac = OWN_MAC_PREFIX + own.slice(0, 6);
  const network = await tapsAsNetwork([{ tap, mac: hexBytes(mac) }], events.ended);
  if (!network.ok) return network;
  const port = network.value;
  port.listen({ frame: (_nic, frame) => events.frame(frame) });
  port.open(epoch(0));
  return ok({ mac, send: (frame) => port.send(0, frame, 0n), close: () => port.close() });
}

/** passt without a switch between. */
class PasstNetwork implements LocalNetwork {
  readonly mac = MAC;
  readonly #uplink: PasstUplink;
  readonly #decoder = new FrameDecoder();
  #closed = false;

  constructor(uplink: PasstUplink, events: LocalNetworkEvents) {
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
      if (!this.#closed) events.ended('passt has ended');
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
