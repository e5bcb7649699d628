import type { BackupState } from './backup-state.ts';
import type { Message } from './message.ts';

/** What of a backup decides which message may come. */
export interface Expecting {
  readonly state: BackupState;
  /** Of the snapshot that its guest begins with: the first part of it is there, and the last one. */
  readonly begun: boolean;
  readonly complete: boolean;
  /** Its guest is moved here. */
  readonly move: boolean;
  /** Its disks are copies of its own. */
  readonly ownDisks: boolean;
}

/**
 * Order of the messages to a backup (rule 8): pages, the beginning of the disks, the snapshot, then entries and, beside
 * them, blocks of the disks; or, for a guest that is moved, the order to take over. Why this one may not come now;
 * undefined: it may. What is out of order ends the connection, and nothing of it is applied.
 */
export function whyNotNow(
  { kind }: Message,
  { state, begun, complete, move, ownDisks }: Expecting,
): string | undefined {
  const wrong = `${kind} at the wrong time`;
  switch (kind) {
    case 'pages':
      return state === 'LOAD' && !begun ? undefined : wrong;
    case 'disks-begin':
      if (state !== 'LOAD' || begun) return 'the disks begin at the wrong time';
      return ownDisks ? undefined : wrong;
    case 'snapshot-begin':
    case 'held-output':
    case 'snapshot-part':
    case 'snapshot-end':
      return state === 'LOAD' && !complete ? undefined : wrong;
    case 'entry':
      if (state !== 'BACK' && !(state === 'LOAD' && complete)) return 'an entry before its snapshot';
      // Nothing was executed after it, so there is nothing to replay.
      return move ? 'an entry after the snapshot of a guest that is moved' : undefined;
    case 'disk-block':
    case 'disks-end':
      return ownDisks && (state === 'LOAD' || state === 'BACK') ? undefined : wrong;
    case 'take-over':
      return state === 'BACK' && move ? undefined : wrong;
    default:
      // Of any time, or of none.
      return undefined;
  }
}
