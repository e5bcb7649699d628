import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

const REPEATED = 'no output that a later state contradicts';

/**
 * Every output carries its number, and a hash over all outputs before it and the state that made it. So whoever
 * reads the outputs alone sees that an output contradicts one that was seen before, and that one is missing.
 */
export class ConsistentOutputs {
  readonly #world: World;
  /** By number. A request without content has no hash of its own; the output after it tells it. */
  #links: (number | undefined)[] = [1];
  #life = 1;

  constructor(world: World) {
    this.#world = world;
  }

  /** A guest that was booted again begins a history of its own. */
  bornAgain(life: number): void {
    if (life <= this.#life) return;
    this.#life = life;
    this.#links = [1];
  }

  get last(): number {
    return this.#links.length - 1;
  }

  seen(instance: Instance, number: number, before: number | undefined, link: number | undefined): void {
    // Of an older life nothing may come any more: that is for another oracle to say.
    if (instance.vcpu.life < this.#life) return;
    if (number > this.#links.length) {
      const missing = this.#links.length;
      this.#world.violated(
        'nothing lost',
        `${instance.name} lets out output ${number}, and nobody has seen output ${missing}`,
      );
      return;
    }
    this.#check(instance, number - 1, before);
    this.#check(instance, number, link);
  }

  #check(instance: Instance, number: number, link: number | undefined): void {
    const known = this.#links[number];
    if (known !== undefined && link !== undefined && known !== link)
      this.#world.violated(
        REPEATED,
        `${instance.name} contradicts output ${number}, which was seen with another content`,
      );
    if (known === undefined) this.#links[number] = link;
  }
}
