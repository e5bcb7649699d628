import { assert } from '../base/assert.ts';
import { outputBytes } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';

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

  readonly #gaps: boolean;

  /** `released`: the number of the last output that has left. `gaps`: some kinds of outputs never come here. */
  constructor(released: bigint, gaps = false) {
    this.#released = released;
    this.#gaps = gaps;
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

  hold(output: NumberedOutput, mark: bigint): void {
    const last = this.#held.at(-1);
    const before = last ? last.output.number : this.#released;
    const follows = this.#gaps ? output.number > before : output.number === before + 1n;
    assert(follows, `output ${output.number} follows ${before} in the hold queue`);
    this.#held.push({ output, mark });
    this.#bytes += outputBytes(output.output);
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
