import type { DiskRequestOutput } from '../machine/door.ts';
import { EntryOrder } from '../replay/entry-order.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { FtAction } from './action.ts';
import { BackupReads } from './backup-reads.ts';
import type { DiskMode } from './disk-mode.ts';
import type { PastOutputs } from './past-outputs.ts';
import { ReplayBuffer } from './replay-buffer.ts';
import type { ReceivedSnapshot } from './snapshot-reception.ts';
import { SuppressedOutputs } from './suppressed-outputs.ts';

/**
 * The log of one pair at its backup: received in order (rule 8), handed to the vCPU as far as nothing has to be read for
 * it first, replayed; what the replaying guest puts out is kept until it is known to have left. A new copy has a new log.
 */
export class BackupLog {
  readonly #disks: DiskMode;
  readonly #do: (action: FtAction) => void;
  readonly #buffer: ReplayBuffer;
  readonly #reads: BackupReads;
  #order = new EntryOrder();
  #outputs = new SuppressedOutputs(0n, []);
  #replayed = 0n;
  /** It is closed, and its end is told to the vCPU when the last entry has gone there. */
  #closing = false;
  #parted = false;
  #handedOver = false;

  /** `bufferBytes`: what may wait for its replay. */
  constructor(bufferBytes: number, disks: DiskMode, perform: (action: FtAction) => void) {
    this.#disks = disks;
    this.#do = perform;
    this.#buffer = new ReplayBuffer(bufferBytes);
    this.#reads = new BackupReads(perform);
  }

  /** The snapshot is there: the log begins after it. */
  begin({ snapshot, released, held }: ReceivedSnapshot): void {
    this.#order = new EntryOrder(0n, snapshot.count);
    this.#outputs = new SuppressedOutputs(released, held, this.#disks.own);
  }

  /** The last position received. */
  get received(): bigint {
    return this.#order.sequence;
  }

  get replayed(): bigint {
    return this.#replayed;
  }

  get bufferedBytes(): number {
    return this.#buffer.bytes;
  }

  /** Whether the channel is to be read (rule 9). */
  get reading(): boolean {
    return this.#buffer.reading;
  }

  /** It has its orderly end: the VM was powered off, and there is nothing to take over. */
  get ended(): boolean {
    return this.#order.ended && !this.#handedOver;
  }

  /** It ends with a planned takeover: it is complete, and this side goes on with it. */
  get handedOver(): boolean {
    return this.#handedOver;
  }

  /** It says that fault tolerance is being ended by order. Who wins is the arbiter's to say all the same. */
  get parted(): boolean {
    return this.#parted;
  }

  // ------------------------------------------------------------------------------------------ entries

  /** What is wrong with the next entry, if anything. */
  admit(entry: LogEntry): string | undefined {
    if (entry.kind === 'read-reference' && !this.#disks.backupReads)
      return 'a reference to what was read, and this side reads nothing itself';
    const admitted = this.#order.admit(entry);
    return admitted.ok ? undefined : admitted.error;
  }

  /** Entries that were admitted, in order. */
  append(entries: readonly LogEntry[]): void {
    const replayed = entries.filter((entry) => entry.kind !== 'end' || entry.reason !== 'handed-over');
    this.#handedOver ||= replayed.length < entries.length;
    for (const entry of entries) {
      if (entry.kind === 'released') this.#outputs.released(entry.output);
      if (entry.kind === 'input' && entry.input.kind === 'control')
        this.#parted ||= entry.input.action === 'end-protection';
    }
    this.#buffer.received(replayed);
    this.#reads.add(replayed);
    this.give();
  }

  /** What needs no more reading goes to the vCPU. */
  give(): void {
    const entries = this.#reads.take();
    if (entries.length > 0) this.#do({ kind: 'vcpu-replay', entries });
    if (!this.#closing || !this.#reads.empty) return;
    this.#closing = false;
    this.#do({ kind: 'vcpu-end-replay' });
  }

  /** The guest has come so far. True: a write may wait for just that. */
  replayedTo(sequence: bigint): boolean {
    const readOver = this.#reads.over(this.#replayed, sequence);
    this.#replayed = sequence;
    this.#buffer.replayed(sequence);
    return readOver;
  }

  /** For ever: nothing comes after what has been received (rule 3). */
  close(): void {
    this.#closing = true;
    this.give();
  }

  // ------------------------------------------------------------------------------------------ outputs and disks

  made(output: NumberedOutput): void {
    this.#outputs.made(output);
    if (output.output.kind === 'disk-request') this.asks(output.output);
  }

  /** The guest asks its disks. Of what is not answered for it already this side reads what it has to itself. */
  asks(request: DiskRequestOutput): void {
    const { own, backupReads } = this.#disks;
    if (request.operation !== 'read') {
      if (own) this.#do({ kind: 'replay-disk', request });
    } else if (backupReads) this.#reads.made(request);
  }

  /** A read of this side's own; without data: it failed. */
  readAnswered(disk: number, request: number, data: Uint8Array | undefined): void {
    this.#reads.answered(disk, request, data);
    this.give();
  }

  /** Reads that failed are tried again. */
  tick(): void {
    this.#reads.tick();
  }

  /** For go-live. `pending`: disk operations without a completion at the log's end. */
  pastOutputs(pending: readonly DiskRequestOutput[]): PastOutputs {
    return this.#outputs.takeover(pending);
  }
}
