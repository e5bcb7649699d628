import { type Extent, overlaps } from '../ft/extent.ts';

/** What an operation is to those beside it. A barrier ends after all changes that came before it. */
export type OperationEffect = 'read' | 'change' | 'barrier';

interface Operation {
  readonly effect: OperationEffect;
  readonly extent: Extent;
  readonly after: Set<Operation>;
  readonly run: (done: () => void) => void;
}

/** Operations on disks, in the order in which they came where that can be seen; otherwise beside each other. */
export class OrderedOperations {
  readonly #operations = new Set<Operation>();

  /** `run` calls `done` when it has ended. */
  add(effect: OperationEffect, extent: Extent, run: (done: () => void) => void): void {
    const after = new Set<Operation>();
    for (const earlier of this.#operations) if (waits(effect, extent, earlier)) after.add(earlier);
    const operation = { effect, extent, after, run };
    this.#operations.add(operation);
    if (after.size === 0) this.#start(operation);
  }

  #start(operation: Operation): void {
    operation.run(() => {
      this.#operations.delete(operation);
      for (const later of this.#operations)
        if (later.after.delete(operation) && later.after.size === 0) this.#start(later);
    });
  }
}

function waits(effect: OperationEffect, extent: Extent, earlier: Operation): boolean {
  if (earlier.effect === 'barrier') return false;
  if (effect === 'barrier') return earlier.effect === 'change';
  if (effect === 'read' && earlier.effect === 'read') return false;
  return overlaps(earlier.extent, extent);
}
