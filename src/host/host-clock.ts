import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { ClockEvents, ClockPort } from '../hypervisor/ports.ts';

/** The process's monotonic clock [hypervisor/ports.ts ClockPort]. */
export class HostClock implements ClockPort {
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #events: ClockEvents | undefined;

  listen(events: ClockEvents): void {
    this.#events = events;
  }

  now(): HostMilliseconds {
    return hostMilliseconds(performance.now());
  }

  setTimer(name: string, at: HostMilliseconds): void {
    this.clearTimer(name);
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      this.#events?.timer(name);
    }, at - performance.now());
    this.#timers.set(name, timer);
  }

  clearTimer(name: string): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
