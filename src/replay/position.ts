import type { InstructionCount } from '../base/units.ts';

/** What recorder and replayer have to know of the past to go on from a snapshot or after a takeover. */
export interface LogPosition {
  /** The number of the last output made. */
  readonly outputs: bigint;
  /** The count at which a clock entry was last applied, if the machine still stands there. */
  readonly clockAt: InstructionCount | undefined;
}

export const LOG_START: LogPosition = { outputs: 0n, clockAt: undefined };
