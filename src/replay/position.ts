/** What recorder and replayer have to know of the past to go on from a snapshot or after a takeover. */
export interface LogPosition {
  /** The number of the last output made. */
  readonly outputs: bigint;
}

export const LOG_START: LogPosition = { outputs: 0n };
