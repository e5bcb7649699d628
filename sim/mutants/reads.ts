import type { LogEntry } from '../../src/replay/log-entry.ts';
import { breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

type Reference = LogEntry & { readonly kind: 'read-reference' };

export const READS: readonly Mutant[] = [
  {
    name: 'a read overtakes',
    rule: 'reads',
    broken: 'a read does not wait for a write to the same place that waits for its ack',
    apply: (world) =>
      breakCores(world, () => {
        const early = new Set<number>();
        return {
          hears: (event, side) => {
            const read = event.kind === 'output' ? event.output.output : undefined;
            if (read?.kind !== 'disk-request' || read.operation !== 'read') return event;
            if (world.profile.disks.own || side.role !== 'primary') return event;
            early.add(read.request);
            side.add({ kind: 'issue', request: read });
            return event;
          },
          does: (action) =>
            action.kind === 'issue' && early.delete(action.request.request) ? undefined : action,
        };
      }),
  },
  {
    name: 'a survivor reads first',
    rule: 'reads',
    broken: 'a survivor reads again before it has let out the writes that the guest asked for before',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) => {
          if (action.kind !== 'go-live') return action;
          const { started, reads } = action.takeover;
          const all = [...started, ...reads.map(({ request }) => request)];
          return { ...action, takeover: { ...action.takeover, started: all, reads: [] } };
        },
      })),
  },
  {
    name: 'write before the backup has read',
    rule: 'reads',
    broken: "a write to a location just read does not wait for the backup's read",
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event, side) => {
          if (event.kind !== 'received' || side.role !== 'primary') return event;
          const messages = event.messages.map((message) =>
            message.kind === 'ack' ? { ...message, replayed: message.received } : message,
          );
          return { ...event, messages };
        },
      })),
  },
  {
    name: 'reference not checked',
    rule: 'reads',
    broken: 'a backup believes whatever it has read, whether the reference to it fits or not',
    property: 'a backup reads what its primary has read',
    apply: (world) =>
      breakCores(world, () => {
        const read = new Map<string, Uint8Array>();
        const believed = (entry: Reference): LogEntry => {
          const { sequence, at, disk, request } = entry;
          const data = read.get(`${disk}/${request}`);
          if (!data) return entry;
          return {
            ...{ sequence, at, kind: 'input' },
            input: { kind: 'disk-completed', disk, request, status: 'ok', data },
          };
        };
        return {
          hears: (event) => {
            if (event.kind === 'disk-read' && event.data)
              read.set(`${event.disk}/${event.request}`, event.data);
            if (event.kind !== 'received') return event;
            const messages = event.messages.map((message) =>
              message.kind === 'entry' && message.entry.kind === 'read-reference'
                ? { ...message, entry: believed(message.entry) }
                : message,
            );
            return { ...event, messages };
          },
        };
      }),
  },
  {
    name: 'a failed read is not retried',
    rule: 'reads',
    broken: 'a backup whose read failed, or did not match, does not read again',
    apply: (world) =>
      breakCores(world, () => {
        const asked = new Set<string>();
        return {
          does: (action) => {
            if (action.kind === 'vcpu-load') asked.clear();
            if (action.kind !== 'replay-disk') return action;
            const key = `${action.request.disk}/${action.request.request}`;
            if (asked.has(key)) return undefined;
            asked.add(key);
            return action;
          },
        };
      }),
  },
  {
    name: 'open reads at a takeover',
    rule: 'reads',
    broken: 'a backup whose log is closed goes live without what it has not read',
    apply: (world) =>
      breakCores(world, () => ({
        hears: (event, side) =>
          event.kind === 'disk-read' && side.role === 'backup' && side.state !== 'BACK' ? undefined : event,
        does: (action, side) => {
          if (action.kind === 'state' && action.state === 'ASK' && side.role === 'backup')
            side.add({ kind: 'vcpu-end-replay' });
          return action;
        },
      })),
  },
];
