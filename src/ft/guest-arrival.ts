import { failed, ok, type Result } from '../base/result.ts';
import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { Purpose } from './program.ts';
import { type ReceivedSnapshot, type SnapshotMessage, SnapshotReception } from './snapshot-reception.ts';

/** What the source of a moved guest said with its snapshot. */
export interface Moved {
  readonly faultTolerance: boolean;
  /** When its guest stood still, by this host's clock and but for the way here. */
  readonly stoodSince: HostMilliseconds;
}

/**
 * The guest's state comes to a backup, or to the target of a move: pages while it still runs, then the snapshot that
 * completes them, which the vCPU loads; what is loaded has to have the digest that was announced (protocol 5, LOAD).
 */
export class GuestArrival {
  readonly #do: (action: FtAction) => void;
  #purpose: Purpose = 'pair';
  #reception = new SnapshotReception();
  /** Parts of the copy that came before its snapshot. */
  #staged = 0;
  #digest: string | undefined;
  /** Loads that the vCPU has not answered; what it says before the last answer is about an earlier try. */
  #loading = 0;
  #moved: Moved | undefined;

  constructor(perform: (action: FtAction) => void) {
    this.#do = perform;
  }

  /** A guest is to come: what came of an earlier one is forgotten. */
  expect(purpose: Purpose): void {
    this.#purpose = purpose;
    this.#reception = new SnapshotReception();
    this.#staged = 0;
    this.#digest = undefined;
    this.#moved = undefined;
    this.#do({ kind: 'vcpu-forget-staged' });
  }

  /** The snapshot has begun: no pages come any more. */
  get begun(): boolean {
    return this.#reception.begun;
  }

  /** The snapshot is here, and the log may follow. */
  get complete(): boolean {
    return this.#digest !== undefined;
  }

  /** What the vCPU says is about a state before the snapshot that it is loading. */
  get loading(): boolean {
    return this.#loading > 0;
  }

  /** Undefined: the guest is not moved here. */
  get moved(): Moved | undefined {
    return this.#moved;
  }

  /** Pages of the running guest: the vCPU keeps them for the snapshot. How many parts have come. */
  stage(pages: Uint8Array): number {
    this.#staged += 1;
    this.#do({ kind: 'vcpu-stage', pages });
    return this.#staged;
  }

  /** A part of the snapshot; with the last one the vCPU loads it, and it is given back whole. */
  receive(message: SnapshotMessage, now: HostMilliseconds): Result<ReceivedSnapshot | undefined> {
    const received = this.#reception.receive(message);
    if (!received.ok) return received;
    if (message.kind === 'snapshot-begin' && this.#purpose === 'move') {
      const stoodSince = hostMilliseconds(now - message.stoodUs / 1000);
      this.#moved = { faultTolerance: message.faultTolerance, stoodSince };
    }
    if (!received.value) return ok(undefined);
    const { snapshot } = received.value;
    this.#digest = snapshot.digest;
    this.#loading += 1;
    this.#do({ kind: 'vcpu-load', snapshot });
    return received;
  }

  /** The vCPU has loaded a snapshot. Undefined: an earlier one; else what is wrong with it, or nothing. */
  loaded(digest: string): Result<undefined> | undefined {
    this.#loading -= 1;
    if (this.#loading > 0 || this.#digest === undefined) return undefined;
    if (digest === this.#digest) return ok(undefined);
    return failed(`the loaded snapshot has the digest ${digest} and not ${this.#digest}`);
  }

  /** The source's last word: its guest is handed over. */
  handedOver(faultTolerance: boolean): void {
    if (this.#moved) this.#moved = { ...this.#moved, faultTolerance };
  }
}
