import { strike } from './faults.ts';
import { compareCopies } from './oracles/same-copies.ts';
import type { TraceLine } from './trace.ts';
import { type Violation, World, type WorldOptions } from './world.ts';

/** So long everything may take once faults have stopped, in milliseconds. */
const QUIET_MS = 2500;
const PEACE_MS = 400;
/** A switched-off guest is off by then, also through a takeover. */
const OFF_MS = 700;

export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | undefined;
  /** The VM was lost with the last copy of its state. */
  readonly lost: boolean;
  readonly events: number;
  readonly steps: number;
  readonly generations: number;
  readonly takeovers: number;
  readonly moves: number;
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
  if (missing === undefined && !lost && !world.violation) compareCopies(world);
  if (missing !== undefined && !lost) world.violated('progress when faults stop', missing);
  if (!world.violation && !lost && !world.silent && random.chance(0.3)) switchOff(world);
  return {
    seed,
    violation: world.violation,
    lost,
    events: world.events,
    steps: world.steps,
    generations: oracles.generations,
    takeovers: world.takeovers,
    moves: world.moves,
    restarts: world.lives - 1,
    faults: [...world.faults.values()].reduce((sum, count) => sum + count, 0),
    answers: world.clients.reduce((sum, client) => sum + client.answers, 0),
    milliseconds: world.now,
    hash: world.trace.hash,
    lines: world.trace.lines,
  };
}

/**
 * The guest is switched off by order, and sometimes its host dies over it. Then either it is off, says so, and nobody
 * takes over; or the order was lost with the host, and the VM goes on.
 */
function switchOff(world: World): void {
  const { primary, random } = world;
  if (!primary) return;
  world.note(primary.name, 'is told to switch the guest off');
  primary.driver.control({ kind: 'control', action: 'power-off' });
  const dies = random.chance(0.5);
  if (dies) primary.afterActions(1 + random.below(30), () => world.crash(primary, random.chance(0.4)));
  const endAt = world.now + OFF_MS;
  while (!world.violation && world.now < endAt && world.step());
  const live = [...world.instances.values()].some((instance) => instance.live);
  if (live && world.poweredOff) world.violated('power-off', 'the guest is off, and somebody is live');
  if (live && !dies) world.violated('power-off', 'the order was lost, and nobody had died');
  if (!live && !world.poweredOff) world.violated('power-off', 'nobody is live, and the guest never went off');
}
