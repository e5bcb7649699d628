import type { Message } from '../../src/ft/message.ts';
import { type Breakage, breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

/**
 * Between the channel and a backup: the core sees entries without a gap, whatever arrives, and the primary sees acks
 * of what arrived. `takes` says whether an entry is handed on at all.
 */
function renumbering(takes: () => boolean): Breakage {
  let real = 0n;
  let given = 0n;
  return {
    hears: (event, side) => {
      if (event.kind !== 'received' || side.role !== 'backup') return event;
      const messages: Message[] = [];
      for (const message of event.messages) {
        if (message.kind === 'snapshot-begin') real = given = 0n;
        if (message.kind !== 'entry') {
          messages.push(message);
          continue;
        }
        if (message.entry.sequence > real) real = message.entry.sequence;
        if (!takes()) continue;
        given += 1n;
        messages.push({ kind: 'entry', entry: { ...message.entry, sequence: given } });
      }
      if (messages.length < event.messages.length) {
        side.add({ kind: 'send', link: event.link, message: { kind: 'ack', received: real, replayed: 0n } });
        side.add({ kind: 'flush', link: event.link });
      }
      return { ...event, messages };
    },
    does: (action) => {
      if (action.kind !== 'send') return action;
      const { message } = action;
      if (message.kind === 'ack')
        return {
          ...action,
          message: {
            ...message,
            received: real,
            replayed: message.replayed < real ? message.replayed : real,
          },
        };
      if (message.kind === 'welcome' && message.loaded)
        return { ...action, message: { ...message, received: real } };
      return action;
    },
  };
}

export const CHANNEL: readonly Mutant[] = [
  {
    name: 'gap applied',
    rule: '8',
    model: 'M8',
    broken: 'a backup applies the entries after a gap, and repeated ones',
    apply: (world) => breakCores(world, () => renumbering(() => true)),
  },
  {
    name: 'full buffer drops',
    rule: '9',
    model: 'M9',
    broken: 'a backup with a full buffer drops entries and acks them',
    apply: (world) =>
      breakCores(world, () => {
        let full = false;
        const { hears, does } = renumbering(() => !full);
        return {
          ...(hears && { hears }),
          does: (action, side) => {
            if (action.kind === 'pause-reading') full = true;
            if (action.kind === 'resume-reading') full = false;
            return action.kind === 'pause-reading' ? undefined : does?.(action, side);
          },
        };
      }),
  },
  {
    name: 'buffers without bound',
    rule: '9',
    broken: 'a primary with full buffers runs on, and a backup reads on',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action, side) => {
          if (action.kind === 'pause-reading') return undefined;
          return action.kind === 'vcpu-pause' && side.state !== 'START' ? undefined : action;
        },
      })),
  },
  {
    name: 'no new backup',
    rule: '10',
    model: 'M10',
    broken: 'after a loss nobody looks for a host',
    apply: (world) =>
      breakCores(world, () => ({ does: (action) => (action.kind === 'find-host' ? undefined : action) })),
  },
  {
    name: 'on the same host',
    rule: '10',
    broken: 'a primary takes a backup on its own host when it is offered one',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event) => (event.kind === 'candidate' ? { ...event, host: 'elsewhere' } : event),
      })),
  },
];
