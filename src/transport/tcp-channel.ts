import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net';
import { type Link, link } from '../ft/link.ts';
import type { Message } from '../ft/message.ts';
import { encodeMessage } from '../ft/message-codec.ts';
import type { ChannelEvents, ChannelPort } from '../hypervisor/ports.ts';
import { type HostPort, parseHostPort } from './address.ts';
import { MessageStream } from './message-stream.ts';
import { OutgoingQueue } from './outgoing-queue.ts';

/** Entries that nobody waits for travel together for so long at most. */
const BATCH_MS = 2;
const CONNECT_MS = 2000;
const GREETING_MS = 3000;
const CLOSING_MS = 1000;
/** Strangers that have not greeted yet; more are turned away. */
const UNGREETED_MAX = 16;

interface Connection {
  readonly link: Link;
  readonly socket: Socket;
  readonly stream: MessageStream;
  readonly outgoing: OutgoingQueue;
  readonly greetingTimer: NodeJS.Timeout;
  batch: NodeJS.Timeout | undefined;
}

/** The logging channel on TCP. Flushes and acks run inside the socket's callback, without a hop [FT 3.5]. */
export class TcpChannel implements ChannelPort {
  readonly #connections = new Map<Link, Connection>();
  #events!: ChannelEvents;
  #server: Server | undefined;
  #links = 0;
  #logBytes = 0;
  #closed = false;

  listen(events: ChannelEvents): void {
    this.#events = events;
  }

  /** For a backup: accepts primaries. The result is the address that is really listened on, or one line. */
  accept(at: HostPort, ready: (port: number) => void, refused: (reason: string) => void): void {
    const server = createServer({ noDelay: true }, (socket) => {
      const ungreeted = [...this.#connections.values()].filter((connection) => !connection.stream.greeted);
      if (this.#closed || ungreeted.length >= UNGREETED_MAX) socket.destroy();
      else this.#add(socket, 'hello');
    });
    this.#server = server;
    server.on('error', (error) => refused(`cannot listen on ${at.host}:${at.port}: ${error.message}`));
    server.listen(at.port, at.host, () => {
      const address = server.address();
      ready(typeof address === 'object' && address ? address.port : at.port);
    });
  }

  /** Frames of log entries that were sent, in bytes before anything wraps them (design 10). */
  get logBytes(): number {
    return this.#logBytes;
  }

  connect(address: string): void {
    const parsed = parseHostPort(address);
    if (!parsed.ok) {
      queueMicrotask(() => this.#events.broken(undefined, parsed.error));
      return;
    }
    const socket = tcpConnect({ ...parsed.value, noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_MS);
    let failed = false;
    const fail = (error: Error): void => {
      clearTimeout(timer);
      if (failed || this.#closed) return;
      failed = true;
      this.#events.broken(undefined, `cannot connect to ${address}: ${error.message}`);
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', fail);
      if (this.#closed) socket.destroy();
      else this.#events.connected(this.#add(socket, 'welcome'), address);
    });
  }

  send(target: Link, message: Message): void {
    const connection = this.#connections.get(target);
    if (!connection) return;
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

  #add(socket: Socket, greeting: 'hello' | 'welcome'): Link {
    this.#links += 1;
    const connection: Connection = {
      link: link(this.#links),
      socket,
      stream: new MessageStream(greeting),
      outgoing: new OutgoingQueue(socket),
      greetingTimer: setTimeout(() => this.#break(connection, 'no greeting came'), GREETING_MS),
      batch: undefined,
    };
    this.#connections.set(connection.link, connection);
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
    clearTimeout(connection.greetingTimer);
    clearTimeout(connection.batch);
    // A late error of a socket that nobody looks at any more must not end the process.
    connection.socket.on('error', () => {});
  }
}
