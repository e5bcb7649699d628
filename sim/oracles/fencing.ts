import type { DiskRequestOutput } from '../../src/machine/door.ts';
import type { World } from '../world.ts';

/** No write of an old generation takes effect after the opening of a newer one was answered, or after its writes. */
export class Fencing {
  readonly #world: World;
  #opened = 0;
  #written = 0;

  constructor(world: World) {
    this.#world = world;
  }

  opened(epoch: number): void {
    this.#opened = Math.max(this.#opened, epoch);
  }

  written(session: number, request: DiskRequestOutput): void {
    const newest = Math.max(this.#opened, this.#written);
    this.#written = Math.max(this.#written, session);
    if (session < newest)
      this.#world.violated(
        'no write of an old generation',
        `write ${request.request} of epoch ${session} takes effect after epoch ${newest} opened the disk`,
      );
  }
}
