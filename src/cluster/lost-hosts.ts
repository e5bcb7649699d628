import type { HostMilliseconds } from '../base/units.ts';
import type { ClusterContent } from './content.ts';

/**
 * How long a host must have been seen absent before what it ran is started elsewhere. Presence ends some five seconds
 * after a host's death; with these six more the VM's lease at the arbiter (10 s) has just run out, so that the
 * restart is not asked for in vain. After an outage of the store it is the time in which daemons are present again and
 * VM processes renew their leases.
 */
export const PATIENCE_MS = 6_000;

/**
 * Which absent hosts are lost. Absence alone is not enough: when a store comes back that nobody reached for a while, all
 * hosts are absent, and whoever reads it first would start everything that runs a second time. (The arbiter
 * refuses most of that; not where the owners could not renew their leases either.) So a host is lost when this reader
 * has seen it absent for long in a store that answered all the while.
 */
export class LostHosts {
  readonly #patienceMs: number;
  #absentSince = new Map<string, HostMilliseconds>();
  /** When the store last answered. */
  #seen = Number.NEGATIVE_INFINITY;

  constructor(patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs;
  }

  /** The store's content, whenever it is another one. */
  observe(content: ClusterContent, now: HostMilliseconds): void {
    this.#seen = now;
    const before = this.#absentSince;
    this.#absentSince = new Map();
    for (const { name, presence } of content.hosts)
      if (presence === undefined) this.#absentSince.set(name, before.get(name) ?? now);
  }

  /** The content is still that one. A store that has fallen silent makes nobody lost, before that is noticed. */
  confirm(now: HostMilliseconds): void {
    this.#seen = now;
  }

  /** From now until the next content nothing is seen. */
  outOfReach(): void {
    this.#absentSince.clear();
  }

  at(now: HostMilliseconds): ReadonlySet<string> {
    const lost = new Set<string>();
    const seen = Math.min(now, this.#seen);
    for (const [name, since] of this.#absentSince) if (seen - since >= this.#patienceMs) lost.add(name);
    return lost;
  }
}
