import { type HostMilliseconds, hostMilliseconds, type InstructionCount } from '../base/units.ts';
import type { Timing } from './timing.ts';

interface Sample {
  readonly position: bigint;
  readonly time: HostMilliseconds;
  readonly at: InstructionCount;
  /** When the primary learnt that the backup has it. */
  received: HostMilliseconds | undefined;
}

/** How far the backup's execution is behind, in milliseconds and in counts [FT 3.2]. */
export class ExecutionLag {
  /** Entries that are not replayed, in order; those received come first. */
  #samples: Sample[] = [];
  #replayedAt = 0n;
  #reachedAt = 0n;
  #sampled = Number.NEGATIVE_INFINITY;
  /** The least backlog that was seen since it was taken. */
  #least = Number.POSITIVE_INFINITY;

  /** An entry at `position` was made now. One sample a millisecond is enough. */
  made(position: bigint, at: InstructionCount, now: HostMilliseconds): void {
    this.#reachedAt = at;
    if (now - this.#sampled < 1) return;
    this.#sampled = now;
    this.#samples.push({ position, time: now, at, received: undefined });
  }

  /** An ack came: the backup has everything up to `position`. */
  received(position: bigint, now: HostMilliseconds): void {
    for (const sample of this.#samples) {
      if (sample.position > position) return;
      sample.received ??= now;
    }
  }

  replayed(position: bigint, now: HostMilliseconds): void {
    let done = 0;
    while (done < this.#samples.length && this.#samples[done]!.position <= position) done++;
    if (done === 0) return;
    this.#replayedAt = this.#samples[done - 1]!.at;
    this.#samples = this.#samples.slice(done);
    this.#least = Math.min(this.#least, this.backlogMs(now));
  }

  /** Age of the oldest entry that is not replayed: the way there and the way back of the news are in it. */
  milliseconds(now: HostMilliseconds): number {
    const oldest = this.#samples[0];
    return oldest ? hostMilliseconds(now - oldest.time) : 0;
  }

  /** For how long the backup has had the oldest entry that it has not replayed. A slow wire is not in it. */
  backlogMs(now: HostMilliseconds): number {
    const received = this.#samples[0]?.received;
    return received === undefined ? 0 : now - received;
  }

  /**
   * The least backlog since the last call. At other moments a backup that keeps up has one too: entries come a batch at a
   * time, and the news of their replay waits for company.
   */
  takeBacklogMs(now: HostMilliseconds): number {
    const least = Math.min(this.#least, this.backlogMs(now));
    this.#least = Number.POSITIVE_INFINITY;
    return least;
  }

  counts(): bigint {
    const behind = this.#reachedAt - this.#replayedAt;
    return this.#samples.length === 0 || behind < 0n ? 0n : behind;
  }
}

const SHARE_MIN = 0.1;
/** At most so much faster or slower at one tick. */
const STEP = 0.05;
/** What a backup gets that is far behind, and the backlog beyond the allowed one at which it gets that. */
const FIRM_SLOWING = 0.2;
const FIRM_BACKLOG_MS = 40;

/**
 * Slows the primary a few percent at a time while the lag is above the threshold, and lets it go as the backup
 * catches up [FT 3.2]. Two equal hosts never catch up by themselves, so that what one stall cost would stay for ever:
 * already a small backlog slows the primary by a percent or two, and one of 43 ms by a fifth.
 */
export function nextShare(share: number, lagMs: number, timing: Timing, backlogMs = 0): number {
  if (lagMs > timing.lagHighMs) return Math.max(SHARE_MIN, share * (1 - STEP));
  const most = mildShare(backlogMs, timing);
  if (share > most) return Math.max(most, share * (1 - STEP));
  if (lagMs < timing.lagLowMs) return Math.min(most, share * (1 + STEP));
  return share;
}

function mildShare(backlogMs: number, { backlogMs: allowed }: Timing): number {
  if (backlogMs <= allowed) return 1;
  const depth = Math.min(1, (backlogMs - allowed) / FIRM_BACKLOG_MS);
  return 1 - FIRM_SLOWING * depth;
}
