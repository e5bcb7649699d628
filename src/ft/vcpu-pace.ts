import type { HostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import { type ExecutionLag, nextShare } from './execution-lag.ts';
import type { Timing } from './timing.ts';

/** Whether the vCPU runs (rule 9: it stops when a buffer is full, and goes on at half), and how fast. */
export class VcpuPace {
  readonly #timing: Timing;
  readonly #do: (action: FtAction) => void;
  #running = false;
  #full = false;
  #share = 1;

  constructor(timing: Timing, perform: (action: FtAction) => void) {
    this.#timing = timing;
    this.#do = perform;
  }

  get share(): number {
    return this.#share;
  }

  /** `fill` of the fullest buffer: 1 is full. */
  update(mayRun: boolean, fill: number): void {
    this.#full = fill >= 1 || (this.#full && fill > 0.5);
    const on = mayRun && !this.#full;
    if (on === this.#running) return;
    this.#running = on;
    this.#do({ kind: on ? 'vcpu-run' : 'vcpu-pause' });
  }

  /** Slows it while the backup's execution is behind [FT 3.2]. */
  throttle(lag: ExecutionLag | undefined, now: HostMilliseconds): void {
    const behind = lag?.milliseconds(now) ?? 0;
    const share = nextShare(this.#share, behind, this.#timing, lag?.takeBacklogMs(now) ?? 0);
    if (share === this.#share) return;
    this.#share = share;
    this.#do({ kind: 'vcpu-share', share });
  }
}
