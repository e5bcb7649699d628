import type { VmRecord } from '../../src/storage/vm-record.ts';
import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

/**
 * A question that has been given up never wins: the record would name a side that does not know of it, and the
 * other one, healthy, would be superseded by the next crash.
 */
export class OpenQuestions {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  recordMoved(record: VmRecord, by: Instance): void {
    const { role, state } = by.driver;
    const follows = role === 'backup' && (state === 'WAIT' || state === 'LOAD' || state === 'BACK');
    if (record.mode === 'lone' && by.running && follows)
      this.#world.violated(
        'a question given up never wins',
        `epoch ${record.epoch} is ${record.primary}'s, in ${state}, which does not ask`,
      );
  }
}
