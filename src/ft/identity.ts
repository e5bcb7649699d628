import type { Unit } from '../base/units.ts';

/** Names the VM at the arbiter, the disk server and on every message. */
export type VmId = Unit<string, 'VmId'>;
export function vmId(value: string): VmId {
  return value as VmId;
}

/**
 * One VM process. A random id made at its start: a restarted process is a new instance. So is a backup that has given
 * up a question to the arbiter.
 */
export type InstanceId = Unit<string, 'InstanceId'>;
export function instanceId(value: string): InstanceId {
  return value as InstanceId;
}

/** What a process calls itself after it has given up a question to the arbiter, for the so many-th time. */
export function renamed(instance: InstanceId, times: number): InstanceId {
  return instanceId(`${instance}.${times + 1}`);
}

/**
 * The counter in the VM's record, moved only by compare-and-set. The epoch at which a pair was committed is that
 * pair's generation.
 */
export type Epoch = Unit<number, 'Epoch'>;
export function epoch(value: number): Epoch {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('an epoch is a safe integer from 0');
  return value as Epoch;
}

/** Makes repeating an arbiter request harmless: the same nonce gets the same verdict. */
export type Nonce = Unit<string, 'Nonce'>;
export function nonce(value: string): Nonce {
  return value as Nonce;
}
