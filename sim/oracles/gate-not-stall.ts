import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

/** So long a wait of an output shows whether the guest ran on: several slices, in milliseconds. */
const LONG_WAIT_MS = 30;

interface Waiting {
  readonly number: number;
  readonly since: number;
  readonly count: number;
}

/** The guest runs on while an output waits (rule 2): it has got further when the output leaves at last. */
export class GateNotStall {
  readonly #world: World;
  readonly #waiting = new Map<Instance, Waiting[]>();

  constructor(world: World) {
    this.#world = world;
  }

  made(instance: Instance, number: number): void {
    let waiting = this.#waiting.get(instance);
    if (!waiting) this.#waiting.set(instance, (waiting = []));
    waiting.push({ number, since: this.#world.now, count: instance.vcpu.count });
  }

  left(instance: Instance, number: number): void {
    const waiting = this.#waiting.get(instance);
    while (waiting?.[0] && waiting[0].number <= number) {
      const { number: own, since, count } = waiting.shift()!;
      if (own !== number || instance.vcpu.count > count || instance.vcpu.off) continue;
      // A stopped process and a full buffer stop the guest too, and a move lets nothing out while it stands still.
      if (
        this.#world.now - since < LONG_WAIT_MS ||
        instance.stoppedAt >= since ||
        instance.stoodStillAt >= since ||
        this.#world.profile.tinyBuffers
      )
        continue;
      this.#world.violated(
        'gate, not stall',
        `${instance.name}'s guest stood still at count ${count} while output ${number} waited for ${Math.round(this.#world.now - since)} ms`,
      );
    }
  }
}
