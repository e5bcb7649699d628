import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { Side } from './side.ts';

/**
 * Redundancy (rule 10): while fault tolerance is on and there is no backup, a host is asked for, again and again.
 * Never the own host, and never an instance that was a backup before: that one may only halt.
 */
export class HostSearch {
  readonly #side: Side;
  readonly #do: (action: FtAction) => void;
  #wanted: boolean;
  /** Where an order wants the backup; tried again while nothing better is offered. */
  #ordered: string | undefined;
  #offered: string | undefined;
  readonly #spent = new Set<string>();
  /** No new attempt before then, though a host may be offered earlier. */
  #restUntil: HostMilliseconds | undefined;
  #askAt: HostMilliseconds | undefined;

  constructor(side: Side, wanted: boolean, perform: (action: FtAction) => void) {
    this.#side = side;
    this.#wanted = wanted;
    this.#do = perform;
  }

  get wanted(): boolean {
    return this.#wanted;
  }

  /** Without an address: to whichever host is offered, and no more to where an earlier order wanted it. */
  order(address: string | undefined): void {
    this.#wanted = true;
    this.#ordered = address;
    this.#restUntil = undefined;
    if (address === undefined) return;
    this.#spent.delete(address);
    // What was offered before the order is not better.
    this.#offered = undefined;
  }

  turnOff(): void {
    this.#wanted = false;
    this.#ordered = undefined;
    this.#offered = undefined;
    this.#askAt = undefined;
  }

  offer(address: string, host: string): void {
    if (host !== this.#side.host && !this.#spent.has(address)) this.#offered = address;
  }

  /** This instance was a backup, or may be one by a commit under way: it never is again. */
  retire(address: string): void {
    this.#spent.add(address);
    if (this.#ordered === address) this.#ordered = undefined;
    if (this.#offered === address) this.#offered = undefined;
  }

  /** An attempt failed: another host is asked for, and nothing is tried for a while. */
  rest(until: HostMilliseconds, now: HostMilliseconds): void {
    this.#restUntil = until;
    this.#find(now);
  }

  /** Where to go now. Without an answer it asks, unless it has just asked. */
  next(now: HostMilliseconds): string | undefined {
    if (this.#restUntil !== undefined && now < this.#restUntil) return undefined;
    const address = this.#offered ?? this.#ordered;
    this.#offered = undefined;
    if (address !== undefined) this.#restUntil = undefined;
    else if (this.#askAt === undefined || now >= this.#askAt) this.#find(now);
    return address;
  }

  #find(now: HostMilliseconds): void {
    this.#askAt = hostMilliseconds(now + this.#side.timing.findMs);
    this.#do({ kind: 'find-host', except: [...this.#spent] });
  }
}
