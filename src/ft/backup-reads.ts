import { hash128 } from '../base/hash.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { FtAction } from './action.ts';

interface Asked {
  readonly request: DiskRequestOutput;
  /** What the disk answered; undefined while it has not, or answered what it cannot have been. */
  data: Uint8Array | undefined;
  /** What it answered last was not what the primary had read. */
  unlike: boolean;
  underWay: boolean;
}

type Reference = LogEntry & { readonly kind: 'read-reference' };

/**
 * The backup's half of reads that it executes itself [FT 4.2]. When its guest asks for a read again, it is read from this
 * side's view of the disk; the entry that refers to it is completed with what was read, and until then that entry and all
 * behind it wait. What cannot be read, or has another hash, is read again at the next tick, until it succeeds.
 */
export class BackupReads {
  readonly #do: (action: FtAction) => void;
  readonly #asked = new Map<string, Asked>();
  /** Completed by the log already, and not asked for yet by a guest that is behind. */
  readonly #known = new Set<string>();
  #waiting: LogEntry[] = [];
  /** Of the last entry that was completed here. */
  #lastSequence = 0n;
  readonly #told = new Set<string>();

  constructor(perform: (action: FtAction) => void) {
    this.#do = perform;
  }

  /** Every entry so far has gone to the vCPU. */
  get empty(): boolean {
    return this.#waiting.length === 0;
  }

  /** The replaying guest asks for this. */
  made(request: DiskRequestOutput): void {
    if (this.#known.delete(keyOf(request))) return;
    const asked = { request, data: undefined, unlike: false, underWay: false };
    this.#asked.set(keyOf(request), asked);
    this.#read(asked);
  }

  /** The disk has answered; without data: the read failed. */
  answered(disk: number, request: number, data: Uint8Array | undefined): void {
    const asked = this.#asked.get(keyOf({ disk, request }));
    if (!asked) return;
    asked.underWay = false;
    asked.data = data;
  }

  /** The next entries of the log, in order. */
  add(entries: readonly LogEntry[]): void {
    this.#waiting.push(...entries);
  }

  /** What may be replayed now, in order. */
  take(): readonly LogEntry[] {
    const ready: LogEntry[] = [];
    for (const entry of this.#waiting) {
      const known = entry.kind === 'read-reference' ? this.#resolved(entry) : entry;
      if (!known) break;
      if (known.kind === 'input' && known.input.kind === 'disk-completed') this.#completed(known.input);
      if (entry !== known) this.#lastSequence = entry.sequence;
      ready.push(known);
    }
    if (ready.length > 0) this.#waiting = this.#waiting.slice(ready.length);
    return ready;
  }

  /** With what was replayed from `before` to `now` a read is over for which a write may wait. */
  over(before: bigint, now: bigint): boolean {
    return before < this.#lastSequence && this.#lastSequence <= now;
  }

  /** What has failed is tried again. */
  tick(): void {
    const [first] = this.#waiting;
    if (first?.kind !== 'read-reference') return;
    const asked = this.#asked.get(keyOf(first));
    if (!asked || asked.underWay) return;
    // The primary could read it: this backup stands still over it.
    if (asked.data === undefined && !asked.unlike)
      this.#tell(
        asked.request,
        'cannot be read here, and the primary has read it; trying again until it can',
      );
    this.#read(asked);
  }

  /** Of what neither failed nor brings data nobody knows that it was a read. */
  #completed({ disk, request, status, data }: DiskCompletedInput): void {
    const key = keyOf({ disk, request });
    if (!this.#asked.delete(key) && (data.length > 0 || status === 'error')) this.#known.add(key);
  }

  #resolved({ sequence, at, disk, request, length, hash }: Reference): LogEntry | undefined {
    const asked = this.#asked.get(keyOf({ disk, request }));
    const data = asked?.data;
    if (!asked || !data) return undefined;
    if (data.length !== length || hash128(data) !== hash) {
      asked.data = undefined;
      asked.unlike = true;
      this.#tell(asked.request, 'is not read here as the primary has read it; reading again until it is');
      return undefined;
    }
    const input = { kind: 'disk-completed', disk, request, status: 'ok', data } as const;
    return { sequence, at, kind: 'input', input };
  }

  #read(asked: Asked): void {
    asked.underWay = true;
    asked.unlike = false;
    this.#do({ kind: 'replay-disk', request: asked.request });
  }

  /** Each of what can be wrong once. */
  #tell({ disk, offset }: DiskRequestOutput, what: string): void {
    if (this.#told.has(what)) return;
    this.#told.add(what);
    this.#do({ kind: 'state', state: 'disk-read', detail: `disk ${disk} at ${offset} ${what}` });
  }
}

function keyOf({ disk, request }: { readonly disk: number; readonly request: number }): string {
  return `${disk}/${request}`;
}
