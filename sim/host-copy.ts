import type { CopyName } from '../src/ft/copy-name.ts';
import { BLOCK_BYTES, HEAD_WORDS } from './guest.ts';
import { bytesOf, wordsOf } from './words.ts';
import type { World } from './world.ts';

export const ZERO_BLOCK = new Uint8Array(BLOCK_BYTES);

/** One host's own copy of the disk, with what stands beside it. It outlives the processes there, and mostly the power. */
export class HostCopy {
  readonly #world: World;
  readonly host: number;
  name: CopyName;
  whole = true;
  readonly #blocks = new Map<number, Uint8Array>();
  /** When a block got which content. */
  readonly #history = new Map<number, { readonly at: number; readonly data: Uint8Array }[]>();
  /** What a block held at the last flush, where it has been written since. */
  readonly #volatile = new Map<number, Uint8Array>();

  constructor(world: World, host: number) {
    this.#world = world;
    this.host = host;
    this.name = { id: `copy ${host}`, follows: undefined };
    // Rubbish from some earlier use.
    for (let client = 0; client < world.profile.clients; client++)
      this.#blocks.set(client * BLOCK_BYTES, bytesOf(new Int32Array(BLOCK_BYTES >> 2).fill(-2 - host)));
  }

  /** The VM may be started from it: it is whole, and no backup's, which may lack what was not replayed. */
  get usable(): boolean {
    return this.whole && this.name.follows === undefined;
  }

  /** The VM is installed here. */
  clear(): void {
    this.#blocks.clear();
  }

  read(offset: number): Uint8Array {
    return this.#blocks.get(offset) ?? ZERO_BLOCK;
  }

  write(offset: number, data: Uint8Array): void {
    if (!this.#volatile.has(offset)) this.#volatile.set(offset, this.read(offset));
    const block = new Uint8Array(BLOCK_BYTES);
    block.set(data);
    const history = this.#history.get(offset) ?? [{ at: -1, data: this.read(offset) }];
    this.#history.set(offset, history);
    this.#blocks.set(offset, block);
    history.push({ at: this.#world.now, data: block });
  }

  /** Whether this block had that content at some time since then. */
  held(offset: number, content: Uint8Array, since: number): boolean {
    const same = (data: Uint8Array): boolean => wordsOf(data).join() === wordsOf(content).join();
    const history = this.#history.get(offset) ?? [];
    const later = history.filter(({ at }) => at > since);
    const before = history.findLast(({ at }) => at <= since)?.data;
    return same(this.read(offset)) || later.some(({ data }) => same(data)) || (before ? same(before) : false);
  }

  flush(): void {
    this.#volatile.clear();
  }

  /** Some of what was not flushed is gone. */
  losePower(): void {
    for (const [offset, before] of this.#volatile)
      if (this.#world.random.chance(0.5)) {
        this.#blocks.set(offset, before);
        this.#history.get(offset)?.push({ at: this.#world.now, data: before });
      }
    this.#volatile.clear();
  }

  bootValues(): number[] {
    return this.#world.clients.map((_, client) => wordsOf(this.read(client * BLOCK_BYTES))[HEAD_WORDS]!);
  }
}
