import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { ClockEvents, ClockPort } from '../hypervisor/ports.ts';

/** Milliseconds by the monotonic clock that all processes of this host share. */
export function sharedMs(): number {
  return Math.round(Number(process.hrtime.bigint() / 1000n)) / 1000;
}

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
