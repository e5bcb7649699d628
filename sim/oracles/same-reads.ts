import type { DiskCompletedInput } from '../../src/machine/door.ts';
import type { Instance } from '../instance.ts';
import { wordsOf } from '../words.ts';
import type { World } from '../world.ts';

/** A backup's guest is given what a live one has read, whoever read it [FT 4.2]. */
export class SameReads {
  readonly #world: World;
  /** By request: what the guest got, in whichever history it asked. */
  readonly #live = new Map<number, Set<string>>();

  constructor(world: World) {
    this.#world = world;
  }

  completed(instance: Instance, { request, status, data }: DiskCompletedInput, live: boolean): void {
    const what = `${status} ${wordsOf(data).join()}`;
    const known = this.#live.get(request) ?? new Set();
    if (live) this.#live.set(request, known.add(what));
    else if (!known.has(what))
      this.#world.violated(
        'a backup reads what its primary has read',
        `${instance.name}'s guest is given ${what} for request ${request}, and nobody else was`,
      );
  }
}
