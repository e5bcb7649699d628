import type { DiskRequestOutput } from '../machine/door.ts';
import type { Takeover } from './action.ts';
import type { Epoch } from './identity.ts';
import type { PastOutputs } from './past-outputs.ts';

/** Protocol 4. COPY, GATE and COMMIT bring a new backup to a lone primary, or later a second one to a pair. */
export type PrimaryState = 'START' | 'SOLE' | 'PAIR' | 'ASK' | 'COPY' | 'GATE' | 'COMMIT' | 'YIELD' | 'HALT';

export type PrimaryStart =
  /** Power-on: nobody may run unless the record still stands at `expected`. */
  | {
      readonly kind: 'power-on';
      readonly expected: Epoch;
      readonly waitForBackup: boolean;
      /** A host for a backup is looked for without an order. */
      readonly faultTolerance?: boolean;
      /** When the guest goes on from a saved state instead of its boot. */
      readonly resumed?: Resumed;
    }
  | { readonly kind: 'takeover'; readonly takeover: Takeover };

/** A guest that goes on from a saved state has let out everything; one that boots, nothing. */
export function pastOutputs(start: PrimaryStart): PastOutputs {
  if (start.kind === 'takeover') return start.takeover;
  const { outputs = 0n, started = [] } = start.resumed ?? {};
  return { released: outputs, held: [], started, reads: [] };
}

/** A saved state's past: outputs made until then have left, but disk operations without a completion go again. */
export interface Resumed {
  readonly outputs: bigint;
  readonly started: readonly DiskRequestOutput[];
}

export interface PrimaryFigures {
  readonly state: PrimaryState;
  readonly lagMs: number;
  readonly lagCounts: bigint;
  /** For how long the backup has had what it has not replayed. */
  readonly backlogMs: number;
  /** Silence of the backup for so long is suspicion; 0 without a backup. */
  readonly timeoutMs: number;
  readonly share: number;
  readonly heldOutputs: number;
  /** What fills the buffers, in bytes: outputs that wait, and entries that the backup has not acked. */
  readonly heldBytes: number;
  readonly unackedBytes: number;
  readonly released: bigint;
  readonly logEntries: bigint;
  /** How far the guest got, as the log tells. */
  readonly count: bigint;
}
