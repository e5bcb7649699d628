import type { BlockSet } from './block-set.ts';
import type { CopyName, Following } from './copy-name.ts';
import type { Extent } from './extent.ts';

interface FormerCopy {
  readonly follows: Following;
  readonly lacks: BlockSet;
}

/** More hosts are not remembered: who comes back after so many others gets all blocks. */
const COPIES_MAX = 4;

/**
 * What copies lack that belonged to a backup of this primary, and may come back: the bitmap of an outage. A copy is known
 * by its name and by whose writes it has; one that has been used otherwise since has another history, and gets everything.
 */
export class FormerCopies {
  readonly #copies = new Map<string, FormerCopy>();

  /** A backup with this copy is gone. */
  lost(id: string, follows: Following, lacks: BlockSet): void {
    this.#copies.delete(id);
    this.#copies.set(id, { follows, lacks });
    const [oldest] = this.#copies.keys();
    if (this.#copies.size > COPIES_MAX && oldest !== undefined) this.#copies.delete(oldest);
  }

  /** It is a backup's again, and lacks nothing. */
  whole(id: string): void {
    this.#copies.delete(id);
  }

  wrote(extent: Extent): void {
    for (const { lacks } of this.#copies.values()) lacks.add(extent);
  }

  /** Undefined: it may lack anything. */
  lackedBy({ id, follows }: CopyName): BlockSet | undefined {
    const copy = this.#copies.get(id);
    const same =
      copy?.follows.primary === follows?.primary && copy?.follows.generation === follows?.generation;
    return copy && same ? copy.lacks : undefined;
  }
}
