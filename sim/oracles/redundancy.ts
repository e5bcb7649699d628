import type { VmRecord } from '../../src/storage/vm-record.ts';
import type { World } from '../world.ts';

/** A pair is never on one host (rule 10); that there is one again is asked when faults have stopped. */
export class Redundancy {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  recordMoved(record: VmRecord): void {
    if (record.mode !== 'pair') return;
    const primary = this.#world.processOf(record.primary);
    const backup = this.#world.processOf(record.backup);
    if (primary && backup && primary.host === backup.host)
      this.#world.violated('redundancy', `${primary.name} and its backup ${backup.name} are on one host`);
  }
}
