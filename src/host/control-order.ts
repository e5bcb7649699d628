import { failed, ok, type Result } from '../base/result.ts';
import type { ControlInput } from '../machine/door.ts';

/** Orders to a primary that travel in its log and take effect at one count on both sides [FT 3.3]. */
const PLAIN = ['power-button', 'power-off', 'reset', 'pause', 'resume'] as const;

export function isControlOrder(order: unknown): boolean {
  return (
    order === 'limit' ||
    order === 'disconnect' ||
    order === 'connect' ||
    PLAIN.some((action) => action === order)
  );
}

/**
 * `{"order":"power-button"|"power-off"|"reset"|"pause"|"resume"}`, `{"order":"limit","cpuPercent":1..100}` or
 * `{"order":"disconnect"|"connect","nic":0}`, for one of so many network cards.
 */
export function parseControlOrder(json: object, nics: number): Result<ControlInput> {
  const { order, cpuPercent, nic } = json as { order?: unknown; cpuPercent?: unknown; nic?: unknown };
  const action = PLAIN.find((each) => each === order);
  if (action) return ok({ kind: 'control', action });
  if (order === 'disconnect' || order === 'connect') {
    if (typeof nic === 'number' && Number.isInteger(nic) && nic >= 0 && nic < nics)
      return ok({ kind: 'control', action: order, nic });
    return failed(`the order "${order}" needs nic, the number of a network card; the guest has ${nics}`);
  }
  const percent = Number(cpuPercent);
  if (!Number.isInteger(percent) || percent < 1 || percent > 100)
    return failed('the order "limit" needs cpuPercent, from 1 to 100');
  return ok({ kind: 'control', action: 'limit', cpuPercent: percent });
}
