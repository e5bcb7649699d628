import { sharedMs } from '../../src/host/host-clock.ts';
import type { CuttableRelay } from '../../tests/cuttable-relay.ts';
import type { ProtectedGuest } from '../../tools/pair/protected-guest.ts';
import { pause } from '../pair-rounds.ts';
import type { Dice } from './dice.ts';
import type { RedisClients } from './redis-clients.ts';

/** What a fault is done to. */
export interface Scene {
  readonly guest: ProtectedGuest;
  readonly clients: RedisClients;
  /** Between the two hosts; only where the fault wants one. */
  readonly relay: CuttableRelay | undefined;
  readonly dice: Dice;
  /** Resolves when host B reports this state. */
  readonly backupIs: (state: string) => Promise<void>;
}

export interface Fault {
  readonly name: string;
  readonly summary: string;
  /** How many rounds of each cycle have it. */
  readonly weight: number;
  readonly viaRelay?: true;
  /** Who goes on: host B takes over, host A goes on alone, or whoever wins. */
  readonly survivor: 'A' | 'B' | 'either';
  /** The other one is alive and has to halt by itself. */
  readonly loserHalts?: true;
  /** Nobody can decide while the disk server stands still: the times of such a round are its, not Lockstep's. */
  readonly stallsStorage?: true;
  /** Resolves with the moment of the fault [src/host/host-clock.ts sharedMs] when everything is done. */
  inflict(scene: Scene): Promise<number>;
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'kill',
    summary: 'SIGKILL of the primary',
    weight: 3,
    survivor: 'B',
    async inflict({ guest }) {
      guest.hosts[0].process.kill();
      return sharedMs();
    },
  },
  {
    name: 'frozen-kill',
    summary: 'the primary stops, frames for the guest arrive at it and are never logged, SIGKILL',
    weight: 3,
    survivor: 'B',
    async inflict({ guest, clients, dice }) {
      const host = guest.hosts[0].process;
      host.signal('SIGSTOP');
      const stoppedMs = sharedMs();
      await pause(dice.between(5, 80));
      while (clients.inFlight === 0) await pause(1);
      host.kill();
      return stoppedMs;
    },
  },
  {
    name: 'muted-kill',
    summary: 'the log no longer gets through; what the guest does then nobody may ever see; SIGKILL',
    weight: 2,
    viaRelay: true,
    survivor: 'B',
    async inflict({ guest, relay, dice }) {
      relay!.tcp = 'silent';
      await pause(dice.between(5, 250));
      guest.hosts[0].process.kill();
      return sharedMs();
    },
  },
  {
    name: 'stop',
    summary: 'SIGSTOP of the primary, SIGCONT around go-live: it has to halt',
    weight: 3,
    survivor: 'B',
    loserHalts: true,
    async inflict({ guest, dice, backupIs }) {
      const host = guest.hosts[0].process;
      host.signal('SIGSTOP');
      const stoppedMs = sharedMs();
      const moment = (['ASK', 'OPEN', 'LIVE', 'SOLE'] as const)[dice.below(4)]!;
      await backupIs(moment);
      if (moment === 'SOLE') await pause(dice.between(0, 1500));
      host.signal('SIGCONT');
      return stoppedMs;
    },
  },
  {
    name: 'paused-backup',
    summary: 'the backup is paused, and the primary is killed meanwhile',
    weight: 2,
    survivor: 'B',
    async inflict({ guest, dice }) {
      const [{ process: primary }, { process: backup }] = guest.hosts;
      backup.signal('SIGSTOP');
      await pause(dice.between(5, 150));
      primary.kill();
      const killedMs = sharedMs();
      await pause(dice.between(5, 150));
      backup.signal('SIGCONT');
      return killedMs;
    },
  },
  {
    name: 'stalled-disk',
    summary: 'the disk server stands still, the primary is killed, the disk server goes on later',
    weight: 2,
    survivor: 'B',
    stallsStorage: true,
    async inflict({ guest, dice }) {
      const [disks] = guest.services;
      disks!.signal('SIGSTOP');
      await pause(dice.between(0, 300));
      guest.hosts[0].process.kill();
      const killedMs = sharedMs();
      await pause(dice.between(1200, 2500));
      disks!.signal('SIGCONT');
      return killedMs;
    },
  },
  {
    name: 'cut',
    summary: 'log and heartbeats are cut: exactly one wins, the other one has to halt',
    weight: 2,
    viaRelay: true,
    survivor: 'either',
    loserHalts: true,
    async inflict({ relay }) {
      relay!.tcp = 'silent';
      relay!.udp = 'silent';
      return sharedMs();
    },
  },
  {
    name: 'stopped-backup',
    summary: 'SIGSTOP of the backup: the primary goes on alone; SIGCONT: the backup has to halt',
    weight: 1,
    survivor: 'A',
    loserHalts: true,
    async inflict({ guest, dice }) {
      const { process: backup } = guest.hosts[1];
      backup.signal('SIGSTOP');
      const stoppedMs = sharedMs();
      await pause(dice.between(1500, 3000));
      backup.signal('SIGCONT');
      return stoppedMs;
    },
  },
];

/** The fault of each round: every cycle has each fault as often as its weight, in an order of its own. */
export function faultOf(round: number, seed: string, dice: (seed: string) => Dice): Fault {
  const cycle = FAULTS.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
  const shuffle = dice(`${seed}/cycle ${Math.floor(round / cycle.length)}`);
  for (let last = cycle.length - 1; last > 0; last--) {
    const other = shuffle.below(last + 1);
    [cycle[last], cycle[other]] = [cycle[other]!, cycle[last]!];
  }
  return cycle[round % cycle.length]!;
}
