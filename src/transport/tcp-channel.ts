import type { Server, Socket } from 'node:net';
import type { Epoch, VmId } from '../ft/identity.ts';
import { type Link, link } from '../ft/link.ts';
import type { Message } from '../ft/message.ts';
import { encodeMessage } from '../ft/message-codec.ts';
import type { ChannelEvents, ChannelPort } from '../hypervisor/ports.ts';
import { type HostPort, parseHostPort } from './address.ts';
import { acceptSessions, connectSession, type Session } from './channel-session.ts';
import type { ChannelCredentials } from './credentials.ts';
import { MessageStream } from './message-stream.ts';
import { OutgoingQueue } from './outgoing-queue.ts';
import type { HeartbeatKeys } from './secure-session.ts';

/**
 * What nobody flushes waits for so long at most: acks that no output waits for, what was replayed, and which outputs have
 * left. A busy guest's entries come 16 ms apart: the ack and the news of their replay travel together.
 */
const BATCH_MS = 20;
const GREETING_MS = 3000;
const CLOSING_MS = 1000;
/** Strangers that have not greeted yet; more are turned away. */
const UNGREETED_MAX = 16;

export interface TcpChannelOptions {
  readonly vm: VmId;
  /** 'none': anybody who reaches the port can read the guest's memory. For a wire that is safe by itself. */
  readonly security: ChannelCredentials | 'none';
  /** Compresses what it sends, batch by batch. The receiver needs no option. */
  readonly compresses?: boolean;
  /** A secure session's keys for the heartbeats of its generation. */
  readonly onHeartbeatKeys?: (generation: Epoch, keys: HeartbeatKeys, end: 'client' | 'server') => void;
}

interface Connection {
  readonly link: Link;
  readonly socket: Socket;
  readonly wire: Socket;
  readonly stream: MessageStream;
  readonly outgoing: OutgoingQueue;
  readonly greetingTimer: NodeJS.Timeout;
  batch: NodeJS.Timeout | undefined;
}

/**
 * The logging channel on TCP, inside TLS unless told otherwise. Flushes and acks run inside the socket's callback,
 * without a hop: the bytes of an ack are read, decoded and given to the protocol core, and the output that it
 * releases is written, before the callback returns [FT 3.5].
 */
export class TcpChannel implements ChannelPort {
  readonly #options: TcpChannelOptions;
  readonly #connections = new Map<Link, Connection>();
  #events!: ChannelEvents;
  #server: Server | undefined;
  #links = 0;
  #logBytes = 0;
  #pastWireBytes = 0;
  /** The newest generation that this side has welcomed: sessions of older ones are refused. */
  #welcomed: Epoch | undefined;
  #closed = false;

  constructor(options: TcpChannelOptions) {
    this.#options = options;
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
  }

  /** For a backup: accepts primaries. The result is the address that is really listened on, or one line. */
  accept(at: HostPort, ready: (port: number) => void, refused: (reason: string) => void): void {
    this.#server = acceptSessions(at, this.#options, {
      admits: (handshakes) => {
        const greeting = [...this.#connections.values()].filter(({ stream }) => !stream.greeted).length;
        return !this.#closed && handshakes + greeting < UNGREETED_MAX;
      },
      isOver: (generation) => this.#welcomed !== undefined && generation < this.#welcomed,
      session: (session) => {
        if (this.#closed) session.socket.destroy();
        else this.#add(session, 'hello');
      },
      // No link of ours: it tells that somebody was turned away.
      stranger: (reason) => {
        if (!this.#closed) this.#events.broken(this.#newLink(), reason);
      },
      ready,
      refused,
    });
  }

  /** Frames of log entries that were sent, in bytes before anything wraps them (design 10). */
  get logBytes(): number {
    return this.#logBytes;
  }

  /** All that was written to the network, with TLS's own share; below that only TCP's and IP's headers. */
  get wireBytes(): number {
    let bytes = this.#pastWireBytes;
    for (const { wire } of this.#connections.values()) bytes += wire.bytesWritten;
    return bytes;
  }

  connect(address: string, generation: Epoch): void {
    const parsed = parseHostPort(address);
    if (!parsed.ok) {
      queueMicrotask(() => this.#events.broken(undefined, parsed.error));
      return;
    }
    connectSession(parsed.value, generation, this.#options, {
      session: (session) => {
        if (this.#closed) session.socket.destroy();
        else this.#events.connected(this.#add(session, 'welcome'), address);
      },
      failed: (reason) => {
        if (!this.#closed) this.#events.broken(undefined, `cannot connect to ${address}: ${reason}`);
      },
    });
  }

  send(target: Link, message: Message): void {
    const connection = this.#connections.get(target);
    if (!connection) return;
    if (message.kind === 'welcome' && message.generation > (this.#welcomed ?? -1))
      this.#welcomed = message.generation;
    const frame = encodeMessage(message);
    if (message.kind === 'entry') this.#logBytes += frame.length;
    connection.outgoing.add(frame);
    connection.batch ??= setTimeout(() => this.flush(target), BATCH_MS);
  }

  sendSnapshot(target: Link, snapshot: Uint8Array): void {
    this.#connections.get(target)?.outgoing.addSnapshot(snapshot);
  }

  flush(target: Link): void {
    const connection = this.#connections.get(target);
    if (!connection) return;
    clearTimeout(connection.batch);
    connection.batch = undefined;
    connection.outgoing.flush();
  }

  pauseReading(target: Link): void {
    this.#connections.get(target)?.socket.pause();
  }

  resumeReading(target: Link): void {
    this.#connections.get(target)?.socket.resume();
  }

  close(target: Link): void {
    const connection = this.#connections.get(target);
    if (!connection) return;
    this.flush(target);
    this.#forget(connection);
    const { socket } = connection;
    socket.end();
    setTimeout(() => socket.destroy(), CLOSING_MS).unref();
  }

  /** Ends everything at once. */
  shutDown(): void {
    this.#closed = true;
    this.#server?.close();
    for (const connection of [...this.#connections.values()]) {
      this.#forget(connection);
      connection.socket.destroy();
    }
  }

  #newLink(): Link {
    this.#links += 1;
    return link(this.#links);
  }

  #add({ socket, wire, generation, keys }: Session, greeting: 'hello' | 'welcome'): Link {
    const { vm, compresses = false, onHeartbeatKeys } = this.#options;
    const connection: Connection = {
      link: this.#newLink(),
      socket,
      wire,
      stream: new MessageStream(greeting, generation === undefined ? undefined : { vm, generation }),
      outgoing: new OutgoingQueue(socket, compresses),
      greetingTimer: setTimeout(() => this.#break(connection, 'no greeting came'), GREETING_MS),
      batch: undefined,
    };
    this.#connections.set(connection.link, connection);
    if (generation !== undefined && keys)
      onHeartbeatKeys?.(generation, keys, greeting === 'hello' ? 'server' : 'client');
    socket.on('data', (chunk) => this.#received(connection, chunk));
    socket.on('error', (error) => this.#break(connection, error.message));
    socket.on('close', () => this.#break(connection, 'closed by the other side'));
    return connection.link;
  }

  #received(connection: Connection, chunk: Uint8Array): void {
    if (!this.#connections.has(connection.link)) return;
    const messages = connection.stream.push(chunk);
    if (!messages.ok) {
      // Nothing of this chunk is applied: what was good in it comes again after the resumption.
      this.#break(connection, `bad frame: ${messages.error}`);
      return;
    }
    if (connection.stream.greeted) clearTimeout(connection.greetingTimer);
    if (messages.value.length > 0) this.#events.received(connection.link, messages.value);
  }

  #break(connection: Connection, reason: string): void {
    if (!this.#connections.has(connection.link)) return;
    this.#forget(connection);
    connection.socket.destroy();
    if (!this.#closed) this.#events.broken(connection.link, reason);
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection.link);
    this.#pastWireBytes += connection.wire.bytesWritten;
    clearTimeout(connection.greetingTimer);
    clearTimeout(connection.batch);
    // A late error of a socket that nobody looks at any more must not end the process.
    connection.socket.on('error', () => {});
  }
}
