import { createSocket, type Socket } from 'node:dgram';
import type { VmId } from '../ft/identity.ts';
import type { Heartbeat } from '../ft/message.ts';
import { decodeHeartbeat, encodeHeartbeat } from '../ft/message-codec.ts';
import type { HeartbeatEvents, HeartbeatPort } from '../hypervisor/ports.ts';
import { FrameReader } from '../replay/frame.ts';
import type { HostPort } from './address.ts';

const DATAGRAM_MAX_BYTES = 1200;

/**
 * Heartbeats as datagrams. The backup listens at the port of its logging channel; the primary knows that address,
 * and the backup answers where the last heartbeat of this VM came from.
 */
export class UdpHeartbeats implements HeartbeatPort {
  readonly #socket: Socket;
  readonly #vm: VmId;
  #events: HeartbeatEvents | undefined;
  #peer: HostPort | undefined;
  /** Who was told its partner does not learn another from datagrams: anyone can send those. */
  #told = false;
  #closed = false;

  constructor(vm: VmId, family: 'udp4' | 'udp6' = 'udp4') {
    this.#vm = vm;
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

  send(heartbeat: Heartbeat): void {
    if (!this.#peer || this.#closed) return;
    this.#socket.send(encodeHeartbeat(heartbeat), this.#peer.port, this.#peer.host, () => {});
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }

  #received(datagram: Uint8Array, from: HostPort): void {
    if (this.#closed || datagram.length > DATAGRAM_MAX_BYTES) return;
    const reader = new FrameReader(DATAGRAM_MAX_BYTES);
    reader.push(datagram);
    const frame = reader.next();
    if (!frame.ok || !frame.value || !reader.atFrameBoundary) return;
    const heartbeat = decodeHeartbeat(frame.value);
    if (!heartbeat.ok || heartbeat.value.vm !== this.#vm) return;
    if (!this.#told) this.#peer = from;
    this.#events?.heartbeat(heartbeat.value);
  }
}
