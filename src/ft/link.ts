import type { Unit } from '../base/units.ts';

/** One connection of the logging channel. A number is never used twice in one process. */
export type Link = Unit<number, 'Link'>;
export function link(value: number): Link {
  return value as Link;
}
