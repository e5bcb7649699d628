/**
 * The guest's first serial port as standard input and output. On a terminal keys go to the guest as they are
 * (raw mode, so Ctrl-C too); Ctrl-A X leaves, Ctrl-A Ctrl-A sends one Ctrl-A. A pipe is passed on untouched.
 */
const ESCAPE = 0x01;
/** Input that the guest has not taken yet; beyond it standard input is not read. */
const WAITING_MAX = 65_536;

export interface TerminalEvents {
  /** There is something to take. */
  readonly input: () => void;
  /** The user wants to leave. */
  readonly leave: () => void;
  /** Nobody reads standard output any more. */
  readonly broken: (reason: string) => void;
}

export class SerialTerminal {
  readonly #events: TerminalEvents;
  readonly #isTty = process.stdin.isTTY === true;
  #escaped = false;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #unwritten: Uint8Array[] = [];
  readonly #onData = (chunk: Buffer) => this.#received(chunk);
  readonly #onError = (error: Error) => this.#events.broken(error.message);

  constructor(events: TerminalEvents) {
    this.#events = events;
    if (this.#isTty) process.stdin.setRawMode(true);
    process.stdin.on('data', this.#onData);
    process.stdin.on('error', () => {});
    process.stdout.on('error', this.#onError);
  }

  /** At most `room` bytes of what was typed, in order. */
  take(room: number): Uint8Array | undefined {
    const first = this.#waiting[0];
    if (first === undefined || room <= 0) return undefined;
    const taken = first.subarray(0, room);
    if (taken.length === first.length) this.#waiting.shift();
    else this.#waiting[0] = first.subarray(room);
    this.#waitingBytes -= taken.length;
    if (this.#waitingBytes < WAITING_MAX && process.stdin.isPaused()) process.stdin.resume();
    return taken;
  }

  /** Kept until `flush`: a guest writes in small pieces. */
  write(bytes: Uint8Array): void {
    this.#unwritten.push(bytes);
  }

  flush(): void {
    if (this.#unwritten.length === 0) return;
    const bytes = this.#unwritten.length === 1 ? this.#unwritten[0]! : Buffer.concat(this.#unwritten);
    this.#unwritten = [];
    process.stdout.write(bytes);
  }

  /** Standard input and output are as they were. */
  close(): void {
    this.flush();
    process.stdin.off('data', this.#onData);
    process.stdout.off('error', this.#onError);
    process.stdout.on('error', () => {});
    if (this.#isTty) process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stdin.unref?.();
  }

  #received(chunk: Buffer): void {
    const bytes = this.#isTty ? this.#withoutEscapes(chunk) : chunk;
    if (bytes.length === 0) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes >= WAITING_MAX) process.stdin.pause();
    this.#events.input();
  }

  #withoutEscapes(chunk: Buffer): Uint8Array {
    const bytes: number[] = [];
    for (const byte of chunk) {
      if (!this.#escaped) {
        if (byte === ESCAPE) this.#escaped = true;
        else bytes.push(byte);
        continue;
      }
      this.#escaped = false;
      if (byte === 0x78 || byte === 0x58) this.#events.leave();
      else if (byte === ESCAPE) bytes.push(ESCAPE);
      else bytes.push(ESCAPE, byte);
    }
    return Uint8Array.from(bytes);
  }
}
