import type { Link } from '../../src/ft/link.ts';
import type { Message } from '../../src/ft/message.ts';
import { decide } from '../../src/storage/vm-record.ts';
import type { Instance } from '../instance.ts';
import { SimOwnDiskPort } from '../own-disk.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

function onOwnDisks(change: (port: SimOwnDiskPort) => void): (instance: Instance) => void {
  return ({ disks }) => {
    if (disks instanceof SimOwnDiskPort) change(disks);
  };
}

export const OWN_DISKS: readonly Mutant[] = [
  {
    name: 'block stored after a replayed write',
    rule: 'own disks',
    broken: "a block of the copy is stored over what the backup's guest has written since it began",
    apply: (world) =>
      breakCores(world, () => ({
        begins: onOwnDisks((port) => {
          port.keepsChanges = false;
        }),
      })),
  },
  {
    name: 'commit before the last block',
    rule: 'own disks',
    model: 'DX2',
    broken: 'the pair is committed when the last block has been sent, not when it is stored',
    property: 'only a whole copy is used',
    apply: (world) =>
      breakCores(world, () => {
        let blocks = 0;
        return {
          does: (action, side) => {
            if (action.kind !== 'send') return action;
            const { link, message } = action;
            const hear = (heard: Message): void => side.tell({ kind: 'received', link, messages: [heard] });
            if (message.kind === 'disks-begin') blocks = 0;
            if (message.kind === 'disk-block') hear({ kind: 'blocks-stored', blocks: ++blocks });
            if (message.kind === 'disks-end') hear({ kind: 'disks-whole' });
            return action;
          },
        };
      }),
  },
  {
    name: 'bitmap forgets unconfirmed writes',
    rule: 'own disks',
    broken: 'what a backup has replayed counts as being on its stable storage',
    property: 'a whole copy lacks nothing',
    apply: (world) =>
      breakCores(world, () => {
        const whole = new Set<Link>();
        return {
          hears: (event, side) => {
            if (event.kind !== 'received' || side.role !== 'primary') return event;
            const messages = event.messages.flatMap((message): Message[] => {
              if (message.kind === 'disks-whole') whole.add(event.link);
              return message.kind === 'ack' && whole.has(event.link)
                ? [message, { kind: 'disks-secured', position: message.replayed }]
                : [message];
            });
            return { ...event, messages };
          },
        };
      }),
  },
  {
    name: 'restart from any copy',
    rule: 'own disks',
    model: 'DX1',
    broken: 'a VM is started again from whichever copy of its disks a host has',
    apply: (world) => {
      const { arbiter } = world;
      world.anyCopy = world.copies.length > 0;
      arbiter.decide = ({ copy: _, ...record }, request, expired) => decide(record, request, expired);
    },
  },
  {
    name: 'disk requests are not replayed',
    rule: 'own disks',
    broken: 'a backup does not carry out what its guest writes, and issues again what is open at go-live',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) =>
          action.kind === 'replay-disk' && action.request.operation === 'write' && world.profile.disks.own
            ? undefined
            : action,
      })),
  },
  {
    name: 'open requests of the snapshot',
    rule: 'own disks',
    broken: 'a backup does not carry out what was under way at the snapshot',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event) =>
          event.kind === 'loaded' && world.profile.disks.own ? { ...event, pending: [] } : event,
      })),
  },
];
