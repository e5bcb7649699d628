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
  /** The vCPU waits for an input that only the outside can give. */
  #endless = false;

  constructor(vcpu: VcpuLoop, events: { beforeStep: () => void; afterStep: (now: number) => void }) {
    this.#vcpu = vcpu;
    this.#events = events;
  }

  get idle(): boolean {
    return this.#timer !== undefined || this.#endless;
  }

  /** True when no timer of the guest will ever wake it. */
  get endless(): boolean {
    return this.#endless;
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
    this.#endless = false;
    this.#events.afterStep(now);
    if (this.#stopped || this.#scheduled) return;
    if (step.kind === 'busy') {
      this.kick();
    } else if (step.until === undefined) {
      this.#endless = true;
      // Keeps the process alive: the guest may be woken by a signal to it, or by its console.
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
