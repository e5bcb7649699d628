import type { FtAction } from '../../src/ft/action.ts';
import type { ArbiterRequest } from '../../src/ft/arbiter.ts';
import { epoch } from '../../src/ft/identity.ts';
import type { Link } from '../../src/ft/link.ts';
import type { LogEntry } from '../../src/replay/log-entry.ts';
import { type Breakage, breakCores, type Side } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

function isClaim(
  action: FtAction,
): action is FtAction & { readonly request: ArbiterRequest & { kind: 'claim' } } {
  return action.kind === 'ask' && action.request.kind === 'claim';
}

/** The side believes that it won, at the epoch that it would have got. */
function believes({ nonce, highest }: ArbiterRequest & { kind: 'claim' }, side: Side): void {
  side.tell({ kind: 'answered', answer: { nonce, verdict: 'won', epoch: epoch(highest + 1) } });
}

/** Goes on with the disks as they are: where disk and arbiter are apart, a primary that won opens nothing. */
function keepsDisks(action: FtAction, side: Side): boolean {
  if (action.kind !== 'open-disks' || side.role !== 'primary' || side.state === 'START') return false;
  side.tell({ kind: 'disks-opened', epoch: action.epoch, verdict: 'ok' });
  return true;
}

function doesNotClaim(role: 'primary' | 'backup'): Breakage {
  return {
    does: (action, side) => {
      if (isClaim(action) && side.role === role) {
        believes(action.request, side);
        return undefined;
      }
      return role === 'primary' && keepsDisks(action, side) ? undefined : action;
    },
  };
}

export const TAKEOVER: readonly Mutant[] = [
  {
    name: 'last entry not replayed',
    rule: '3',
    model: 'M3',
    broken: 'a backup goes live without the last entry that it received',
    apply: (world) =>
      breakCores(world, () => {
        let last: LogEntry[] = [];
        return {
          does: (action) => {
            if (action.kind === 'vcpu-load') last = [];
            if (action.kind !== 'vcpu-replay') return action;
            const entries = [...last, ...action.entries];
            last = entries.splice(-1);
            return { ...action, entries };
          },
        };
      }),
  },
  {
    name: 'primary does not claim',
    rule: '4',
    model: 'M4A',
    broken: 'a primary that suspects goes on alone without the test-and-set',
    apply: (world) => breakCores(world, () => doesNotClaim('primary')),
  },
  {
    name: 'backup does not claim',
    rule: '4',
    model: 'M4B',
    broken: 'a backup that suspects goes live without the test-and-set',
    apply: (world) => breakCores(world, () => doesNotClaim('backup')),
  },
  {
    name: 'no answer is a win',
    rule: '4',
    model: 'M4C',
    broken: 'a question that was repeated twice without an answer is taken for won',
    apply: (world) =>
      breakCores(world, () => {
        const asked = new Map<string, number>();
        return {
          does: (action, side) => {
            if (!isClaim(action)) return keepsDisks(action, side) ? undefined : action;
            const times = (asked.get(action.request.nonce) ?? 0) + 1;
            asked.set(action.request.nonce, times);
            if (times === 3) believes(action.request, side);
            return action;
          },
        };
      }),
  },
  {
    name: 'the loser runs on',
    rule: '4',
    model: 'M4D',
    broken: 'a primary that is superseded goes on',
    apply: (world) =>
      breakCores(world, () => {
        let claimed = 0;
        return {
          does: (action, side) => {
            if (isClaim(action)) claimed = action.request.highest + 1;
            return keepsDisks(action, side) ? undefined : action;
          },
          hears: (event, side) => {
            if (event.kind !== 'answered' || side.role !== 'primary' || side.state !== 'ASK') return event;
            return { ...event, answer: { ...event.answer, verdict: 'won', epoch: epoch(claimed) } };
          },
        };
      }),
  },
  {
    name: 'acks after closing',
    rule: '5',
    model: 'M5',
    broken: 'a backup that has closed its log goes on acking what the old primary sends',
    apply: (world) =>
      breakCores(world, () => {
        const kept = new Set<Link>();
        return {
          does: (action, side) => {
            const suspects = side.role === 'backup' && side.state === 'ASK';
            if (action.kind !== 'close' || !suspects) return action;
            kept.add(action.link);
            return undefined;
          },
          hears: (event, side) => {
            if (event.kind !== 'received' || !kept.has(event.link)) return event;
            for (const message of event.messages) {
              if (message.kind !== 'entry') continue;
              const ack = { kind: 'ack', received: message.entry.sequence, replayed: 0n } as const;
              side.add({ kind: 'send', link: event.link, message: ack });
            }
            side.add({ kind: 'flush', link: event.link });
            return undefined;
          },
        };
      }),
  },
  {
    name: 'a dead copy acks',
    rule: '5',
    broken: 'a backup whose vCPU died or diverged goes on acking',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event, side) => {
          const dead = event.kind === 'diverged' || (event.kind === 'vcpu-stopped' && event.failed);
          return dead && side.role === 'backup' ? undefined : event;
        },
      })),
  },
  {
    name: 'no re-issue',
    rule: '6',
    model: 'M6A',
    broken: 'a survivor does not issue the disk operations again that have no completion',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) => (action.kind === 'issue-again' ? undefined : action),
      })),
  },
  {
    name: 'no re-send',
    rule: '6',
    model: 'M6B',
    broken: 'a survivor does not send the outputs again that may not have left',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) => {
          if (action.kind !== 'go-live') return action;
          const { held, started, released } = action.takeover;
          const requests = held.flatMap(({ output }) => (output.kind === 'disk-request' ? [output] : []));
          const last = held.at(-1)?.number ?? released;
          return {
            ...action,
            takeover: { ...action.takeover, released: last, held: [], started: [...started, ...requests] },
          };
        },
      })),
  },
  {
    name: 'released before leaving',
    rule: '6',
    model: 'M6C',
    broken: 'the log says that an output has left before it has',
    apply: (world) =>
      breakCores(world, () => {
        let leaving: FtAction[] = [];
        let late = 0;
        return {
          does: (action, side) => {
            if (action.kind !== 'hand-over') return action;
            leaving.push(action);
            side.tell({ kind: 'handed-over', output: action.output.number });
            return undefined;
          },
          hears: (event, side) => {
            if (event.kind === 'tick') {
              late += leaving.length;
              for (const action of leaving) side.add(action);
              leaving = [];
            }
            if (event.kind !== 'handed-over' || late === 0) return event;
            late -= 1;
            return undefined;
          },
        };
      }),
  },
];
