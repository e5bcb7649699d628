import { FAILED, type Instance } from './content.ts';

/**
 * What decisions read out of the state of a VM process (protocol 4 and 5). A state that is none of theirs, such as
 * that of a process that has just been started, says nothing.
 */

/** It runs nothing and never will again. */
export function hasEnded({ state }: Instance): boolean {
  return state === 'HALT' || state === FAILED;
}

/** It waits for a primary: a backup by its role only. */
export function isSpare({ role, state }: Instance): boolean {
  return role === 'backup' && (state === 'WAIT' || state === 'STARTING');
}

/** It has the whole of its primary's state, and takes over if the arbiter gives it the VM. */
export function canTakeOver({ role, state }: Instance): boolean {
  return role === 'backup' && (state === 'BACK' || state === 'ASK' || state === 'OPEN' || state === 'LIVE');
}

/** It has asked for the VM, and the arbiter knows of no pair: only a commit that is late could make it one. */
export function isForsaken({ role, state }: Instance): boolean {
  return role === 'backup' && state === 'EARLY';
}

/** Outputs wait for a backup's ack. */
export function isProtected({ role, state }: Instance): boolean {
  return role === 'primary' && (state === 'PAIR' || state === 'YIELD');
}

/** A copy of it is being made; what it has now, it keeps. */
export function isCopying({ role, state }: Instance): boolean {
  return role === 'primary' && (state === 'COPY' || state === 'GATE' || state === 'COMMIT');
}

/** It has no backup, and surely had none when it said so. */
export function isAlone({ role, state }: Instance): boolean {
  return role === 'primary' && (state === 'SOLE' || state === 'START' || state === 'STARTING');
}

/** Of the primaries of one VM the one that goes on: while it is handed over there are two. */
export function mainPrimary(instances: readonly Instance[]): Instance | undefined {
  const primaries = instances.filter((instance) => instance.role === 'primary' && !hasEnded(instance));
  return primaries.find(({ state }) => state !== 'YIELD' && state !== 'ASK') ?? primaries[0];
}
