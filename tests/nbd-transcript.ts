import {
  NBD_COMMAND,
  NBD_OPTION,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  NBD_REPLY,
  NBD_SIMPLE_REPLY_LENGTH,
} from '../src/storage/nbd-wire.ts';
import type { TappedConnection } from './tap.ts';

/** One write of an NBD connection. */
export interface TappedWrite {
  readonly offset: bigint;
  readonly length: number;
  /** Where its request begins in what the client sent. */
  readonly at: number;
  /** 0: done. Undefined: no answer. */
  readonly error: number | undefined;
}

/** All writes of a tapped NBD connection; none when it never got beyond its options. */
export function writesOf({ sent, answered }: TappedConnection): TappedWrite[] {
  const bytes = Buffer.concat(sent);
  let at = 4;
  let going = false;
  while (!going && at + 16 <= bytes.length && bytes.readBigUInt64BE(at) === NBD_OPTION_MAGIC) {
    going = bytes.readUInt32BE(at + 8) === NBD_OPTION.go;
    at += 16 + bytes.readUInt32BE(at + 12);
  }
  if (!going) return [];
  const reads = new Map<bigint, number>();
  const writes: (Omit<TappedWrite, 'error'> & { handle: bigint })[] = [];
  // Request: magic, flags, command, handle, offset, length [NBD protocol, request message].
  while (at + 28 <= bytes.length) {
    const command = bytes.readUInt16BE(at + 6);
    const [handle, offset] = [bytes.readBigUInt64BE(at + 8), bytes.readBigUInt64BE(at + 16)];
    const length = bytes.readUInt32BE(at + 24);
    if (command === NBD_COMMAND.read) reads.set(handle, length);
    if (command === NBD_COMMAND.write) writes.push({ offset, length, at, handle });
    at += 28 + (command === NBD_COMMAND.write ? length : 0);
  }
  const errors = errorsOf(Buffer.concat(answered), reads);
  return writes.map(({ handle, ...write }) => ({ ...write, error: errors.get(handle) }));
}

function errorsOf(bytes: Buffer, reads: ReadonlyMap<bigint, number>): Map<bigint, number> {
  let at = 18;
  while (at + 20 <= bytes.length && bytes.readBigUInt64BE(at) === NBD_OPTION_REPLY_MAGIC) {
    const last =
      bytes.readUInt32BE(at + 8) === NBD_OPTION.go && bytes.readUInt32BE(at + 12) === NBD_REPLY.ack;
    at += 20 + bytes.readUInt32BE(at + 16);
    if (last) break;
  }
  const errors = new Map<bigint, number>();
  while (at + NBD_SIMPLE_REPLY_LENGTH <= bytes.length) {
    const error = bytes.readUInt32BE(at + 4);
    const handle = bytes.readBigUInt64BE(at + 8);
    errors.set(handle, error);
    at += NBD_SIMPLE_REPLY_LENGTH + (error === 0 ? (reads.get(handle) ?? 0) : 0);
  }
  return errors;
}
