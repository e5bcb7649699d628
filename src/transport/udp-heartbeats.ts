import { createSocket, type Socket } from 'node:dgram';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { Heartbeat } from '../ft/message.ts';
import type { HeartbeatEvents, HeartbeatPort } from '../hypervisor/ports.ts';
import { type HostPort, parseHostPort } from './address.ts';
import { HeartbeatSeal } from './heartbeat-seal.ts';
import type { HeartbeatKeys } from './secure-session.ts';

/**
 * Heartbeats as datagrams. The backup listens at the port of its logging channel; the primary knows that address,
 * and the backup answers where the last heartbeat of this VM came from. Where the channel is secure, every datagram
 * carries a code that only the two ends of the session can make, and a number that only grows.
 */
export class UdpHeartbeats implements HeartbeatPort {
  readonly #socket: Socket;
  readonly #seal: HeartbeatSeal;
  #events: HeartbeatEvents | undefined;
  /** Where the last one came from. */
  #from: HostPort | undefined;
  readonly #addresses = new Map<string, HostPort | undefined>();
  #closed = false;

  constructor(vm: VmId, security: 'sealed' | 'none', family: 'udp4' | 'udp6' = 'udp4') {
    this.#seal = new HeartbeatSeal(vm, security);
    this.#socket = createSocket(family);
    this.#socket.on('message', (datagram, from) =>
      this.#received(datagram, { host: from.address, port: from.port }),
    );
    // Loss is normal here: an unreachable partner is found out by silence.
    this.#socket.on('error', () => {});
  }

  bind(at: HostPort, ready: (port: number) => void, refused: (reason: string) => void): void {
    const fail = (error: Error): void =>
      refused(`cannot listen on udp ${at.host}:${at.port}: ${error.message}`);
    this.#socket.once('error', fail);
    this.#socket.bind({ address: at.host, port: at.port, exclusive: true }, () => {
      this.#socket.off('error', fail);
      ready(this.#socket.address().port);
    });
  }

  listen(events: HeartbeatEvents): void {
    this.#events = events;
  }

  /** The keys of a session of this generation; the heartbeats of earlier sessions stay good for a while. */
  useKeys(generation: Epoch, keys: HeartbeatKeys, end: 'client' | 'server'): void {
    this.#seal.useKeys(generation, keys, end);
  }

  send(heartbeat: Heartbeat, to: string | undefined): void {
    const peer = to === undefined ? this.#from : this.#addressOf(to);
    if (!peer || this.#closed) return;
    const datagram = this.#seal.close(heartbeat);
    if (datagram) this.#socket.send(datagram, peer.port, peer.host, () => {});
  }

  #addressOf(text: string): HostPort | undefined {
    if (!this.#addresses.has(text)) {
      const parsed = parseHostPort(text);
      this.#addresses.set(text, parsed.ok ? parsed.value : undefined);
    }
    return this.#addresses.get(text);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }

  #received(datagram: Uint8Array, from: HostPort): void {
    if (this.#closed) return;
    const heartbeat = this.#seal.open(datagram);
    if (!heartbeat) return;
    this.#from = from;
    this.#events?.heartbeat(heartbeat);
  }
}
