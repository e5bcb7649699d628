import { PAGE } from '../engine/layout.ts';
import type { OutputSink } from './door.ts';
import type { LockstepMachine } from './machine.ts';

/**
 * Pages of a running guest's RAM on their way to a copy of it. Each is its number and its bytes; a page of zeroes is
 * its number alone, with this bit.
 */
const ZEROES = 0x8000_0000;
const NUMBER_BYTES = 4;
/** No page: behind this number the rest of a part belongs to what never changes of the guest. */
const UNCHANGING = 0x7fff_ffff;
/** More of that than any guest is booted from. */
const UNCHANGING_MAX_BYTES = 1024 * 1024 * 1024;
/** Blocks in which staged pages are kept: most of RAM comes in order. */
const BLOCK_PAGES = 512;

/** `leavesZeroesOut`: whoever gets them has nothing but zeroes there. */
export function encodePages(ram: Uint8Array, pages: Uint32Array, leavesZeroesOut: boolean): Uint8Array {
  const bytes = new Uint8Array(pages.length * (NUMBER_BYTES + PAGE));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const page of pages) {
    const content = ram.subarray(page * PAGE, (page + 1) * PAGE);
    const zeroes = isZero(content);
    if (zeroes && leavesZeroesOut) continue;
    view.setUint32(at, zeroes ? page + ZEROES : page, true);
    at += NUMBER_BYTES;
    if (zeroes) continue;
    bytes.set(content, at);
    at += PAGE;
  }
  return bytes.slice(0, at);
}

/** A piece of what never changes, in the order in which the pieces come. */
export function encodeUnchanging(piece: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(NUMBER_BYTES + piece.length);
  new DataView(bytes.buffer).setUint32(0, UNCHANGING, true);
  bytes.set(piece, NUMBER_BYTES);
  return bytes;
}

export function isZero(page: Uint8Array): boolean {
  const words = new Uint32Array(page.buffer, page.byteOffset, page.length / 4);
  for (let word = 0; word < words.length; word++) if (words[word] !== 0) return false;
  return true;
}

/** What has come of a copy before its end. */
export interface CopiedPages {
  /** What never changes of the guest, as far as it has come. */
  readonly unchanging: Pieces;
  /** What is wrong with the pages, if anything. */
  add(bytes: Uint8Array): string | undefined;
  /** Calls with every page that is not all zeroes. */
  each(put: (page: number, content: Uint8Array) => void): void;
  /** Nothing has come. */
  clear(): void;
  /** A machine of exactly this configuration with the pages in it, to be used once, where one was made for them. */
  machineFor?(config: Uint8Array, sink: OutputSink): LockstepMachine | undefined;
}

/** Pieces of one text, in order. */
export class Pieces {
  #pieces: Uint8Array[] = [];
  #length = 0;

  /** False: it would be too long. */
  add(piece: Uint8Array): boolean {
    this.#length += piece.length;
    if (this.#length > UNCHANGING_MAX_BYTES) return false;
    this.#pieces.push(piece.slice());
    return true;
  }

  whole(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  clear(): void {
    this.#pieces = [];
    this.#length = 0;
  }
}

/** Calls with the pages in `bytes`, undefined for one of zeroes; or says what is wrong with them. */
export function eachCopiedPage(
  bytes: Uint8Array,
  pageMax: number,
  unchanging: Pieces,
  put: (page: number, content: Uint8Array | undefined) => void,
): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < NUMBER_BYTES) return 'copied pages end within a number';
    const word = view.getUint32(at, true);
    const zeroes = word >= ZEROES;
    const page = zeroes ? word - ZEROES : word;
    at += NUMBER_BYTES;
    if (word === UNCHANGING)
      return unchanging.add(bytes.subarray(at)) ? undefined : 'more was copied than any guest is booted from';
    if (page >= pageMax) return `page ${page} was copied, which no guest has`;
    if (zeroes) {
      put(page, undefined);
      continue;
    }
    if (bytes.length - at < PAGE) return 'copied pages end within a page';
    put(page, bytes.subarray(at, at + PAGE));
    at += PAGE;
  }
  return undefined;
}

interface Block {
  readonly bytes: Uint8Array;
  readonly present: Uint8Array;
}

/** What has come of a copy so far: the last content of each page. RAM that nothing was said of is zero. */
export class StagedPages implements CopiedPages {
  readonly unchanging = new Pieces();
  readonly #pageMax: number;
  readonly #blocks = new Map<number, Block>();

  /** `ramBytesMax`: no guest has more. */
  constructor(ramBytesMax: number) {
    this.#pageMax = ramBytesMax / PAGE;
  }

  add(bytes: Uint8Array): string | undefined {
    return eachCopiedPage(bytes, this.#pageMax, this.unchanging, (page, content) => {
      if (content) this.#set(page, content);
      else this.#zero(page);
    });
  }

  clear(): void {
    this.#blocks.clear();
    this.unchanging.clear();
  }

  #set(page: number, content: Uint8Array): void {
    const number = Math.floor(page / BLOCK_PAGES);
    let block = this.#blocks.get(number);
    if (block === undefined) {
      block = { bytes: new Uint8Array(BLOCK_PAGES * PAGE), present: new Uint8Array(BLOCK_PAGES) };
      this.#blocks.set(number, block);
    }
    block.bytes.set(content, (page % BLOCK_PAGES) * PAGE);
    block.present[page % BLOCK_PAGES] = 1;
  }

  #zero(page: number): void {
    const block = this.#blocks.get(Math.floor(page / BLOCK_PAGES));
    if (block !== undefined) block.present[page % BLOCK_PAGES] = 0;
  }

  each(put: (page: number, content: Uint8Array) => void): void {
    for (const [number, { bytes, present }] of this.#blocks) {
      for (let index = 0; index < BLOCK_PAGES; index++)
        if (present[index] === 1)
          put(number * BLOCK_PAGES + index, bytes.subarray(index * PAGE, (index + 1) * PAGE));
    }
  }
}
