import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { CopyName, Following } from './copy-name.ts';
import type { Message } from './message.ts';

type CopyMessage = Extract<Message, { kind: 'disks-begin' | 'disk-block' | 'disks-end' }>;

/**
 * A backup's own copy of the disks [FT 4.1]: blocks that it lacks come beside the log, then what its guest writes again in
 * replay is all there is. How far that is on stable storage is told, for the case that this side is lost and comes back.
 */
export class CopyReception {
  readonly #do: (action: FtAction) => void;
  readonly #send: (message: Message) => void;
  readonly #everyMs: number;
  #name: CopyName;
  #following: Following | undefined;
  #begun = false;
  #ended = false;
  #whole = false;
  #stored = 0;
  #secures = 0;
  /** Asked for, and how far the log was replayed then. */
  #securing: { readonly number: number; readonly position: bigint } | undefined;
  #secured = 0n;
  #nextAt = Number.NEGATIVE_INFINITY;

  /** `everyMs`: how often it is told what is on stable storage. */
  constructor(
    name: CopyName,
    everyMs: number,
    perform: (action: FtAction) => void,
    send: (message: Message) => void,
  ) {
    this.#name = name;
    this.#everyMs = everyMs;
    this.#do = perform;
    this.#send = send;
  }

  get name(): CopyName {
    return this.#name;
  }

  /** A primary comes: what it sends is of this pair. */
  expect(following: Following): void {
    this.#following = following;
    this.#begun = false;
    this.#ended = false;
    this.#whole = false;
    this.#stored = 0;
    this.#securing = undefined;
    this.#secured = 0n;
  }

  /** What is wrong with it, if anything. `bytes`: how long the disks are. */
  receive(message: CopyMessage, bytes: readonly number[]): string | undefined {
    switch (message.kind) {
      case 'disks-begin':
        if (this.#begun) return 'the disks begin twice';
        this.#begun = true;
        // From here on, and until all is there, it is nobody's copy.
        if (message.whole) this.#name = { ...this.#name, follows: undefined };
        this.#do({ kind: 'begin-copy', whole: message.whole });
        return undefined;
      case 'disk-block': {
        const { extent, data } = message;
        if (!this.#begun || this.#ended) return 'a block at the wrong time';
        if (extent.offset + extent.length > (bytes[extent.disk] ?? 0))
          return 'a block beyond the end of its disk';
        this.#do({ kind: 'store-block', extent, data });
        return undefined;
      }
      case 'disks-end':
        if (!this.#begun || this.#ended) return 'the end of the disks at the wrong time';
        this.#ended = true;
        this.#secure(0n, this.#following);
        return undefined;
    }
  }

  stored(): void {
    this.#stored += 1;
    this.#send({ kind: 'blocks-stored', blocks: this.#stored });
  }

  secured(number: number): void {
    if (number !== this.#securing?.number) return;
    const { position } = this.#securing;
    this.#securing = undefined;
    if (!this.#whole) {
      this.#whole = true;
      this.#name = { ...this.#name, follows: this.#following };
      this.#send({ kind: 'disks-whole' });
    } else if (position > this.#secured) {
      this.#secured = position;
      this.#send({ kind: 'disks-secured', position });
    }
  }

  tick(replayed: bigint, now: HostMilliseconds): void {
    if (!this.#whole || this.#securing || now < this.#nextAt || replayed <= this.#secured) return;
    this.#nextAt = now + this.#everyMs;
    this.#secure(replayed, undefined);
  }

  #secure(position: bigint, follows: Following | undefined): void {
    this.#secures += 1;
    this.#securing = { number: this.#secures, position };
    this.#do({ kind: 'secure-copy', number: this.#secures, follows });
  }
}
