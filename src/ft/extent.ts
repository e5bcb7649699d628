import type { DiskRequestOutput } from '../machine/door.ts';

/** A stretch of a disk, in bytes. */
export type Extent = Pick<DiskRequestOutput, 'disk' | 'offset' | 'length'>;

export function changesDisk({ operation }: DiskRequestOutput): boolean {
  return operation !== 'read' && operation !== 'flush';
}

export function overlaps(one: Extent, other: Extent): boolean {
  return (
    one.disk === other.disk &&
    one.offset < other.offset + other.length &&
    other.offset < one.offset + one.length
  );
}
