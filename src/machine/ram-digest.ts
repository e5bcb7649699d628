import type { Mmu } from '../engine/mmu.ts';

/** Odd, so that no page's hash is lost in the sum. */
const MIX = 0x9e37_79b9_7f4a_7c15n;

/**
 * What stands for guest RAM in a digest, kept up to date by what changed: the sum of its pages' hashes, each mixed with
 * its number.
 */
export class RamDigest {
  readonly #mmu: Mmu;
  readonly #hashPage: (page: number) => bigint;
  /** Hash of each page as of the last update; 0 for a page of zeroes. */
  readonly #pageHashes: BigUint64Array;
  #sum = 0n;
  #places = 0n;
  /** While a copy of the running machine is made: pages written since they were asked for. */
  #changed: Uint8Array | undefined;

  constructor(pages: number, mmu: Mmu, hashPage: (page: number) => bigint) {
    this.#mmu = mmu;
    this.#hashPage = hashPage;
    this.#pageHashes = new BigUint64Array(pages);
  }

  get pages(): number {
    return this.#pageHashes.length;
  }

  get sum(): bigint {
    return this.#sum;
  }

  /** The same sum with each page's hash taken as often as its number says, plus one: it tells which page differs. */
  get places(): bigint {
    return this.#places;
  }

  /** Only pages written since the last time are hashed; their write tags go, so that the next store is seen. */
  update(): void {
    this.#mmu.dropAllWriteTags();
    const { dirty } = this.#mmu;
    for (let page = dirty.indexOf(1); page >= 0; page = dirty.indexOf(1, page + 1)) {
      dirty[page] = 0;
      if (this.#changed !== undefined) this.#changed[page] = 1;
      const hash = this.#hashPage(page);
      const mixed = hash === 0n ? 0n : BigInt.asUintN(64, (hash ^ BigInt(page)) * MIX);
      const change = mixed - this.#pageHashes[page]!;
      this.#sum = BigInt.asUintN(64, this.#sum + change);
      this.#places = BigInt.asUintN(64, this.#places + change * BigInt(page + 1));
      this.#pageHashes[page] = mixed;
    }
  }

  /** The next update hashes every page. */
  forget(): void {
    this.#mmu.dirty.fill(1);
  }

  beginCopy(): void {
    this.#changed = new Uint8Array(this.pages).fill(1);
  }

  endCopy(): void {
    this.#changed = undefined;
  }

  /** Pages that a copy lacks, at first all of them; as of the last update. They count as copied then. */
  takeChanged(): Uint32Array {
    const changed = this.#changed;
    if (changed === undefined) return new Uint32Array(0);
    const pages: number[] = [];
    for (let page = changed.indexOf(1); page >= 0; page = changed.indexOf(1, page + 1)) pages.push(page);
    changed.fill(0);
    return Uint32Array.from(pages);
  }
}
