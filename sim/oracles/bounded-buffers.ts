import type { Instance } from '../instance.ts';
import type { World } from '../world.ts';

/** What one slice of the vCPU and one chunk of the channel may add before an order to stop arrives, in bytes. */
const SLACK_BYTES = 6000;
/** What an entry or an output weighs at least. */
const WEIGHT_BYTES = 64;

/** Buffers stay within their configured bounds: counted at the ports, in entries and outputs. */
export class BoundedBuffers {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  look(instance: Instance): void {
    const { limits } = this.#world.profile;
    const waiting = instance.vcpu.waiting * WEIGHT_BYTES;
    if (waiting > limits.backupBytes + limits.streamBytes + SLACK_BYTES)
      this.#world.violated(
        'buffers bounded',
        `${instance.name} holds ${instance.vcpu.waiting} entries that are not replayed`,
      );
    const held = (instance.vcpu.outputs - instance.lastLeft) * WEIGHT_BYTES;
    if (instance.live && held > limits.holdBytes + SLACK_BYTES)
      this.#world.violated(
        'buffers bounded',
        `${instance.name} holds ${instance.vcpu.outputs - instance.lastLeft} outputs`,
      );
  }
}
