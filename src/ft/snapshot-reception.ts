import { failed, ok, type Result } from '../base/result.ts';
import { outputBytes } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { MachineSnapshot } from './event.ts';
import type { Message } from './message.ts';

/** More than any guest with 3.5 GiB of RAM can need: a length above it is refused before memory is taken. */
const SNAPSHOT_MAX_BYTES = 4 * 1024 * 1024 * 1024 - 1;

/** Several times what a primary's hold queue may hold. */
const HELD_MAX_BYTES = 256 * 1024 * 1024;

export interface ReceivedSnapshot {
  readonly snapshot: MachineSnapshot;
  readonly released: bigint;
  /** The hold queue: outputs above `released`, in order. */
  readonly held: readonly NumberedOutput[];
}

export type SnapshotMessage = Extract<
  Message,
  { kind: 'snapshot-begin' | 'held-output' | 'snapshot-part' | 'snapshot-end' }
>;

/** Puts the parts of a snapshot together. Any disorder is one line, and the whole snapshot is refused. */
export class SnapshotReception {
  #begin: Extract<Message, { kind: 'snapshot-begin' }> | undefined;
  #machine = new Uint8Array(0);
  #filled = 0;
  #held: NumberedOutput[] = [];
  #heldBytes = 0;

  get begun(): boolean {
    return this.#begin !== undefined;
  }

  /** Undefined until the last part is there. */
  receive(message: SnapshotMessage): Result<ReceivedSnapshot | undefined> {
    if (message.kind === 'snapshot-begin') {
      if (this.#begin) return failed('a second snapshot begins');
      if (message.bytes > SNAPSHOT_MAX_BYTES) return failed(`a snapshot of ${message.bytes} bytes`);
      this.#begin = message;
      try {
        this.#machine = new Uint8Array(message.bytes);
      } catch {
        return failed(`there is no memory for a snapshot of ${message.bytes} bytes`);
      }
      return ok(undefined);
    }
    const begin = this.#begin;
    if (!begin) return failed(`${message.kind} before the snapshot begins`);
    if (message.kind === 'held-output') {
      const { number } = message.output;
      const before = this.#held.at(-1)?.number ?? begin.released;
      if (number <= before) return failed(`held output ${number} comes after ${before}`);
      this.#heldBytes += outputBytes(message.output.output);
      if (this.#heldBytes > HELD_MAX_BYTES) return failed('more held outputs than a primary may hold');
      this.#held.push(message.output);
      return ok(undefined);
    }
    if (message.kind === 'snapshot-part') {
      if (message.bytes.length > begin.bytes - this.#filled)
        return failed('a snapshot longer than announced');
      this.#machine.set(message.bytes, this.#filled);
      this.#filled += message.bytes.length;
      return ok(undefined);
    }
    if (this.#filled !== begin.bytes)
      return failed(`a snapshot of ${this.#filled} bytes instead of ${begin.bytes}`);
    const { count, position, digest, released } = begin;
    const snapshot = { machine: this.#machine, count, position, digest };
    return ok({ snapshot, released, held: this.#held });
  }
}
