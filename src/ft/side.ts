import type { InstanceId, VmId } from './identity.ts';
import type { Limits, Timing } from './timing.ts';

/** What a side of the protocol knows of itself. */
export interface Side {
  readonly vm: VmId;
  readonly instance: InstanceId;
  /** The host it runs on: its partner runs on another one. */
  readonly host: string;
  /** Names everything that two sides must have alike: configuration, processor model, program version. */
  readonly machine: string;
  readonly timing: Timing;
  readonly limits: Limits;
}
