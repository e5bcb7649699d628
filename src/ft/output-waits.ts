import type { HostMilliseconds, InstructionCount } from '../base/units.ts';

/** One output's wait for its ack: rules 1 and 2 in figures. */
export interface OutputWait {
  readonly heldMs: number;
  /** How far the guest got while the output waited, as far as the log tells. */
  readonly counts: number;
}

/** What was measured since it was last taken. */
export interface WaitSamples {
  readonly waits: readonly OutputWait[];
  /** From an output's mark to its ack: a round trip of the logging channel. */
  readonly roundTripsMs: readonly number[];
}

interface Waiting {
  readonly number: bigint;
  readonly mark: bigint;
  readonly at: InstructionCount;
  readonly since: HostMilliseconds;
  acked: boolean;
}

/** Nobody has to take the samples: beyond so many none are kept. */
const SAMPLES_MAX = 4096;

/** Measures the outputs of a pair while they wait. It only looks on: nothing is decided by it. */
export class OutputWaits {
  #waiting: Waiting[] = [];
  #waits: OutputWait[] = [];
  #roundTripsMs: number[] = [];

  made(number: bigint, mark: bigint, at: InstructionCount, now: HostMilliseconds): void {
    this.#waiting.push({ number, mark, at, since: now, acked: false });
  }

  acked(position: bigint, now: HostMilliseconds): void {
    for (const waiting of this.#waiting) {
      if (waiting.mark > position) break;
      if (waiting.acked) continue;
      waiting.acked = true;
      if (this.#roundTripsMs.length < SAMPLES_MAX) this.#roundTripsMs.push(now - waiting.since);
    }
  }

  /** This output left, when the guest was known to have come to `reached`. */
  left(number: bigint, reached: InstructionCount, now: HostMilliseconds): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.number <= number) {
      const { number: own, at, since } = this.#waiting.shift()!;
      if (own === number && this.#waits.length < SAMPLES_MAX)
        this.#waits.push({ heldMs: now - since, counts: Number(reached - at) });
    }
  }

  /** Without a partner nothing waits for an ack. */
  forget(): void {
    this.#waiting = [];
  }

  take(): WaitSamples {
    const taken = { waits: this.#waits, roundTripsMs: this.#roundTripsMs };
    this.#waits = [];
    this.#roundTripsMs = [];
    return taken;
  }
}
