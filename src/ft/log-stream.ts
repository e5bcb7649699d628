import { assert } from '../base/assert.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import { entryBytes } from './entry-bytes.ts';

/**
 * The log as one backup gets it: positions count from 1 in its generation, entries are kept until acked, so a
 * broken connection can be resumed after the last position that the backup names (rule 8).
 */
export class LogStream {
  /** Position in the primary's log at the snapshot; this stream's position 1 is base + 1. */
  readonly base: bigint;
  #kept: LogEntry[] = [];
  #bytes = 0;
  #end = 0n;
  /** The last position that went out on some connection: nobody can have got more. */
  #sent = 0n;
  #received = 0n;
  #replayed = 0n;

  constructor(base: bigint) {
    this.base = base;
  }

  /** Bytes that the backup has not acked. */
  get bytes(): number {
    return this.#bytes;
  }

  get end(): bigint {
    return this.#end;
  }

  get replayed(): bigint {
    return this.#replayed;
  }

  /** How far in the primary's log the backup has received everything. */
  get acked(): bigint {
    return this.base + this.#received;
  }

  /** `sent`: it goes out on a connection at once; otherwise it waits for one. */
  append(entry: LogEntry, sent: boolean): LogEntry {
    this.#end += 1n;
    assert(entry.sequence === this.base + this.#end, 'a stream gets every entry of the log');
    const own = { ...entry, sequence: this.#end };
    this.#kept.push(own);
    this.#bytes += entryBytes(own);
    if (sent) this.#sent = this.#end;
    return own;
  }

  /** False when the backup acks what was never sent, or replayed what it never received. */
  ack(received: bigint, replayed: bigint): boolean {
    if (received > this.#sent || replayed > received) return false;
    if (replayed > this.#replayed) this.#replayed = replayed;
    if (received <= this.#received) return true;
    const count = Number(received - this.#received);
    for (let index = 0; index < count; index++) this.#bytes -= entryBytes(this.#kept[index]!);
    this.#kept = this.#kept.slice(count);
    this.#received = received;
    return true;
  }

  /** The entries after `received`, to send now; undefined when they are gone or `received` was never sent. */
  after(received: bigint): readonly LogEntry[] | undefined {
    if (received < this.#received || received > this.#sent) return undefined;
    this.#sent = this.#end;
    return this.#kept.slice(Number(received - this.#received));
  }
}
