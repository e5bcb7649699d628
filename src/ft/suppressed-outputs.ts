import type { DiskRequestOutput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { changesDisk, overlaps } from './extent.ts';
import { isHeld } from './output-rule.ts';
import type { OrderedRead, PastOutputs } from './past-outputs.ts';

/** What a replaying guest puts out: suppressed, but kept until it is known to have left, for go-live (rule 6). */
export class SuppressedOutputs {
  #released: bigint;
  #kept: NumberedOutput[];

  readonly #own: boolean;

  /** The state of the primary's hold queue at the snapshot. `own`: requests to disks of one's own are no outputs. */
  constructor(released: bigint, held: readonly NumberedOutput[], own = false) {
    this.#own = own;
    this.#released = released;
    this.#kept = [...held];
  }

  made(output: NumberedOutput): void {
    if (isHeld(output.output, this.#own) && output.number > this.#released) this.#kept.push(output);
  }

  released(number: bigint): void {
    if (number <= this.#released) return;
    this.#released = number;
    this.#kept = this.#kept.filter((output) => output.number > number);
  }

  /** `pending`: what the guest has asked of the disks and has no completion of, in order. */
  takeover(pending: readonly DiskRequestOutput[]): PastOutputs {
    const kept = new Map<string, bigint>();
    for (const { output, number } of this.#kept)
      if (output.kind === 'disk-request') kept.set(keyOf(output), number);
    const started: DiskRequestOutput[] = [];
    const reads: OrderedRead[] = [];
    const known = new Set(pending.map(keyOf));
    /** Asked so far, and still to be written. What a guest asked before its last reset it knows no more: that comes first. */
    const changes: OrderedRead[] = this.#kept.flatMap(({ output, number }) =>
      output.kind === 'disk-request' && changesDisk(output) && !known.has(keyOf(output))
        ? [{ request: output, number }]
        : [],
    );
    for (const request of pending) {
      const number = kept.get(keyOf(request));
      if (number !== undefined) {
        if (changesDisk(request)) changes.push({ request, number });
        continue;
      }
      const behind = changes.findLast((change) => overlaps(change.request, request));
      if (behind && request.operation === 'read') reads.push({ request, number: behind.number + 1n });
      else started.push(request);
    }
    return { released: this.#released, held: this.#kept, started, reads };
  }
}

function keyOf({ disk, request }: DiskRequestOutput): string {
  return `${disk}/${request}`;
}
