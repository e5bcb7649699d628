import type { FtAction } from '../ft/action.ts';
import type { Protection } from './ports.ts';

/**
 * How protected the VM is, in the words of the report: by the action that reports a state, and by the state `now`, for
 * what is no state but happened in one.
 */
export function protectionOf(action: FtAction & { kind: 'state' }, now: string): Protection {
  if (action.protected) return 'Protected';
  const word = protection(action.state) ?? protection(now) ?? 'Not Protected: Need Secondary';
  return word === 'Protected' && action.protected === false ? 'Not Protected: Starting' : word;
}

/** Undefined for what is no state but happened in one: a connection broke or was refused. */
function protection(state: string): Protection | undefined {
  switch (state) {
    case 'PAIR':
    case 'YIELD':
    case 'BACK':
      return 'Protected';
    case 'START':
    case 'COPY':
    case 'GATE':
    case 'COMMIT':
    case 'WAIT':
    case 'LOAD':
      return 'Not Protected: Starting';
    case 'HALT':
      return 'Not Protected: VM not Running';
    case 'SOLE':
    case 'ASK':
    case 'OPEN':
    case 'LIVE':
      return 'Not Protected: Need Secondary';
    default:
      return undefined;
  }
}
