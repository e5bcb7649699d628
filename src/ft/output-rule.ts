import type { Output } from '../machine/door.ts';

/**
 * Whether the Output Rule (rule 1) holds for it [FT 2.2]. What a guest reads from a disk is input; and disks of one's own are
 * internal state [FT 4.1]: what a client sees of them is another output, which waits.
 */
export function isHeld(output: Output, own: boolean): boolean {
  return output.kind !== 'disk-request' || !(own || output.operation === 'read');
}
