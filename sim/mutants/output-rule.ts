import type { Link } from '../../src/ft/link.ts';
import { isHeld } from '../../src/ft/output-rule.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

export const OUTPUT_RULE: readonly Mutant[] = [
  {
    name: 'no ack awaited',
    rule: '1',
    model: 'M1',
    broken: 'the primary takes an entry for acked as soon as it is sent',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action, side) => {
          if (action.kind === 'send' && action.message.kind === 'entry') {
            const ack = { kind: 'ack', received: action.message.entry.sequence, replayed: 0n } as const;
            side.tell({ kind: 'received', link: action.link, messages: [ack] });
          }
          return action;
        },
      })),
  },
  {
    name: 'ack of what lies before the mark',
    rule: '1',
    model: 'M1B',
    broken: 'the ack of the entry before an output mark lets the output out',
    apply: (world) =>
      breakCores(world, () => {
        const marks = new Map<Link, Set<bigint>>();
        return {
          does: (action) => {
            if (action.kind === 'send' && action.message.kind === 'entry') {
              const { entry } = action.message;
              if (entry.kind === 'output-mark')
                marks.set(action.link, (marks.get(action.link) ?? new Set()).add(entry.sequence));
            }
            return action;
          },
          hears: (event) => {
            if (event.kind !== 'received') return event;
            const known = marks.get(event.link);
            const messages = event.messages.map((message) => {
              if (message.kind !== 'ack') return message;
              let { received } = message;
              while (known?.has(received + 1n)) received += 1n;
              return { ...message, received };
            });
            return { ...event, messages };
          },
        };
      }),
  },
  {
    name: 'stall',
    rule: '2',
    model: 'M2',
    broken: 'the vCPU stands still while an output waits',
    property: 'gate, not stall',
    apply: (world) =>
      breakCores(world, () => {
        const waiting = new Set<bigint>();
        let stalled = false;
        return {
          hears: (event, side) => {
            const waits = event.kind === 'output' && isHeld(event.output.output, world.profile.disks.own);
            if (waits && side.role === 'primary') waiting.add(event.output.number);
            return event;
          },
          does: (action) => {
            if (action.kind === 'hand-over') waiting.delete(action.output.number);
            return action;
          },
          afterwards: (side) => {
            if (stalled === waiting.size > 0) return;
            stalled = !stalled;
            side.add({ kind: stalled ? 'vcpu-pause' : 'vcpu-run' });
          },
        };
      }),
  },
];
