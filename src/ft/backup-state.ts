/** Protocol 5. WAIT: no primary has come yet. LIVE: this side goes on as a Primary. */
export type BackupState = 'WAIT' | 'LOAD' | 'BACK' | 'ASK' | 'OPEN' | 'LIVE' | 'HALT';

export interface BackupFigures {
  readonly state: BackupState;
  /** Positions of the log. */
  readonly received: bigint;
  readonly replayed: bigint;
  /** Entries that wait for their replay. */
  readonly bufferedBytes: number;
}
