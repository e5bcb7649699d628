import { failed, ok, type Result } from '../base/result.ts';
import type { ControlInput } from '../machine/door.ts';

/** Orders to a primary that travel in its log and take effect at one count on both sides [FT 3.3]. */
const PLAIN = ['power-button', 'power-off', 'reset', 'pause', 'resume'] as const;

export function isControlOrder(order: unknown): boolean {
  return order === 'limit' || PLAIN.some((action) => action === order);
}

/** `{"order":"power-button"|"power-off"|"reset"|"pause"|"resume"}` or `{"order":"limit","cpuPercent":1..100}`. */
export function parseControlOrder(json: object): Result<ControlInput> {
  const { order, cpuPercent } = json as { order?: unknown; cpuPercent?: unknown };
  const action = PLAIN.find((each) => each === order);
  if (action) return ok({ kind: 'control', action });
  const percent = Number(cpuPercent);
  if (!Number.isInteger(percent) || percent < 1 || percent > 100)
    return failed('the order "limit" needs cpuPercent, from 1 to 100');
  return ok({ kind: 'control', action: 'limit', cpuPercent: percent });
}
