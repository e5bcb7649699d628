import type { ArbiterAnswer, ArbiterRequest } from '../src/ft/arbiter.ts';
import { leaseRunsOutMs } from '../src/ft/lease.ts';
import { decide, NO_RECORD, type VmRecord } from '../src/storage/vm-record.ts';
import type { Instance } from './instance.ts';
import type { World } from './world.ts';

/** One linearizable record. Requests and answers may be slow, lost, repeated, and take effect late. */
export class Arbiter {
  readonly #world: World;
  record: VmRecord = NO_RECORD;
  /** Replaced by mutants. */
  decide: typeof decide = decide;
  /** When the lease was last renewed. */
  renewedAt = 0;
  /** Of the lease, after which it counts as run out. Changed by mutants. */
  leaseShare = 1;
  down = false;
  slowMs = 0;
  loss = 0;

  readonly #claims = new Map<Instance, () => void>();

  constructor(world: World) {
    this.#world = world;
  }

  request(from: Instance, request: ArbiterRequest, answered: (answer: ArbiterAnswer) => void): void {
    const { random, network } = this.#world;
    const arrive = (): void => {
      if (this.down || network.isCut(from.host, network.arbiter)) return;
      this.#decide(from, request, answered);
    };
    if (random.chance(this.loss)) return;
    this.#world.schedule(this.#delay(), arrive);
    // The network repeats a request now and then, much later.
    if (random.chance(0.02)) this.#world.schedule(this.#delay() + random.between(5, 150), arrive);
    if (request.kind === 'claim') this.#claims.set(from, arrive);
  }

  /** Its last claim is still on its way: the port asks on, whatever became of the question. */
  claimIsLate(from: Instance): void {
    const arrive = this.#claims.get(from);
    if (arrive) this.#world.schedule(this.#world.random.between(2, 40), arrive);
  }

  #decide(from: Instance, request: ArbiterRequest, answered: (answer: ArbiterAnswer) => void): void {
    const world = this.#world;
    const before = this.record;
    const { record, answer, leaseRenewed } = this.decide(before, request, this.leaseExpired);
    this.record = record;
    if (leaseRenewed) this.renewedAt = world.now;
    if (request.kind === 'renew' && answer.verdict === 'won') {
      this.#answer(from, answer, answered);
      return;
    }
    world.note('arbiter', `${request.kind} by ${from.name}: ${answer.verdict}, epoch ${answer.epoch}`);
    if (record.epoch !== before.epoch) world.oracles.recordMoved(record, from);
    this.#answer(from, answer, answered);
  }

  /** The owner's lease has surely run out: the VM may be restarted. */
  get leaseExpired(): boolean {
    const { leaseMs } = this.#world.profile.timing;
    return leaseMs > 0 && this.#world.now - this.renewedAt > leaseRunsOutMs(leaseMs) * this.leaseShare;
  }

  #answer(from: Instance, answer: ArbiterAnswer, answered: (answer: ArbiterAnswer) => void): void {
    const world = this.#world;
    if (world.random.chance(this.loss)) return;
    from.later(this.#delay(), () => {
      if (!world.network.isCut(world.network.arbiter, from.host)) answered(answer);
    });
  }

  #delay(): number {
    return this.#world.random.between(0.2, 1) + this.#world.random.unit() * this.slowMs;
  }
}
