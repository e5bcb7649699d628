import { unreachable } from '../base/assert.ts';
import type { FtEvent } from './event.ts';
import type { PrimaryState } from './primary-state.ts';

/** An order that may not fit. That a backup is wanted, or none, can be said at any time. */
export type Order = Extract<FtEvent, { kind: 'migrate-backup' | 'switch-over' | 'move' }>;

/** What of a primary decides whether an order fits. */
export interface Situation {
  readonly state: PrimaryState;
  /** Where its backup listens. */
  readonly backupAt: string | undefined;
  /** Where its guest is on its way to. */
  readonly movesTo: string | undefined;
  /** Fault tolerance is on, and not being turned off. */
  readonly wanted: boolean;
  /** The guest has not begun. */
  readonly guestWaits: boolean;
  readonly poweredOff: boolean;
  /** Its disks are of its host alone. */
  readonly ownDisks: boolean;
}

/** Why a primary does not do what it is ordered; undefined: it does. An order that does not fit changes nothing. */
export function whyNot(order: Order, situation: Situation): string | undefined {
  switch (order.kind) {
    case 'migrate-backup':
      return whyNoMigration(order.address, situation);
    case 'switch-over':
      return situation.state === 'PAIR' ? undefined : 'there is no backup to go on';
    case 'move':
      return whyNoMove(situation);
    default:
      return unreachable(order);
  }
}

/** `address`: where the backup is wanted, if that matters. */
function whyNoMigration(
  address: string | undefined,
  { state, backupAt, wanted }: Situation,
): string | undefined {
  if (state !== 'PAIR' || backupAt === undefined) return 'there is no backup to move';
  // Not where fault tolerance is just being turned off.
  if (!wanted) return 'fault tolerance is being turned off';
  return address === backupAt ? `the backup is at ${address} already` : undefined;
}

function whyNoMove(situation: Situation): string | undefined {
  const { state, movesTo, backupAt, guestWaits, ownDisks, poweredOff } = situation;
  if (movesTo !== undefined) return `the guest is on its way to ${movesTo}`;
  if (backupAt !== undefined)
    return 'the VM has a backup: turn fault tolerance off first, or move the backup and switch over';
  if (guestWaits) return 'the guest has not begun: it waits for its first backup';
  if (ownDisks) return 'its disks are of this host alone: turn fault tolerance on there, and switch over';
  if (poweredOff) return 'the guest is off';
  return state === 'SOLE' ? undefined : `not while the primary is in ${state}`;
}
