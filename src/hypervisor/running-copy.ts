import { encodeUnchanging } from '../machine/copied-pages.ts';
import type { Machine } from '../machine/door.ts';
import type { CopyFigures } from './ports.ts';

/** Pages that are encoded between two slices: a quarter of a megabyte, some tens of microseconds. */
const PAGES_AT_ONCE = 60;
/** And so much of what never changes. */
const BYTES_AT_ONCE = 240 * 1024;
/** Parts that may be on their way. */
const PARTS_AHEAD = 16;
/** So few are copied while the guest stands still. */
const LAST_PAGES_MAX = 1024;
const ROUNDS_MAX = 8;
/** A round that leaves more than this of the one before gains nothing: the guest writes as fast as it is copied. */
const SHRINKS_TO = 0.8;

/** Some of the pages, or all that are left of a copy whose guest must stand still now. */
export type CopyPart =
  | { readonly kind: 'pages'; readonly bytes: Uint8Array }
  | { readonly kind: 'last'; readonly pages: Uint32Array };

/**
 * A copy of a running guest's RAM [FT 3.1]: all pages, then those that have changed meanwhile, and so on, until few are
 * left or their number does not fall any more.
 */
export class RunningCopy {
  readonly number: number;
  readonly #machine: Required<Pick<Machine, 'changedPages' | 'encodePages'>>;
  /** What is left of what never changes: it goes first. */
  #unchanging: Uint8Array;
  #round: Uint32Array;
  #at = 0;
  #rounds = 1;
  #pages = 0;
  #parts = 0;
  #arrived = 0;

  readonly #lastPagesMax: number;

  private constructor(number: number, machine: Machine, lastPagesMax: number) {
    this.number = number;
    this.#lastPagesMax = lastPagesMax;
    this.#machine = machine as Required<Machine>;
    this.#unchanging = machine.unchanging?.() ?? new Uint8Array(0);
    this.#round = this.#machine.changedPages();
  }

  /** Undefined: this machine can only be copied as a whole. */
  static of(number: number, machine: Machine, lastPagesMax = LAST_PAGES_MAX): RunningCopy | undefined {
    if (!machine.beginCopy || !machine.changedPages || !machine.encodePages) return undefined;
    machine.beginCopy();
    return new RunningCopy(number, machine, lastPagesMax);
  }

  arrived(parts: number): void {
    this.#arrived = Math.max(this.#arrived, parts);
  }

  /** The other end has got nearly everything: more may be sent. */
  get ready(): boolean {
    return this.#parts - this.#arrived < PARTS_AHEAD;
  }

  /** Between two slices, when it is `ready`. Undefined: nothing but zeroes, or another round begins. */
  next(): CopyPart | undefined {
    if (this.#unchanging.length > 0) {
      const bytes = encodeUnchanging(this.#unchanging.subarray(0, BYTES_AT_ONCE));
      this.#unchanging = this.#unchanging.subarray(BYTES_AT_ONCE);
      this.#parts += 1;
      return { kind: 'pages', bytes };
    }
    if (this.#at < this.#round.length) {
      const pages = this.#round.subarray(this.#at, this.#at + PAGES_AT_ONCE);
      this.#at += pages.length;
      const bytes = this.#machine.encodePages(pages, this.#rounds === 1);
      if (bytes.length === 0) return undefined;
      this.#pages += pages.length;
      this.#parts += 1;
      return { kind: 'pages', bytes };
    }
    const before = this.#round.length;
    const pages = this.#machine.changedPages();
    const enough =
      pages.length <= this.#lastPagesMax || this.#rounds === ROUNDS_MAX || pages.length > before * SHRINKS_TO;
    if (enough) return { kind: 'last', pages };
    this.#round = pages;
    this.#at = 0;
    this.#rounds += 1;
    return undefined;
  }

  figures(lastPages: number): CopyFigures {
    return { number: this.number, rounds: this.#rounds, pages: this.#pages + lastPages, lastPages };
  }
}
