import { epoch } from '../../src/ft/identity.ts';
import { type Breakage, breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

/** In a planned takeover only: this side believes that it won, and a primary keeps its disks as they are. */
function withoutClaim(role: 'primary' | 'backup'): Breakage {
  let planned = false;
  return {
    does: (action, side) => {
      if (action.kind === 'state' && action.state === 'YIELD') planned = true;
      if (action.kind === 'state' && action.detail === 'the primary hands over') planned = true;
      if (!planned || side.role !== role) return action;
      if (action.kind === 'open-disks' && role === 'primary') {
        side.tell({ kind: 'disks-opened', epoch: action.epoch, verdict: 'ok' });
        return undefined;
      }
      if (action.kind !== 'ask' || action.request.kind !== 'claim') return action;
      const { nonce, lowest } = action.request;
      side.tell({ kind: 'answered', answer: { nonce, verdict: 'won', epoch: epoch(lowest + 1) } });
      return undefined;
    },
  };
}

export const PLANNED: readonly Mutant[] = [
  {
    name: 'outputs after the last entry',
    rule: 'planned',
    model: 'PX1',
    broken: 'a primary that hands over lets out what its guest makes after the last entry',
    apply: (world) =>
      breakCores(world, () => {
        const early = new Set<bigint>();
        return {
          hears: (event, side) => {
            if (event.kind === 'output' && side.state === 'YIELD') {
              early.add(event.output.number);
              side.add({ kind: 'hand-over', output: event.output });
            }
            return event.kind === 'handed-over' && early.delete(event.output) ? undefined : event;
          },
        };
      }),
  },
  {
    name: 'the old primary goes on',
    rule: 'planned',
    model: 'PX3',
    broken: 'a primary that hands over goes on after a while without a claim',
    apply: (world) => breakCores(world, () => withoutClaim('primary')),
  },
  {
    name: 'the target does not claim',
    rule: 'planned',
    model: 'PX4',
    broken: 'a backup that is handed the VM goes live without the test-and-set',
    apply: (world) => breakCores(world, () => withoutClaim('backup')),
  },
  {
    name: 'halts before it knows',
    rule: 'planned',
    model: 'PX2',
    broken: 'a primary that hands over ends as soon as it has said so',
    apply: (world) =>
      breakCores(world, () => ({
        afterwards: (side) => {
          if (side.state === 'YIELD') side.add({ kind: 'halt', reason: 'handed over' });
        },
      })),
  },
  {
    name: 'the last entry is no reason',
    rule: 'planned',
    broken: 'a backup takes the last entry of a planned takeover for a power-off',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event) => {
          if (event.kind !== 'received') return event;
          const messages = event.messages.map((message) =>
            message.kind === 'entry' && message.entry.kind === 'end'
              ? { ...message, entry: { ...message.entry, reason: 'powered-off' as const } }
              : message,
          );
          return { ...event, messages };
        },
      })),
  },
  {
    name: 'off and live',
    rule: 'power-off',
    broken: 'a primary whose guest was switched off stays',
    property: 'power-off',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event) => (event.kind === 'vcpu-stopped' && !event.failed ? undefined : event),
      })),
  },
];
