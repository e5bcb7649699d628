import type { HostMilliseconds, InstructionCount } from '../base/units.ts';
import type { DiskRequestOutput } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { Partners } from './partners.ts';
import { ReadReferences } from './read-references.ts';

/**
 * The log as its primary makes it: one sequence over this side's life as a primary, which goes to whoever is its partner.
 * Each partner's stream counts from its own base.
 */
export class PrimaryLog {
  readonly #partners: Partners;
  /** Where the backup reads its disks itself. */
  readonly #reads: ReadReferences | undefined;
  #end = 0n;
  #reached: InstructionCount | undefined;

  constructor(partners: Partners, backupReads: boolean) {
    this.#partners = partners;
    this.#reads = backupReads ? new ReadReferences() : undefined;
  }

  /** The last position. */
  get end(): bigint {
    return this.#end;
  }

  /** How far the guest got, as entries and snapshots tell; undefined: nothing tells yet. */
  get reached(): InstructionCount | undefined {
    return this.#reached;
  }

  /** A snapshot was taken there: what is appended here goes behind it, also at whoever begins with it. */
  reach(count: InstructionCount): void {
    if (this.#reached === undefined || count > this.#reached) this.#reached = count;
  }

  append(at: InstructionCount, payload: LogPayload, now: HostMilliseconds): void {
    this.#end += 1n;
    this.#reached = at;
    this.#partners.append(this.#end, at, payload, now, this.#reads?.of(payload));
  }

  /** An operation of the disks is done; its completion becomes an entry when the guest gets it. */
  completed(request: DiskRequestOutput): void {
    this.#reads?.completed(request);
  }

  /** After its hand-over returned, never before (rule 6). */
  released(output: bigint, now: HostMilliseconds): void {
    if (this.#reached !== undefined) this.append(this.#reached, { kind: 'released', output }, now);
  }

  /** The last entry. It goes at once. */
  close(reason: 'handed-over' | 'powered-off', now: HostMilliseconds): void {
    if (this.#reached === undefined) return;
    this.append(this.#reached, { kind: 'end', reason }, now);
    this.#partners.flush();
  }
}
