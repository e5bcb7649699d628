import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { failed, ok, type Result } from '../base/result.ts';
import type { DiskBackend } from './disk-backend.ts';
import { clearInFile } from './file-allocation.ts';

const ZEROES = new Uint8Array(1024 * 1024);

/** A disk image as it is: byte n of the file is byte n of the disk. */
export class RawFile implements DiskBackend {
  readonly size: number;
  readonly readOnly: boolean;
  readonly #file: FileHandle;

  private constructor(file: FileHandle, size: number, readOnly: boolean) {
    this.#file = file;
    this.size = size;
    this.readOnly = readOnly;
  }

  static async open(path: string, options: { readonly readOnly?: boolean } = {}): Promise<Result<RawFile>> {
    const readOnly = options.readOnly === true;
    let file: FileHandle;
    try {
      file = await open(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
    } catch (error) {
      return failed(openError(path, error as NodeJS.ErrnoException));
    }
    const status = await file.stat();
    const refuse = async (reason: string): Promise<Result<RawFile>> => {
      await file.close();
      return failed(`disk ${path} ${reason}`);
    };
    if (!status.isFile()) return refuse('is not a file: give a raw disk image');
    if (status.size === 0) return refuse('is empty: give a raw disk image');
    if (status.size % 512 !== 0)
      return refuse(`is damaged: its size ${status.size} is no multiple of 512 bytes`);
    // Root may write anything; a file that nobody has the right to write is read-only all the same.
    if (!readOnly && (status.mode & 0o222) === 0) return refuse('is read-only: make it writable (chmod u+w)');
    return ok(new RawFile(file, status.size, readOnly));
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const buffer = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#file.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error('the disk image has become shorter');
      done += bytesRead;
    }
    return buffer;
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    let done = 0;
    while (done < data.length) {
      const { bytesWritten } = await this.#file.write(data, done, data.length - done, offset + done);
      done += bytesWritten;
    }
  }

  async clear(offset: number, length: number, allocated: boolean): Promise<void> {
    if (await clearInFile(this.#file.fd, offset, length, allocated)) return;
    for (let done = 0; done < length; done += ZEROES.length)
      await this.write(offset + done, ZEROES.subarray(0, Math.min(ZEROES.length, length - done)));
  }

  flush(): Promise<void> {
    return this.#file.datasync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function openError(path: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return `disk ${path} does not exist`;
    case 'EISDIR':
      return `disk ${path} is a folder: give a raw disk image`;
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return `disk ${path} is read-only: make it writable (chmod u+w)`;
    default:
      return `disk ${path} cannot be opened (${error.code ?? error.message})`;
  }
}
