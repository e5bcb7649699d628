import type { GuestNanoseconds } from '../base/units.ts';
import type { Timer } from '../device/device.ts';

class MachineTimer implements Timer {
  deadline: GuestNanoseconds | undefined;
  readonly fire: () => void;
  readonly #changed: () => void;

  constructor(fire: () => void, changed: () => void) {
    this.fire = fire;
    this.#changed = changed;
  }

  arm(deadline: GuestNanoseconds): void {
    if (this.deadline === deadline) return;
    this.deadline = deadline;
    this.#changed();
  }

  disarm(): void {
    if (this.deadline === undefined) return;
    this.deadline = undefined;
    this.#changed();
  }
}

/** All timers of the machine, in the order of their creation. Their deadlines are the devices' state. */
export class Timers {
  readonly #timers: MachineTimer[] = [];
  readonly #changed: () => void;

  /** `changed`: a deadline moved, so the engine must stop and look. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  create(fire: () => void): Timer {
    const timer = new MachineTimer(fire, this.#changed);
    this.#timers.push(timer);
    return timer;
  }

  get nextDeadline(): GuestNanoseconds | undefined {
    let next: GuestNanoseconds | undefined;
    for (const { deadline } of this.#timers) {
      if (deadline !== undefined && (next === undefined || deadline < next)) next = deadline;
    }
    return next;
  }

  /** Fires the earliest timer that is due; false when there is none. At equal deadlines the elder goes first. */
  fireOne(now: GuestNanoseconds): boolean {
    let due: MachineTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.deadline === undefined || timer.deadline > now) continue;
      if (due === undefined || timer.deadline < due.deadline!) due = timer;
    }
    if (due === undefined) return false;
    due.deadline = undefined;
    due.fire();
    return true;
  }
}
