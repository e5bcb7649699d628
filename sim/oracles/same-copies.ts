import { wordsOf } from '../words.ts';
import type { World } from '../world.ts';

/** How long what is under way may take to come to rest once nobody asks anything, in milliseconds. */
const REST_MS = 120;

/** Disks of each host's own: once all is at rest, both sides of a pair have the same content [FT 4.1]. */
export function compareCopies(world: World): void {
  const { record } = world.arbiter;
  const [primary, backup] = [world.processOf(record.primary), world.processOf(record.backup)];
  const [ours, theirs] = [world.copies[primary?.host ?? -1], world.copies[backup?.host ?? -1]];
  if (!ours || !theirs || record.mode !== 'pair') return;
  world.silent = true;
  const endAt = world.now + REST_MS;
  while (!world.violation && world.now < endAt && world.step());
  const { bytes, blockBytes } = world.profile.disks;
  for (let offset = 0; offset < bytes[0]!; offset += blockBytes) {
    const [one, other] = [wordsOf(ours.read(offset)), wordsOf(theirs.read(offset))];
    if (one.join() !== other.join())
      world.violated(
        'both copies are the same',
        `block ${offset} holds ${other.slice(0, 7).join()} at ${backup?.name}, and ${one.slice(0, 7).join()} at ${primary?.name}`,
      );
  }
}
