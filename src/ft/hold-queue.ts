import { assert } from '../base/assert.ts';
import { outputBytes } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { changesDisk, type Extent, overlaps } from './extent.ts';

interface Held {
  readonly output: NumberedOutput;
  /** Position of its mark in the primary's log. */
  readonly mark: bigint;
}

/**
 * The Output Rule (rule 1) [FT 2.2]: an output waits here until the entry of its mark is acked; the vCPU runs on
 * meanwhile (rule 2). Outputs leave in order, one at a time: the head holds back all that follow.
 */
export class HoldQueue {
  readonly #held: Held[] = [];
  #bytes = 0;
  #released: bigint;

  /** `released`: the number of the last output that has left. */
  constructor(released: bigint) {
    this.#released = released;
  }

  get released(): bigint {
    return this.#released;
  }

  get length(): number {
    return this.#held.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** In order, for a snapshot. */
  get outputs(): readonly NumberedOutput[] {
    return this.#held.map((held) => held.output);
  }

  /** What is not held (output-rule.ts) leaves gaps in the numbers. */
  hold(output: NumberedOutput, mark: bigint): void {
    const last = this.#held.at(-1);
    const before = last ? last.output.number : this.#released;
    assert(output.number > before, `output ${output.number} follows ${before} in the hold queue`);
    this.#held.push({ output, mark });
    this.#bytes += outputBytes(output.output);
  }

  /** Something made before that number, and waiting, changes what is there. */
  changesBefore(number: bigint, extent: Extent): boolean {
    return this.#held.some(({ output: { number: earlier, output } }) => {
      const changes = output.kind === 'disk-request' && changesDisk(output) && overlaps(output, extent);
      return changes && earlier < number;
    });
  }

  /** The next output that may leave, when every gate has acked up to `acked`. */
  releasable(acked: bigint): NumberedOutput | undefined {
    const head = this.#held[0];
    return head && head.mark <= acked ? head.output : undefined;
  }

  /** Called after the hand-over returned, never before (rule 6, "Nothing lost"). */
  leave(number: bigint): void {
    const head = this.#held.shift();
    assert(head?.output.number === number, `output ${number} leaves out of turn`);
    this.#bytes -= outputBytes(head.output.output);
    this.#released = number;
  }
}
