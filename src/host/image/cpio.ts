import { assert } from '../../base/assert.ts';

/**
 * Writes a cpio archive in the "newc" format that Linux unpacks as its initramfs
 * [Linux Documentation/driver-api/early-userspace/buffer-format]. Same calls, same bytes.
 */

const TYPE = { directory: 0o040000, file: 0o100000, symlink: 0o120000, character: 0o020000 } as const;
const TRAILER = 'TRAILER!!!';

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly links: number;
  readonly content: Uint8Array;
  readonly device: readonly [major: number, minor: number];
}

export class CpioArchive {
  readonly #chunks: Buffer[] = [];
  readonly #directories = new Set<string>();
  #length = 0;
  #inode = 0;

  /** Adds a directory and those above it; adding one twice changes nothing. */
  directory(path: string, permissions = 0o755): this {
    if (path === '' || this.#directories.has(path)) return this;
    const slash = path.lastIndexOf('/');
    if (slash > 0) this.directory(path.slice(0, slash));
    this.#directories.add(path);
    return this.#add({
      name: path,
      mode: TYPE.directory | permissions,
      links: 2,
      content: EMPTY,
      device: NONE,
    });
  }

  file(path: string, permissions: number, content: Uint8Array): this {
    return this.#inDirectory(path).#add({
      name: path,
      mode: TYPE.file | permissions,
      links: 1,
      content,
      device: NONE,
    });
  }

  symlink(path: string, target: string): this {
    const content = Buffer.from(target);
    return this.#inDirectory(path).#add({
      name: path,
      mode: TYPE.symlink | 0o777,
      links: 1,
      content,
      device: NONE,
    });
  }

  characterDevice(path: string, permissions: number, major: number, minor: number): this {
    const mode = TYPE.character | permissions;
    return this.#inDirectory(path).#add({
      name: path,
      mode,
      links: 1,
      content: EMPTY,
      device: [major, minor],
    });
  }

  finish(): Buffer {
    this.#add({ name: TRAILER, mode: 0, links: 1, content: EMPTY, device: NONE });
    this.#pad(512);
    return Buffer.concat(this.#chunks, this.#length);
  }

  #inDirectory(path: string): this {
    const slash = path.lastIndexOf('/');
    return slash > 0 ? this.directory(path.slice(0, slash)) : this;
  }

  #add(entry: Entry): this {
    assert(!entry.name.startsWith('/'), 'names in a cpio archive are relative');
    const name = Buffer.from(`${entry.name}\0`);
    this.#inode += 1;
    const fields = [
      this.#inode,
      entry.mode,
      0, // owner
      0, // group
      entry.links,
      0, // time of change: none, so that the same content gives the same archive
      entry.content.length,
      0, // major and minor number of the device the file is on
      0,
      entry.device[0],
      entry.device[1],
      name.length,
      0, // checksum, not used by this format
    ];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    this.#append(Buffer.from(header));
    this.#append(name);
    this.#pad(4);
    this.#append(entry.content);
    this.#pad(4);
    return this;
  }

  #append(bytes: Uint8Array): void {
    this.#chunks.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    this.#length += bytes.length;
  }

  #pad(alignment: number): void {
    const rest = this.#length % alignment;
    if (rest !== 0) this.#append(Buffer.alloc(alignment - rest));
  }
}

const EMPTY = new Uint8Array(0);
const NONE: readonly [number, number] = [0, 0];
