import type { InstanceId } from '../../src/ft/identity.ts';
import type { World } from '../world.ts';

/** When faults have stopped: somebody is live, every request is answered, and the VM is protected again. */
export class Progress {
  readonly #world: World;
  readonly #answers: number[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** Called when faults stop. */
  quiet(): void {
    this.#answers.push(...this.#world.clients.map((client) => client.answers));
  }

  /** Nobody has the VM's state any more, and no rule could have kept it. */
  get lost(): boolean {
    const { record } = this.#world.arbiter;
    const copy = this.#world.copies[this.#world.processOf(record.primary)?.host ?? -1];
    // From a copy that lacks what a winner had not replayed nobody starts the VM.
    if (this.#world.profile.restarts && (copy?.usable ?? true)) return false;
    const gone = (name: InstanceId | undefined): boolean => {
      const instance = this.#world.processOf(name);
      return instance === undefined || (!instance.running && instance.forced);
    };
    return gone(record.primary) && (record.mode !== 'pair' || gone(record.backup));
  }

  /** What is still missing; undefined when the run may end. */
  get missing(): string | undefined {
    const world = this.#world;
    const live = [...world.instances.values()].filter((instance) => instance.live);
    if (live.length !== 1) return `${live.length} instances are live`;
    const few = world.clients.findIndex((client, index) => client.answers < (this.#answers[index] ?? 0) + 3);
    if (few >= 0) return `client ${few} gets no answers`;
    const { record } = world.arbiter;
    const { state } = live[0]!.driver;
    if (record.mode !== 'pair' || state !== 'PAIR' || world.processOf(record.primary) !== live[0])
      return `the VM is not protected again (${state})`;
    const backup = world.processOf(record.backup);
    return backup?.running && backup.driver.state === 'BACK' ? undefined : 'its backup does not run';
  }
}
