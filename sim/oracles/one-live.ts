import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

/**
 * Never two live: once an instance has gone live, nothing new comes from an older one. What the older one was
 * allowed to let out is in the newer one's history, so it may still arrive, late; anything beyond shows two.
 */
export class OneLive {
  readonly #world: World;
  readonly #order: Instance[] = [];
  /** The last output in its history when it went live. */
  readonly #history: number[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  wentLive(instance: Instance): void {
    const before = this.#order.at(-1);
    // A guest that was booted again has nothing of the older one's history.
    const sameLife = before === undefined || before.vcpu.life === instance.vcpu.life;
    const newer = this.#order.find((other) => other.vcpu.life > instance.vcpu.life);
    if (newer)
      this.#world.violated(
        'never two live',
        `${instance.name} goes live after the VM was restarted as ${newer.name}`,
      );
    this.#order.push(instance);
    this.#history.push(sameLife ? instance.vcpu.outputs : -1);
    if (this.#order.length > 1) this.#world.takeovers += 1;
  }

  left(instance: Instance, number: number): void {
    for (let index = this.#order.length - 1; index >= 0 && this.#order[index] !== instance; index--) {
      if (number > this.#history[index]!)
        this.#world.violated(
          'never two live',
          `${instance.name} lets out output ${number} after ${this.#order[index]!.name} went live with ${this.#history[index]} outputs`,
        );
    }
  }
}
