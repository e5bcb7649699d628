import { type Core, type Cores, PRODUCTION_CORES } from '../src/hypervisor/driver.ts';
import type { World } from './world.ts';

/** The production cores; every step they make is counted. */
export function countingCores(world: World): Cores {
  const counted = (core: Core): Core => ({
    get state() {
      return core.state;
    },
    start: (now) => core.start(now),
    step: (event, now) => {
      world.steps += 1;
      return core.step(event, now);
    },
  });
  return {
    primary: (side, start, now) => counted(PRODUCTION_CORES.primary(side, start, now)),
    backup: (side, now) => counted(PRODUCTION_CORES.backup(side, now)),
  };
}
