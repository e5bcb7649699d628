import { createSocket, type Socket } from 'node:dgram';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { Heartbeat } from '../ft/message.ts';
import type { HeartbeatEvents, HeartbeatPort } from '../hypervisor/ports.ts';
import type { HostPort } from './address.ts';
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
  #peer: HostPort | undefined;
  /** Who was told its partner does not learn another from datagrams. */
  #told = false;
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

  setPeer(peer: HostPort): void {
    this.#peer = peer;
    this.#told = true;
  }

  /** The keys of a session of this generation; the heartbeats of earlier sessions stay good for a while. */
  useKeys(generation: Epoch, keys: HeartbeatKeys, end: 'client' | 'server'): void {
    this.#seal.useKeys(generation, keys, end);
  }

  send(heartbeat: Heartbeat): void {
    if (!this.#peer || this.#closed) return;
    const datagram = this.#seal.close(heartbeat);
    if (datagram) this.#socket.send(datagram, this.#peer.port, this.#peer.host, () => {});
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
    if (!this.#told) this.#peer = from;
    this.#events?.heartbeat(heartbeat);
  }
}
