import type { Instance } from './instance.ts';
import type { World } from './world.ts';

/** What can go wrong, one entry each; `weight` says how often. An entry does its harm and returns what it did. */
interface Fault {
  readonly name: string;
  readonly weight: number;
  /** In every seed, so that generations follow each other. */
  readonly always?: true;
  readonly strike: (world: World) => void;
}

function windowOf(world: World, low: number, high: number, undo: () => void): void {
  world.schedule(world.random.between(low, high), undo);
}

function someone(world: World): Instance | undefined {
  const running = [...world.instances.values()].filter((instance) => instance.running);
  return running.length === 0 ? undefined : world.random.pick(running);
}

/** Now, or in the middle of whatever it does next. */
function suddenly(world: World, victim: Instance, then: () => void): void {
  // Where restarts rely on a lease, an output that was decided on leaves in time (protocol 7b: the bound m).
  if (world.profile.restarts || world.random.chance(0.4)) then();
  else
    victim.afterActions(1 + world.random.below(30), () => {
      if (!world.healed) then();
    });
}

function crash(world: World, victim: Instance | undefined): void {
  if (!victim) return;
  suddenly(world, victim, () => {
    if (world.mayDie(victim)) world.crash(victim, world.random.chance(0.4));
  });
}

function pause(world: World, victim: Instance | undefined): void {
  if (!victim) return;
  const long = world.random.chance(0.5);
  suddenly(world, victim, () => {
    victim.stop();
    windowOf(world, long ? 90 : 2, long ? 450 : 60, () => victim.goOn());
  });
}

function cut(world: World, from: number, to: number): void {
  world.note('network', `no way from ${world.endName(from)} to ${world.endName(to)}`);
  world.network.cut(from, to);
  windowOf(world, 5, 260, () => {
    if (!world.network.isCut(from, to)) return;
    world.note('network', `a way again from ${world.endName(from)} to ${world.endName(to)}`);
    world.network.heal(from, to);
  });
}

function pairOfHosts(world: World): [number, number] {
  const from = world.primary?.host ?? world.random.below(world.profile.hosts);
  const partner = world.partner?.host ?? world.random.below(world.profile.hosts);
  return world.random.chance(0.5) ? [from, partner] : [partner, from];
}

const ALL = [
  { name: 'crash-primary', weight: 3, always: true, strike: (world: World) => crash(world, world.primary) },
  { name: 'crash-anyone', weight: 2, always: true, strike: (world: World) => crash(world, someone(world)) },
  { name: 'pause-primary', weight: 2, strike: (world: World) => pause(world, world.primary) },
  { name: 'pause-anyone', weight: 2, strike: (world: World) => pause(world, someone(world)) },
  {
    name: 'pause-taker',
    weight: 2,
    // Whoever is just deciding who goes on, or the next that has won: stopped there, for longer than the decision lasts.
    strike: (world: World) => {
      const seize = (victim: Instance): void => {
        victim.stop();
        windowOf(world, 90, 600, () => victim.goOn());
      };
      const deciding = [...world.instances.values()].find(
        ({ running, driver }) => running && ['ASK', 'OPEN', 'COMMIT'].includes(driver.state),
      );
      if (deciding) seize(deciding);
      else
        world.whenOpening = (winner) =>
          winner.later(world.random.between(0, 5), () => {
            if (!world.healed) seize(winner);
          });
    },
  },
  {
    name: 'ambush',
    weight: 2,
    // The next primary that gates on a new backup: the way there is cut, and it dies soon after.
    strike: (world: World) => {
      const { primary } = world;
      if (world.random.chance(0.7)) primary?.later(0, () => primary.driver.migrateBackup());
      world.whenGating = (gating) => {
        const joining = world.partner;
        if (!joining || world.healed) return;
        if (world.random.chance(0.7)) cut(world, gating.host, joining.host);
        gating.afterActions(1 + world.random.below(120), () => {
          if (!world.healed && world.mayDie(gating)) world.crash(gating, world.random.chance(0.4));
        });
      };
    },
  },
  {
    name: 'cut-one-way',
    weight: 2,
    strike: (world: World) => {
      const [from, to] = pairOfHosts(world);
      if (from !== to) cut(world, from, to);
    },
  },
  {
    name: 'cut-both-ways',
    weight: 2,
    strike: (world: World) => {
      const [from, to] = pairOfHosts(world);
      if (from === to) return;
      cut(world, from, to);
      cut(world, to, from);
    },
  },
  {
    name: 'cut-service',
    weight: 2,
    strike: (world: World) => {
      const { network, random } = world;
      const host = random.below(world.profile.hosts);
      const end = random.pick([network.disk, network.arbiter, network.clients]);
      if (random.chance(0.7)) cut(world, host, end);
      if (random.chance(0.7)) cut(world, end, host);
    },
  },
  {
    name: 'break-channel',
    weight: 3,
    strike: (world: World) => {
      const { links } = world.network;
      if (links.length === 0) return;
      const link = world.random.pick(links);
      world.note('network', `breaks the connection of ${link.instance.name} and ${link.peer.name}`);
      link.break('reset');
    },
  },
  {
    name: 'spoil-channel',
    weight: 2,
    strike: (world: World) => {
      world.network.spoilt = 0.05;
      windowOf(world, 10, 150, () => {
        world.network.spoilt = 0;
      });
    },
  },
  {
    name: 'lose-datagrams',
    weight: 1,
    strike: (world: World) => {
      world.network.loss = world.random.between(0.1, 0.9);
      windowOf(world, 20, 200, () => {
        world.network.loss = 0.01;
      });
    },
  },
  {
    name: 'slow-network',
    weight: 2,
    strike: (world: World) => {
      world.network.jitterMs = world.random.between(5, 70);
      windowOf(world, 20, 150, () => {
        world.network.jitterMs = 0.1;
      });
    },
  },
  {
    name: 'arbiter-slow',
    weight: 1,
    strike: (world: World) => {
      world.arbiter.slowMs = world.random.between(10, 200);
      windowOf(world, 50, 300, () => {
        world.arbiter.slowMs = 0;
      });
    },
  },
  {
    name: 'arbiter-lossy',
    weight: 2,
    strike: (world: World) => {
      world.arbiter.loss = world.random.between(0.2, 0.8);
      windowOf(world, 50, 400, () => {
        world.arbiter.loss = 0;
      });
    },
  },
  {
    name: 'arbiter-down',
    weight: 1,
    strike: (world: World) => {
      world.note('arbiter', 'is out of reach');
      world.arbiter.down = true;
      windowOf(world, 20, 300, () => {
        world.note('arbiter', 'is there again');
        world.arbiter.down = false;
      });
    },
  },
  {
    name: 'disk-slow',
    weight: 2,
    strike: (world: World) => {
      // Where disks are of one host alone, one that is slow is often on its way out.
      if (world.copies.length > 0) {
        world.restartDisk();
        return;
      }
      world.disk.slowMs = world.random.between(5, 120);
      windowOf(world, 20, 250, () => {
        world.disk.slowMs = 0;
      });
    },
  },
  {
    name: 'disk-stalled',
    weight: 1,
    strike: (world: World) => {
      world.disk.stalled = true;
      // Now and then for longer than a lease.
      windowOf(world, 10, world.random.chance(0.3) ? 700 : 250, () => {
        world.disk.stalled = false;
      });
    },
  },
  {
    name: 'lose-all',
    weight: 1,
    // Both sides die with writes under way, and the disk takes longer with those than the lease lasts.
    strike: (world: World) => {
      if (!world.profile.restarts) return;
      world.disk.stalled = true;
      windowOf(world, 200, 500, () => {
        world.disk.stalled = false;
      });
      windowOf(world, 1, 15, () => {
        for (const instance of world.instances.values())
          if (instance.running && !world.healed) world.crash(instance, world.random.chance(0.4));
      });
    },
  },
  {
    name: 'disk-failing',
    weight: 1,
    strike: (world: World) => {
      world.disk.failing = 0.3;
      windowOf(world, 10, 100, () => {
        world.disk.failing = 0;
      });
    },
  },
  { name: 'disk-restart', weight: 2, strike: (world: World) => world.restartDisk() },
  {
    name: 'slow-backup',
    weight: 2,
    strike: (world: World) => {
      const victim = world.partner;
      if (!victim) return;
      victim.replayMs = world.random.between(5, 30);
      victim.replayBatch = 1;
      windowOf(world, 20, 250, () => {
        victim.replayMs = 0.2;
        victim.replayBatch = 32;
      });
    },
  },
  {
    name: 'migrate-backup',
    weight: 3,
    strike: (world: World) => {
      const { primary } = world;
      if (!primary) return;
      world.note(primary.name, 'is told to move its backup');
      primary.later(0, () => primary.driver.migrateBackup());
    },
  },
  {
    name: 'switch-over',
    weight: 2,
    strike: (world: World) => {
      const { primary } = world;
      if (!primary) return;
      world.note(primary.name, 'is told to hand over');
      primary.later(0, () => primary.driver.switchOver());
    },
  },
  {
    name: 'ft-off',
    weight: 1,
    strike: (world: World) => {
      const { primary } = world;
      if (!primary) return;
      world.endProtection(primary);
      windowOf(world, 5, 150, () => world.wantProtection());
    },
  },
  {
    name: 'move',
    weight: 3,
    strike: (world: World) => world.moveGuest(),
  },
  {
    name: 'trap',
    weight: 1,
    strike: (world: World) => {
      const victim = someone(world);
      if (!victim || !world.mayDie(victim)) return;
      world.note(victim.name, 'its vCPU traps');
      victim.forced = true;
      victim.vcpu.trap('a trap');
    },
  },
  {
    name: 'diverge',
    weight: 1,
    strike: (world: World) => {
      const victim = world.partner;
      if (!victim || !world.mayDie(victim)) return;
      world.note(victim.name, 'its copy is damaged');
      victim.forced = true;
      victim.vcpu.diverge();
    },
  },
] as const satisfies readonly Fault[];

export type FaultName = (typeof ALL)[number]['name'];
export const FAULTS: readonly (Fault & { readonly name: FaultName })[] = ALL;

/** One of the faults that this seed has. */
export function strike(world: World): void {
  const faults = FAULTS.filter((fault) => world.profile.faults.includes(fault.name));
  let left = world.random.below(faults.reduce((sum, fault) => sum + fault.weight, 0));
  for (const fault of faults) {
    left -= fault.weight;
    if (left >= 0) continue;
    world.struck(fault.name);
    fault.strike(world);
    return;
  }
}
