import { type HostMilliseconds, hostMilliseconds, type InstructionCount } from '../base/units.ts';
import type { Timing } from './timing.ts';

interface Sample {
  readonly position: bigint;
  readonly time: HostMilliseconds;
  readonly at: InstructionCount;
}

/** How far the backup's execution is behind, in milliseconds and in counts [FT 3.2]. */
export class ExecutionLag {
  #samples: Sample[] = [];
  #replayedAt = 0n;
  #reachedAt = 0n;
  #sampled = Number.NEGATIVE_INFINITY;

  /** An entry at `position` was made now. One sample a millisecond is enough. */
  made(position: bigint, at: InstructionCount, now: HostMilliseconds): void {
    this.#reachedAt = at;
    if (now - this.#sampled < 1) return;
    this.#sampled = now;
    this.#samples.push({ position, time: now, at });
  }

  replayed(position: bigint): void {
    let done = 0;
    while (done < this.#samples.length && this.#samples[done]!.position <= position) done++;
    if (done === 0) return;
    this.#replayedAt = this.#samples[done - 1]!.at;
    this.#samples = this.#samples.slice(done);
  }

  /** Age of the oldest entry that is not replayed. */
  milliseconds(now: HostMilliseconds): number {
    const oldest = this.#samples[0];
    return oldest ? hostMilliseconds(now - oldest.time) : 0;
  }

  counts(): bigint {
    const behind = this.#reachedAt - this.#replayedAt;
    return this.#samples.length === 0 || behind < 0n ? 0n : behind;
  }
}

const SHARE_MIN = 0.1;

/** Slows the primary a few percent at a time while the lag is high, and lets it go as the backup catches up. */
export function nextShare(share: number, lagMs: number, timing: Timing): number {
  if (lagMs > timing.lagHighMs) return Math.max(SHARE_MIN, share * 0.95);
  if (lagMs < timing.lagLowMs) return Math.min(1, share * 1.05);
  return share;
}
