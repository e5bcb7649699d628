import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { coalesced } from '../base/packet/coalescing.ts';
import type { Packet } from '../base/packet/offload.ts';
import { wholeFrame } from '../base/packet/segmentation.ts';
import { ok, type Result } from '../base/result.ts';
import { epoch } from '../ft/identity.ts';
import { hexBytes } from '../machine/config.ts';
import { encodeFrame, FrameDecoder, writeTogether } from '../network/frame-stream.ts';
import {
  DEFAULT_PASST_OPTIONS,
  type Forward,
  type PasstOptions,
  PasstUplink,
} from '../network/passt-uplink.ts';
import { WindowClamp } from '../network/window-clamp.ts';
import { tapsAsNetwork } from './vm-network.ts';

/** passt, no network, or a TAP by name. */
export type NetworkChoice = 'user' | 'none' | { readonly tap: string };

/** What an interface of a guest in the foreground is wired to. */
export interface LocalNetwork {
  /** The interface's, twelve hexadecimal digits. */
  readonly mac: string;
  send(packet: Packet): void;
  close(): Promise<void>;
}

export interface LocalNetworkEvents {
  readonly frame: (packet: Packet) => void;
  readonly ended: (reason: string) => void;
}

/** Locally administered; the last digits count the interfaces. The same for every guest behind a passt: each has a network of its own. */
const USER_MAC = 0x525400123456;
const OWN_MAC_PREFIX = '525400';

/** Frames that passt has not taken yet; beyond it the network drops, as networks do. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024;

/** `nic`: the interface's number, which its addresses are made of. */
export async function openLocalNetwork(
  nic: number,
  net: Exclude<NetworkChoice, 'none'>,
  forwards: readonly Forward[],
  events: LocalNetworkEvents,
): Promise<Result<LocalNetwork>> {
  if (net !== 'user') return openTap(net.tap, events);
  const uplink = await PasstUplink.start({ ...userNetwork(nic), forwards });
  const mac = (USER_MAC + nic).toString(16);
  return uplink.ok ? ok(new PasstNetwork(mac, uplink.value, events)) : uplink;
}

/** 10.0.2.0/24 for the first interface, 10.0.3.0/24 for the next: a guest cannot have two in one. */
function userNetwork(nic: number): PasstOptions {
  const network = (address: string) => address.replace('.2.', `.${2 + nic}.`);
  const { address, gateway } = DEFAULT_PASST_OPTIONS;
  return { ...DEFAULT_PASST_OPTIONS, address: network(address), gateway: network(gateway) };
}

/** On a bridge a guest has neighbours: its address is its TAP's on this host, every time the same. */
async function openTap(tap: string, events: LocalNetworkEvents): Promise<Result<LocalNetwork>> {
  const own = createHash('sha256').update(`${hostname()}/${tap}`).digest('hex');
  const mac = OWN_MAC_PREFIX + own.slice(0, 6);
  const network = await tapsAsNetwork([{ tap, mac: hexBytes(mac) }], events.ended);
  if (!network.ok) return network;
  const port = network.value;
  port.listen({ frame: (_nic, packet) => events.frame(packet) });
  port.open(epoch(0));
  return ok({ mac, send: (packet) => port.send(0, packet, 0n), close: () => port.close() });
}

/** passt without a switch between. */
class PasstNetwork implements LocalNetwork {
  readonly mac: string;
  readonly #uplink: PasstUplink;
  readonly #decoder = new FrameDecoder();
  readonly #clamp = new WindowClamp();
  #closed = false;

  constructor(mac: string, uplink: PasstUplink, events: LocalNetworkEvents) {
    this.mac = mac;
    this.#uplink = uplink;
    const { socket } = uplink;
    socket.setNoDelay?.(true);
    socket.on('data', (bytes: Buffer) => {
      const frames = this.#decoder.push(bytes);
      if (frames === undefined) {
        socket.destroy();
        return;
      }
      for (const { frame, offload } of coalesced(frames)) {
        // A copy: the frame outlives the chunk that it was cut from.
        events.frame({ frame: offload ? frame : new Uint8Array(frame), offload });
      }
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (!this.#closed) events.ended('passt has ended');
      this.#closed = true;
    });
  }

  send(packet: Packet): void {
    const { socket } = this.#uplink;
    if (this.#closed || socket.writableLength > QUEUED_BYTES_MAX) return;
    // passt ends the guest's TCP connections: it takes frames of any length.
    writeTogether(socket, encodeFrame(this.#clamp.clamped(wholeFrame(packet))));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#uplink.close();
  }
}
