import { strike } from './faults.ts';
import type { TraceLine } from './trace.ts';
import { type Violation, World, type WorldOptions } from './world.ts';

/** So long everything may take once faults have stopped, in milliseconds. */
const QUIET_MS = 2500;
const PEACE_MS = 400;

export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | undefined;
  /** The VM was lost with the last copy of its state. */
  readonly lost: boolean;
  readonly events: number;
  readonly steps: number;
  readonly generations: number;
  readonly takeovers: number;
  readonly restarts: number;
  readonly faults: number;
  readonly answers: number;
  readonly milliseconds: number;
  readonly hash: string;
  readonly lines: readonly TraceLine[];
}

/** One seed: a pair forms, faults come, faults stop. */
export function runSeed(seed: number, options: WorldOptions = {}): Outcome {
  const world = new World(seed, options);
  world.powerOn();
  const { profile, random, oracles } = world;
  let nextFault = random.below(2 * profile.faultGap);
  const peaceAt = random.between(0.3, 1) * PEACE_MS;
  const quietAt = peaceAt + profile.faultMs;
  while (!world.violation && world.now < quietAt && world.step()) {
    if (world.events < nextFault || oracles.generations === 0) continue;
    nextFault = world.events + 1 + random.below(profile.faultGap);
    strike(world);
  }
  if (!world.violation) {
    world.heal();
    oracles.progress.quiet();
  }
  const endAt = world.now + QUIET_MS;
  let missing = world.violation ? undefined : oracles.progress.missing;
  while (!world.violation && missing !== undefined && !oracles.progress.lost && world.now < endAt) {
    for (let count = 0; count < 50; count++) world.step();
    missing = oracles.progress.missing;
  }
  const { lost } = oracles.progress;
  if (missing !== undefined && !lost) world.violated('progress when faults stop', missing);
  return {
    seed,
    violation: world.violation,
    lost,
    events: world.events,
    steps: world.steps,
    generations: oracles.generations,
    takeovers: world.takeovers,
    restarts: world.lives - 1,
    faults: [...world.faults.values()].reduce((sum, count) => sum + count, 0),
    answers: world.clients.reduce((sum, client) => sum + client.answers, 0),
    milliseconds: world.now,
    hash: world.trace.hash,
    lines: world.trace.lines,
  };
}
