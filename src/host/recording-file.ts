import { closeSync, fchmodSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { failed, ok, type Result } from '../base/result.ts';
import { RECORDING_MAGIC } from '../replay/recording.ts';
import { fileProblem } from './guest-files.ts';

const BUFFER_BYTES = 256 * 1024;
/** A recorder that is killed has lost at most this much. */
const FLUSH_EVERY_MS = 250;

/** Where a recording is written. Only its owner may read it: it holds what the guest saw (design 4). */
export class RecordingFile {
  readonly #path: string;
  readonly #file: number;
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #buffered = 0;
  #flushedAt = 0;
  #failure: string | undefined;

  private constructor(path: string, file: number) {
    this.#path = path;
    this.#file = file;
  }

  /** An older recording is written over, any other file is refused. Nothing is lost before `begin`. */
  static open(path: string): Result<RecordingFile> {
    let file: number;
    try {
      file = openSync(path, 'a+', 0o600);
    } catch (error) {
      return failed(`recording ${path} ${fileProblem(error as NodeJS.ErrnoException)}`);
    }
    const status = fstatSync(file);
    const refuse = (reason: string): Result<RecordingFile> => {
      closeSync(file);
      return failed(`recording ${path} ${reason}: give another name`);
    };
    if (!status.isFile()) return refuse('is not a file');
    if (status.size > 0) {
      const start = Buffer.alloc(RECORDING_MAGIC.length);
      readSync(file, start, 0, start.length, 0);
      if (!start.equals(RECORDING_MAGIC)) return refuse('exists and is not a recording');
    }
    return ok(new RecordingFile(path, file));
  }

  /** What went wrong while writing, in one line. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Empties the file. */
  begin(): void {
    this.#try(() => {
      fchmodSync(this.#file, 0o600);
      ftruncateSync(this.#file, 0);
    });
  }

  write(bytes: Uint8Array): void {
    if (this.#buffered + bytes.length > BUFFER_BYTES) this.flush();
    if (bytes.length > BUFFER_BYTES) {
      this.#put(bytes);
      return;
    }
    this.#buffer.set(bytes, this.#buffered);
    this.#buffered += bytes.length;
  }

  /** Called now and then with the host's time. */
  flushWhenDue(now: number): void {
    if (now - this.#flushedAt < FLUSH_EVERY_MS) return;
    this.#flushedAt = now;
    this.flush();
  }

  flush(): void {
    if (this.#buffered === 0) return;
    this.#put(this.#buffer.subarray(0, this.#buffered));
    this.#buffered = 0;
  }

  close(): void {
    this.flush();
    closeSync(this.#file);
  }

  #put(bytes: Uint8Array): void {
    this.#try(() => {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done);
    });
  }

  #try(work: () => void): void {
    if (this.#failure !== undefined) return;
    try {
      work();
    } catch (error) {
      this.#failure = `recording ${this.#path} ${fileProblem(error as NodeJS.ErrnoException)}`;
    }
  }
}
