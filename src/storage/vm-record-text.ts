import { epoch, instanceId, nonce } from '../ft/identity.ts';
import type { VmRecord } from './vm-record.ts';

/** A record as it is kept: JSON. */
export function encodeRecord(record: VmRecord): string {
  return JSON.stringify(record);
}

/** Undefined when it is no record: whoever keeps it then knows nothing, and decides nothing. */
export function decodeRecord(text: string): VmRecord | undefined {
  try {
    return recordFrom(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export function recordFrom(value: unknown): VmRecord | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const record = value as Record<string, unknown>;
  const { mode } = record;
  if (mode !== 'pair' && mode !== 'lone' && mode !== 'off') return undefined;
  if (typeof record.epoch !== 'number' || !Number.isSafeInteger(record.epoch) || record.epoch < 0)
    return undefined;
  const instance = (name: unknown) => (typeof name === 'string' ? instanceId(name) : undefined);
  const [primary, backup] = [instance(record.primary), instance(record.backup)];
  if ((mode !== 'off' && primary === undefined) || (mode === 'pair' && backup === undefined))
    return undefined;
  return {
    epoch: epoch(record.epoch),
    mode,
    primary,
    backup,
    nonce: typeof record.nonce === 'string' ? nonce(record.nonce) : undefined,
    ...(typeof record.copy === 'string' && { copy: record.copy }),
  };
}
