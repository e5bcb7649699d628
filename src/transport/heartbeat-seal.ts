import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { Heartbeat } from '../ft/message.ts';
import { decodeHeartbeat, encodeHeartbeat } from '../ft/message-codec.ts';
import { FrameReader } from '../replay/frame.ts';
import type { HeartbeatKeys } from './secure-session.ts';

const DATAGRAM_MAX_BYTES = 1200;
const COUNTER_BYTES = 8;
/** Half of SHA-256's, as usual for HMAC [RFC 4868]. */
const CODE_BYTES = 16;
/** A connection that breaks again and again makes new keys faster than both ends know of them. */
const SESSIONS_KEPT = 4;
const GENERATIONS_KEPT = 4;

interface SealingSession {
  readonly keys: HeartbeatKeys;
  sent: bigint;
  /** The highest number that came; what does not exceed it is a repetition, or was overtaken. */
  received: bigint;
}

interface Sessions {
  /** The newest first. */
  readonly sessions: SealingSession[];
  /** The one to send with. */
  current: SealingSession;
}

/**
 * Datagrams that only the partner can have made: the heartbeat's frame, u64 counter, HMAC-SHA-256 of both, with a
 * key that TLS exported for this session and direction. A copied datagram is not accepted a second time.
 */
export class HeartbeatSeal {
  readonly #vm: VmId;
  readonly #sealed: boolean;
  readonly #generations = new Map<Epoch, Sessions>();

  constructor(vm: VmId, security: 'sealed' | 'none') {
    this.#vm = vm;
    this.#sealed = security === 'sealed';
  }

  useKeys(generation: Epoch, keys: HeartbeatKeys, end: 'client' | 'server'): void {
    const session = { keys, sent: 0n, received: 0n };
    const known = this.#generations.get(generation);
    if (known) {
      known.sessions.unshift(session);
      known.sessions.splice(SESSIONS_KEPT);
      // The server sends with the keys that the client is known to have: those it was last heard with.
      if (end === 'client' || !known.sessions.includes(known.current)) known.current = session;
      return;
    }
    this.#generations.set(generation, { sessions: [session], current: session });
    for (const old of [...this.#generations.keys()].sort((a, b) => b - a).slice(GENERATIONS_KEPT))
      this.#generations.delete(old);
  }

  /** The datagram, or undefined while there is no key for this generation. */
  close(heartbeat: Heartbeat): Uint8Array | undefined {
    const frame = encodeHeartbeat(heartbeat);
    if (!this.#sealed) return frame;
    const session = this.#generations.get(heartbeat.generation)?.current;
    if (!session) return undefined;
    session.sent += 1n;
    const datagram = Buffer.alloc(frame.length + COUNTER_BYTES + CODE_BYTES);
    datagram.set(frame);
    datagram.writeBigUInt64LE(session.sent, frame.length);
    const covered = frame.length + COUNTER_BYTES;
    datagram.set(code(session.keys.sending, datagram.subarray(0, covered)), covered);
    return datagram;
  }

  /** The heartbeat of a datagram that is whole, of this VM and, where sealed, the partner's and new. */
  open(datagram: Uint8Array): Heartbeat | undefined {
    if (datagram.length > DATAGRAM_MAX_BYTES) return undefined;
    const frameEnd = this.#sealed ? datagram.length - COUNTER_BYTES - CODE_BYTES : datagram.length;
    const reader = new FrameReader(DATAGRAM_MAX_BYTES);
    reader.push(datagram.subarray(0, Math.max(0, frameEnd)));
    const frame = reader.next();
    if (!frame.ok || !frame.value || !reader.atFrameBoundary) return undefined;
    const heartbeat = decodeHeartbeat(frame.value);
    if (!heartbeat.ok || heartbeat.value.vm !== this.#vm) return undefined;
    if (this.#sealed && !this.#isPartners(datagram, frameEnd, heartbeat.value.generation)) return undefined;
    return heartbeat.value;
  }

  #isPartners(datagram: Uint8Array, frameEnd: number, generation: Epoch): boolean {
    const known = this.#generations.get(generation);
    const covered = frameEnd + COUNTER_BYTES;
    const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.length);
    const session = known?.sessions.find(({ keys }) =>
      timingSafeEqual(code(keys.receiving, bytes.subarray(0, covered)), bytes.subarray(covered)),
    );
    const counter = bytes.readBigUInt64LE(frameEnd);
    if (!known || !session || counter <= session.received) return false;
    session.received = counter;
    // A client has chosen its newest; a server follows what it hears.
    if (known.sessions.indexOf(session) < known.sessions.indexOf(known.current)) known.current = session;
    return true;
  }
}

function code(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(bytes).digest().subarray(0, CODE_BYTES);
}
