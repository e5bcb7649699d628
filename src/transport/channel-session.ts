import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { HostPort } from './address.ts';
import type { ChannelCredentials } from './credentials.ts';
import {
  contextOptions,
  type HeartbeatKeys,
  heartbeatKeys,
  isOfVm,
  protocolGeneration,
  sessionProtocol,
} from './secure-session.ts';

const CONNECT_MS = 2000;
const HANDSHAKE_MS = 3000;
/** Addresses of partners that are kept; the oldest make room. */
const KNOWN_MAX = 64;

/** A connection on which messages may cross. */
export interface Session {
  readonly socket: Socket;
  /** The TCP socket below TLS; the same one without. */
  readonly wire: Socket;
  /** What the session is bound to; undefined without TLS, where nothing binds it. */
  readonly generation: Epoch | undefined;
  readonly keys: HeartbeatKeys | undefined;
}

export interface SessionOptions {
  readonly vm: VmId;
  readonly security: ChannelCredentials | 'none';
}

export interface AcceptEvents {
  /** May one more stranger begin? Told how many like it are in their handshake. */
  admits(handshakes: number): boolean;
  isOver(generation: Epoch): boolean;
  session(session: Session): void;
  /** Somebody did not become a session. */
  stranger(reason: string): void;
  ready(port: number): void;
  refused(reason: string): void;
}

export function acceptSessions(at: HostPort, options: SessionOptions, events: AcceptEvents): Server {
  const server = options.security === 'none' ? plainServer(events) : secureServer(options, events);
  server.on('error', (error) => events.refused(`cannot listen on ${at.host}:${at.port}: ${error.message}`));
  server.listen(at.port, at.host, () => {
    const address = server.address();
    events.ready(typeof address === 'object' && address ? address.port : at.port);
  });
  return server;
}

function plainServer(events: AcceptEvents): Server {
  return createServer({ noDelay: true }, (socket) => {
    if (!events.admits(0)) socket.destroy();
    else events.session({ socket, wire: socket, generation: undefined, keys: undefined });
  });
}

function secureServer({ vm, security }: SessionOptions, events: AcceptEvents): Server {
  const sessions = createTlsServer({
    ...contextOptions(security as ChannelCredentials),
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: HANDSHAKE_MS,
    ALPNCallback: ({ protocols }) =>
      protocols.find((protocol) => {
        const generation = protocolGeneration(protocol);
        return generation !== undefined && !events.isOver(generation);
      }),
  });
  /** Sockets in their handshake, by where they come from. */
  const shaking = new Map<string, Socket>();
  /** Where sessions came from: strangers elsewhere must not keep a partner from coming back. */
  const known = new Set<string | undefined>();
  const server = createServer({ noDelay: true }, (wire) => {
    const isKnown = known.has(wire.remoteAddress);
    const alike = [...shaking.values()].filter(({ remoteAddress }) => known.has(remoteAddress) === isKnown);
    if (!events.admits(alike.length)) {
      wire.destroy();
      return;
    }
    const origin = originOf(wire);
    shaking.set(origin, wire);
    wire.once('close', () => shaking.delete(origin));
    sessions.emit('connection', wire);
  });
  sessions.on('tlsClientError', (error: Error, socket: TLSSocket) => {
    socket.destroy();
    events.stranger(tlsReason(error));
  });
  sessions.on('secureConnection', (socket: TLSSocket) => {
    const origin = originOf(socket);
    const wire = shaking.get(origin) ?? socket;
    shaking.delete(origin);
    const generation = protocolGeneration(socket.alpnProtocol);
    if (generation === undefined || !isOfVm(socket, vm)) {
      socket.on('error', () => {});
      socket.destroy();
      const what = generation === undefined ? 'names no generation' : 'has a certificate of another VM';
      events.stranger(`the other side ${what}`);
      return;
    }
    known.add(socket.remoteAddress);
    if (known.size > KNOWN_MAX) known.delete([...known][0]);
    events.session({ socket, wire, generation, keys: heartbeatKeys(socket, 'server') });
  });
  return server;
}

function originOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}/${remotePort}`;
}

export interface ConnectEvents {
  session(session: Session): void;
  failed(reason: string): void;
}

/** One attempt; exactly one of the two events follows. */
export function connectSession(
  to: HostPort,
  generation: Epoch,
  { vm, security }: SessionOptions,
  events: ConnectEvents,
): void {
  const wire = tcpConnect({ ...to, noDelay: true });
  let socket = wire;
  const timer = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_MS);
  let over = false;
  const fail = (error?: Error): void => {
    clearTimeout(timer);
    if (over) return;
    over = true;
    socket.destroy();
    wire.destroy();
    events.failed(error ? tlsReason(error) : 'closed by the other side');
  };
  const closed = (): void => fail();
  const begin = (session: Omit<Session, 'socket' | 'wire'>): void => {
    clearTimeout(timer);
    over = true;
    socket.off('error', fail);
    socket.off('close', closed);
    events.session({ socket, wire, ...session });
  };
  wire.once('error', fail);
  wire.once('connect', () => {
    if (security === 'none') {
      begin({ generation: undefined, keys: undefined });
      return;
    }
    const secure = tlsConnect({
      ...contextOptions(security),
      socket: wire,
      ALPNProtocols: [sessionProtocol(generation)],
      // Hosts move; it is the VM that the certificate has to name.
      checkServerIdentity: () => undefined,
    });
    socket = secure;
    secure.once('error', fail);
    secure.once('close', closed);
    secure.once('secureConnect', () => {
      if (protocolGeneration(secure.alpnProtocol) !== generation)
        fail(new Error('it speaks of no generation'));
      else if (!isOfVm(secure, vm)) fail(new Error('its certificate is of another VM'));
      else begin({ generation, keys: heartbeatKeys(secure, 'client') });
    });
  });
}

/** OpenSSL's errors end with the place in its source; what happened is in the code. */
function tlsReason(error: Error & { code?: string; reason?: string }): string {
  return error.code?.startsWith('ERR_SSL_') ? `TLS: ${error.reason ?? error.code}` : error.message;
}
