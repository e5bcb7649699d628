import type { SecureContextOptions, TLSSocket } from 'node:tls';
import type { Epoch, VmId } from '../ft/identity.ts';
import { epoch } from '../ft/identity.ts';
import { type ChannelCredentials, namesVm } from './credentials.ts';

/**
 * TLS 1.3 of the logging channel: both ends show a certificate of the VM's authority that names this VM, and the
 * session is bound to one generation by its application protocol [RFC 8446, RFC 7301]. Who has another VM's
 * certificate, or comes from a generation that is over, gets no session at all.
 */

const PROTOCOL = 'lockstep-log/2';
/** Long enough for two keys of HMAC-SHA-256 [RFC 5705, RFC 8446 7.5]. */
const KEY_BYTES = 32;
const EXPORTER_LABEL = 'EXPORTER-lockstep-heartbeat';

/** What the heartbeats of one session are authenticated with, one key for each direction. */
export interface HeartbeatKeys {
  readonly sending: Uint8Array;
  readonly receiving: Uint8Array;
}

export function sessionProtocol(generation: Epoch): string {
  return `${PROTOCOL}/${generation}`;
}

/** The generation that a session's protocol names, if it is one of ours. */
export function protocolGeneration(protocol: string | false | null | undefined): Epoch | undefined {
  const digits = new RegExp(`^${PROTOCOL}/(\\d{1,15})$`).exec(protocol || '')?.[1];
  return digits === undefined ? undefined : epoch(Number(digits));
}

export function contextOptions(credentials: ChannelCredentials): SecureContextOptions {
  const { authority, certificate, key } = credentials;
  return { ca: authority, cert: certificate, key, minVersion: 'TLSv1.3' };
}

/** The end of another VM has a good certificate too, where one authority serves many. */
export function isOfVm(socket: TLSSocket, vm: VmId): boolean {
  return namesVm(socket.getPeerCertificate().subjectaltname, vm);
}

/** Both ends of a session get the same pair of keys, crossed; no other session has them. */
export function heartbeatKeys(socket: TLSSocket, side: 'client' | 'server'): HeartbeatKeys {
  const material = socket.exportKeyingMaterial(2 * KEY_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
  const [first, second] = [material.subarray(0, KEY_BYTES), material.subarray(KEY_BYTES)];
  return side === 'client' ? { sending: first, receiving: second } : { sending: second, receiving: first };
}
