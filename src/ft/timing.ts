/** Protocol 10. All in milliseconds of the host's monotonic clock. */
export interface Timing {
  readonly heartbeatMs: number;
  /** Silence for so long is suspicion, whatever the jitter: the ceiling of the time-out, and its value at first. */
  readonly suspicionMs: number;
  /** The floor of the time-out, for heartbeats that come when they should. */
  readonly suspicionMinMs: number;
  readonly requestMs: number;
  readonly requestMaxMs: number;
  readonly commitMs: number;
  readonly reconnectMs: number;
  /** A host for a backup is asked for this often while there is none. */
  readonly findMs: number;
  /** A candidate that has not answered by then is given up. */
  readonly reachMs: number;
  /** A backup that has not loaded by then is dropped. */
  readonly copyMs: number;
  /** A guest that is moved stands still for so long at most before its source wants it back. */
  readonly stillMs: number;
  /** The execution lag above which the primary is slowed further and further, and below which it is let go. */
  /** T of protocol 8; 0 where nobody restarts the VM after the loss of both hosts. */
  readonly leaseMs: number;
  readonly lagHighMs: number;
  readonly lagLowMs: number;
  /** What the backup has had for longer than this without replaying it slows the primary by a few percent. */
  readonly backlogMs: number;
}

export const DEFAULT_TIMING: Timing = {
  heartbeatMs: 100,
  suspicionMs: 1000,
  suspicionMinMs: 700,
  requestMs: 500,
  requestMaxMs: 5000,
  commitMs: 5000,
  reconnectMs: 50,
  findMs: 1000,
  reachMs: 5000,
  copyMs: 60_000,
  stillMs: 5000,
  leaseMs: 0,
  lagHighMs: 1000,
  lagLowMs: 500,
  backlogMs: 3,
};

/** What may wait on either side, in bytes of entries and outputs. A full buffer stops the primary (rule 9). */
export interface Limits {
  /** Entries that the backup has not acked. */
  readonly streamBytes: number;
  /** Outputs that wait for an ack. */
  readonly holdBytes: number;
  /** Entries that the backup has not replayed. */
  readonly backupBytes: number;
}

export const DEFAULT_LIMITS: Limits = {
  streamBytes: 32 * 1024 * 1024,
  holdBytes: 32 * 1024 * 1024,
  backupBytes: 64 * 1024 * 1024,
};
