import type { LogPayload } from '../replay/log-entry.ts';

/** What an entry weighs in a buffer: its variable part and a round figure for the rest. */
export function entryBytes(entry: LogPayload): number {
  if (entry.kind !== 'input') return 64;
  switch (entry.input.kind) {
    case 'frame':
      return 64 + entry.input.frame.length;
    case 'disk-completed':
      return 64 + entry.input.data.length;
    case 'console':
      return 64 + entry.input.bytes.length;
    default:
      return 96;
  }
}
