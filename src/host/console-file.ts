import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';

const FILE_BYTES_MAX = 16 * 1024 * 1024;
/** What a full disk or a slow one has not taken: the guest's console is lost beyond it, not the host's memory. */
const UNWRITTEN_BYTES_MAX = 4 * 1024 * 1024;

/** The last megabytes of a console: a file, and the one before it with `.1` behind its name. */
export class ConsoleFile {
  readonly #path: string;
  readonly #complain: (reason: string) => void;
  #stream: WriteStream;
  #bytes: number;

  constructor(path: string, complain: (reason: string) => void) {
    this.#path = path;
    this.#complain = complain;
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    this.#stream = this.#open();
  }

  write(bytes: Uint8Array): void {
    if (this.#bytes + bytes.length > FILE_BYTES_MAX) this.#begin();
    if (this.#stream.writableLength > UNWRITTEN_BYTES_MAX) return;
    this.#bytes += bytes.length;
    this.#stream.write(bytes);
  }

  #begin(): void {
    this.#stream.end();
    try {
      renameSync(this.#path, `${this.#path}.1`);
    } catch (error) {
      this.#complain((error as Error).message);
    }
    this.#bytes = 0;
    this.#stream = this.#open();
  }

  #open(): WriteStream {
    const stream = createWriteStream(this.#path, { flags: 'a', mode: 0o600 });
    stream.on('error', (error) => this.#complain(error.message));
    return stream;
  }
}
