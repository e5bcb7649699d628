import type { DiskRequestOutput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';

/** What is known of the outputs before this side's first. */
export interface PastOutputs {
  /** The number of the last output known to have left. */
  readonly released: bigint;
  /** Outputs above it, in order. */
  readonly held: readonly NumberedOutput[];
  /** Disk operations that have left and have no completion, in the order of their issue. */
  readonly started: readonly DiskRequestOutput[];
  /** Reads without a completion that come after a change of what they read which is among `held`, in order. */
  readonly reads: readonly OrderedRead[];
}

/** A disk read and its place among the outputs: it comes before those of this number and above. */
export interface OrderedRead {
  readonly request: DiskRequestOutput;
  readonly number: bigint;
}
