import { hostMilliseconds } from '../base/units.ts';
import type { VcpuLoop } from '../hypervisor/vcpu.ts';

/** A sleep is cut into pieces no longer than this, so the loop sees its own clock now and then. */
const SLEEP_MS_MAX = 1000;

/**
 * Runs a live vCPU in this thread, between the turns of the event loop: a slice of at most a millisecond, then
 * whatever I/O is ready; asleep while the guest is halted.
 */
export class LiveLoop {
  readonly #vcpu: VcpuLoop;
  readonly #events: { readonly beforeStep: () => void; readonly afterStep: (now: number) => void };
  #timer: NodeJS.Timeout | undefined;
  #scheduled = false;
  #stopped = false;

  constructor(vcpu: VcpuLoop, events: { beforeStep: () => void; afterStep: (now: number) => void }) {
    this.#vcpu = vcpu;
    this.#events = events;
  }

  /** Something came: look at once. */
  kick(): void {
    if (this.#scheduled || this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#scheduled = true;
    setImmediate(this.#turn);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    this.#events.beforeStep();
    const now = performance.now();
    const step = this.#vcpu.step(hostMilliseconds(now));
    this.#events.afterStep(now);
    if (this.#stopped || this.#scheduled) return;
    if (step.kind === 'busy') {
      this.kick();
    } else if (step.until === undefined) {
      // Only an input can wake it. The timer keeps the process alive meanwhile.
      this.#timer = setTimeout(this.#wake, SLEEP_MS_MAX);
    } else {
      const wait = step.until - performance.now();
      // Timers of Node are late by up to a millisecond, never early by more than one.
      if (wait < 1) this.kick();
      else this.#timer = setTimeout(this.#wake, Math.min(wait, SLEEP_MS_MAX));
    }
  };

  readonly #wake = (): void => {
    this.#timer = undefined;
    this.kick();
  };
}
