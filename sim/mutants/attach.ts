import { epoch } from '../../src/ft/identity.ts';
import type { Link } from '../../src/ft/link.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

export const ATTACH: readonly Mutant[] = [
  {
    name: 'gate only after the commit',
    rule: 'attach',
    model: 'X1',
    broken: 'while the commit is under way outputs do not wait for the new backup',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action, side) => {
          if (side.state === 'COMMIT' && action.kind === 'send' && action.message.kind === 'entry') {
            const ack = { kind: 'ack', received: action.message.entry.sequence, replayed: 0n } as const;
            side.tell({ kind: 'received', link: action.link, messages: [ack] });
          }
          return action;
        },
      })),
  },
  {
    name: 'commit before the gate position is acked',
    rule: 'attach',
    model: 'X2',
    broken: 'the commit is sent before the new backup has everything that was let out',
    apply: (world) =>
      breakCores(world, () => {
        let joining: Link | undefined;
        let end = 0n;
        return {
          does: (action, side) => {
            if (action.kind === 'send' && action.message.kind === 'snapshot-begin') {
              joining = action.link;
              end = 0n;
            }
            if (action.kind === 'send' && action.message.kind === 'entry' && action.link === joining)
              end = action.message.entry.sequence;
            if (action.kind === 'state' && action.state === 'GATE' && joining !== undefined)
              side.tell({
                kind: 'received',
                link: joining,
                messages: [{ kind: 'ack', received: end, replayed: 0n }],
              });
            return action;
          },
        };
      }),
  },
  {
    name: 'gate dropped while a commit may take effect',
    rule: 'attach',
    model: 'X3',
    broken: 'a commit without an answer is given up, and the primary goes on alone at its old epoch',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action, side) => {
          if (action.kind !== 'ask' || action.request.kind !== 'claim') return action;
          const { lowest, highest, nonce } = action.request;
          if (lowest === highest) return action;
          side.tell({ kind: 'answered', answer: { nonce, verdict: 'won', epoch: epoch(lowest) } });
          return undefined;
        },
      })),
  },
  {
    name: 'copy without the unreleased outputs',
    rule: 'attach',
    model: 'X4',
    broken: 'the snapshot leaves out the hold queue',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) => {
          if (action.kind !== 'send') return action;
          if (action.message.kind === 'held-output') return undefined;
          if (action.message.kind !== 'snapshot-begin') return action;
          return { ...action, message: { ...action.message, released: action.message.position.outputs } };
        },
      })),
  },
  {
    name: 'ack without its generation',
    rule: 'attach',
    model: 'X5',
    broken: "an old backup's ack is taken for the new one's",
    apply: (world) =>
      breakCores(world, () => {
        /** Positions by the primary's own order: the same payload goes to both backups, one after the other. */
        let joining: Link | undefined;
        let old: Link | undefined;
        let oldEnd = 0n;
        let joiningEnd = 0n;
        return {
          does: (action) => {
            if (action.kind !== 'send') return action;
            const { message, link } = action;
            if (message.kind === 'snapshot-begin') {
              old = joining;
              oldEnd = joiningEnd;
              joining = link;
              joiningEnd = 0n;
            }
            if (message.kind === 'entry' && link === joining) joiningEnd = message.entry.sequence;
            if (message.kind === 'entry' && link === old) oldEnd = message.entry.sequence;
            return action;
          },
          hears: (event, side) => {
            if (event.kind !== 'received' || event.link !== old || joining === undefined) return event;
            for (const message of event.messages) {
              const received = message.kind === 'ack' ? message.received - oldEnd + joiningEnd : 0n;
              if (received <= 0n) continue;
              const ack = { kind: 'ack', received, replayed: 0n } as const;
              side.tell({ kind: 'received', link: joining, messages: [ack] });
            }
            return event;
          },
        };
      }),
  },
];
