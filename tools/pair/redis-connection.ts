import { connect, type Socket } from 'node:net';

/** What redis answers [RESP protocol specification, version 2]. */
export type RedisReply = string | number | null | Error | readonly RedisReply[];

interface Waiting {
  resolve(reply: RedisReply): void;
  reject(error: Error): void;
}

/** One connection to redis, and never a second one: when it ends, everything waiting fails. */
export class RedisConnection {
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #received: Buffer = Buffer.alloc(0);
  #end: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (bytes) => this.#receive(bytes));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  /** On a connection that somebody has made. */
  static on(socket: Socket): RedisConnection {
    return new RedisConnection(socket);
  }

  static open(port: number): Promise<RedisConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RedisConnection(socket));
      });
    });
  }

  get ended(): Error | undefined {
    return this.#end;
  }

  /** The local port: the same before and after a takeover, or it would be another connection. */
  get localPort(): number | undefined {
    return this.#socket.localPort;
  }

  /** Sends commands in one piece; resolves with all their replies. */
  call(...commands: readonly (readonly string[])[]): Promise<RedisReply[]> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const replies = commands.map(
      () => new Promise<RedisReply>((resolve, reject) => this.#waiting.push({ resolve, reject })),
    );
    this.#socket.write(commands.map(encodeCommand).join(''));
    return Promise.all(replies);
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    try {
      for (;;) {
        const parsed = parseReply(this.#received, 0);
        if (parsed === undefined) return;
        this.#received = this.#received.subarray(parsed.end);
        const waiting = this.#waiting.shift();
        if (waiting === undefined) throw new Error('redis answered what nobody asked');
        waiting.resolve(parsed.reply);
      }
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    this.#end ??= error;
    this.#socket.destroy();
    for (const { reject } of this.#waiting.splice(0)) reject(this.#end);
  }
}

function encodeCommand(words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;
}

/** Undefined when the reply is not complete yet. */
function parseReply(bytes: Buffer, at: number): { reply: RedisReply; end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const line = bytes.toString('utf8', at + 1, lineEnd);
  const after = lineEnd + 2;
  switch (String.fromCharCode(bytes[at] ?? 0)) {
    case '+':
      return { reply: line, end: after };
    case '-':
      return { reply: new Error(line), end: after };
    case ':':
      return { reply: Number(line), end: after };
    case '$': {
      const length = Number(line);
      if (length < 0) return { reply: null, end: after };
      if (bytes.length < after + length + 2) return undefined;
      return { reply: bytes.toString('utf8', after, after + length), end: after + length + 2 };
    }
    case '*': {
      const replies: RedisReply[] = [];
      let end = after;
      for (let left = Number(line); left > 0; left--) {
        const item = parseReply(bytes, end);
        if (item === undefined) return undefined;
        replies.push(item.reply);
        end = item.end;
      }
      return { reply: replies, end };
    }
    default:
      throw new Error('redis answered rubbish');
  }
}
