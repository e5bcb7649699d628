import type { InstructionCount } from '../base/units.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { LogPosition } from '../replay/position.ts';
import type { CopyName } from './copy-name.ts';
import type { Extent } from './extent.ts';
import type { Epoch, InstanceId, VmId } from './identity.ts';
import type { Introduction, Purpose } from './program.ts';

/**
 * Raised when a message changes its meaning. Two sides of different versions have nothing to do with each other, and
 * say so: therefore hello and welcome begin with envelope, version and host in every version.
 */
export const PROTOCOL_VERSION = 6;

/**
 * Who speaks, in which pair. Hello and welcome carry it and bind their connection to it, so the messages that
 * follow on the same connection need not repeat it; a heartbeat, which has no connection, always carries it.
 */
export interface Envelope {
  readonly vm: VmId;
  readonly generation: Epoch;
  readonly sender: InstanceId;
}

/** Protocol 2. P is the primary, B the backup. */
export type Message =
  /**
   * P to B, first on every connection. `fresh`: a snapshot follows, and what B has of an earlier try of this
   * generation is worth nothing. Otherwise the connection goes on with the log that B has. `attempt` grows with every
   * hello of this sender: one that was held up on the way must not undo what a later one has done.
   */
  | ({
      readonly kind: 'hello';
      readonly fresh: boolean;
      readonly attempt: number;
      readonly purpose: Purpose;
    } & Envelope &
      Introduction)
  /** B to P: the position of the last entry received, and whether the snapshot is loaded at all. */
  | ({
      readonly kind: 'welcome';
      readonly loaded: boolean;
      readonly received: bigint;
      /** This side's copy of the disks, where it has one. */
      readonly copy?: CopyName;
    } & Envelope &
      Introduction)
  /** A hello or welcome of another version, as it came: there to be refused. */
  | ({
      readonly kind: 'other-version';
      readonly greeting: 'hello' | 'welcome';
      readonly version: number;
      readonly host: string;
      readonly rest: Uint8Array;
    } & Envelope)
  /** P to B, before the snapshot: pages of the guest's RAM while it runs on. What comes later is newer. */
  | { readonly kind: 'pages'; readonly bytes: Uint8Array }
  /** B to P: so many of them have arrived since the hello. */
  | { readonly kind: 'staged'; readonly parts: number }
  /**
   * The end of the copy: all state but RAM, and the pages that have changed since they were sent. `stoodUs`: for so many
   * microseconds the guest has stood still for it. `faultTolerance`: whoever goes on looks for a backup; the last word
   * on that counts.
   */
  | {
      readonly kind: 'snapshot-begin';
      readonly bytes: number;
      readonly count: InstructionCount;
      readonly position: LogPosition;
      readonly released: bigint;
      readonly digest: string;
      readonly stoodUs: number;
      readonly faultTolerance: boolean;
    }
  /** One output of the hold queue at the snapshot, in order. */
  | { readonly kind: 'held-output'; readonly output: NumberedOutput }
  | { readonly kind: 'snapshot-part'; readonly bytes: Uint8Array }
  /** The parts carry checksums, and the loaded state's digest has to be the announced one. */
  | { readonly kind: 'snapshot-end' }
  | { readonly kind: 'entry'; readonly entry: LogEntry }
  /** B to P: what is in the buffer, and what is replayed. */
  | { readonly kind: 'ack'; readonly received: bigint; readonly replayed: bigint }
  /** P to B, before the snapshot: what comes of the disks. `whole`: every block, and what B has is worth nothing. */
  | { readonly kind: 'disks-begin'; readonly whole: boolean }
  /** P to B: a block that B's copy lacks, once; without data it is all zeroes. After the last one, their end. */
  | { readonly kind: 'disk-block'; readonly extent: Extent; readonly data: Uint8Array | undefined }
  | { readonly kind: 'disks-end' }
  /** B to P: so many blocks are stored; all are, on stable storage; and the writes of all entries up to there are. */
  | { readonly kind: 'blocks-stored'; readonly blocks: number }
  | { readonly kind: 'disks-whole' }
  | { readonly kind: 'disks-secured'; readonly position: bigint }
  /** P to B, after a move's commit: nothing is executed here any more, the VM is there to be claimed. */
  | { readonly kind: 'take-over'; readonly faultTolerance: boolean }
  /** A hint that the record has moved on: whoever gets it asks the arbiter. */
  | { readonly kind: 'over'; readonly epoch: Epoch }
  /** B to P: this backup is no copy any more. It never goes live. */
  | { readonly kind: 'diverged'; readonly reason: string };

/** UDP, both directions. From P: the end of the log; from B: as in an ack. */
export interface Heartbeat extends Envelope {
  readonly received: bigint;
  readonly replayed: bigint;
}
