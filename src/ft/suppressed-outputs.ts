import type { DiskRequestOutput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { Takeover } from './action.ts';

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
    if (this.#own && output.output.kind === 'disk-request') return;
    if (output.number > this.#released) this.#kept.push(output);
  }

  released(number: bigint): void {
    if (number <= this.#released) return;
    this.#released = number;
    this.#kept = this.#kept.filter((output) => output.number > number);
  }

  /** `pending`: what the guest has asked of the disks and has no completion of, in order. */
  takeover(pending: readonly DiskRequestOutput[]): Pick<Takeover, 'released' | 'held' | 'started'> {
    const above = new Set<string>();
    for (const { output } of this.#kept) {
      if (output.kind === 'disk-request') above.add(`${output.disk}/${output.request}`);
    }
    const started = pending.filter((request) => !above.has(`${request.disk}/${request.request}`));
    return { released: this.#released, held: this.#kept, started };
  }
}
