import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

export const PLANNED: readonly Mutant[] = [
  {
    name: 'halts before it knows',
    rule: 'planned',
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
];
