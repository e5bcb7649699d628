import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { epoch, instanceId, vmId } from '../../src/ft/identity.ts';
import type { DiskAnswer, DiskOperation } from '../../src/storage/fenced-disk.ts';
import { NbdClientConnection } from '../../src/storage/nbd-client-connection.ts';
import { NbdBrokenError, NbdRefusedError } from '../../src/storage/nbd-disk.ts';
import {
  encodeOptionReply,
  encodeSimpleReply,
  NBD_MAGIC,
  NBD_OPTION,
  NBD_OPTION_MAGIC,
  NBD_REPLY,
} from '../../src/storage/nbd-wire.ts';
import { ConnectionClosedError } from '../../src/storage/socket-reader.ts';
import { mutated } from './mutation.ts';
import { holds, type Target } from './target.ts';

/** The other end says what the test has written down, whatever it hears. */
class Scripted extends Duplex {
  override _read(): void {}
  override _write(_chunk: unknown, _encoding: unknown, done: () => void): void {
    done();
  }
}

const READ: DiskOperation = { kind: 'read', offset: 0, length: 8 };
const WRITE: DiskOperation = { kind: 'write', offset: 0, data: new Uint8Array(8), durable: false };

function greeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(NBD_MAGIC, 0);
  bytes.writeBigUInt64BE(NBD_OPTION_MAGIC, 8);
  bytes.writeUInt16BE(3, 16);
  return bytes;
}

function exported(): Buffer {
  const info = Buffer.alloc(12);
  info.writeBigUInt64BE(4096n, 2);
  info.writeUInt16BE(1 + 4 + 8 + 256, 10);
  return info;
}

const OPENED = Buffer.from('{"verdict":"ok"}');
const HANDSHAKE = Buffer.concat([
  greeting(),
  encodeOptionReply(NBD_OPTION.lockstepOpen, NBD_REPLY.lockstep, OPENED),
  encodeOptionReply(NBD_OPTION.go, NBD_REPLY.info, exported()),
  encodeOptionReply(NBD_OPTION.go, NBD_REPLY.ack, Buffer.alloc(0)),
]);
const WHOLE = Buffer.concat([
  HANDSHAKE,
  encodeSimpleReply(2n, 0),
  encodeSimpleReply(1n, 0),
  Buffer.from('the data'),
]);

/** A disk server's whole conversation: each operation is answered once, in its own length, or has no answer. */
export const nbdAnswers: Target = {
  name: 'NBD server answers',
  share: 0.04,
  run: async (random) => {
    const bytes = mutated(random, WHOLE, WHOLE);
    const socket = new Scripted();
    socket.on('error', () => {});
    const say = (from: number, to: number): void => {
      for (let at = from; at < Math.min(to, bytes.length); ) {
        const length = 1 + random.below(bytes.length);
        socket.push(bytes.subarray(at, Math.min(to, at + length)));
        at += length;
      }
    };
    // A server answers when it is asked; what is left of it comes, then it hangs up.
    say(0, HANDSHAKE.length);
    let asked = false;
    const ending = setImmediate(() => {
      if (!asked) socket.push(null);
    });
    let answered = 0;
    try {
      const connection = await NbdClientConnection.greet(socket as unknown as Socket, 'fuzz');
      await connection.openGeneration('vda', vmId('vm'), epoch(1), instanceId('a'));
      await connection.attach('vda');
      asked = true;
      const answers = Promise.allSettled([connection.execute(READ), connection.execute(WRITE)]);
      say(HANDSHAKE.length, bytes.length);
      socket.push(null);
      for (const [index, answer] of (await answers).entries()) {
        if (answer.status === 'rejected') throw answer.reason;
        answered += 1;
        checkAnswer(answer.value, index === 0 ? 8 : 0, bytes);
      }
    } catch (error) {
      const known = [NbdRefusedError, NbdBrokenError, ConnectionClosedError];
      if (!known.some((kind) => error instanceof kind)) throw error;
    } finally {
      clearImmediate(ending);
      socket.destroy();
    }
    return answered === 2;
  },
};

function checkAnswer(answer: DiskAnswer, length: number, bytes: Buffer): void {
  if (answer.status !== 'ok') return;
  holds(answer.data.length === length, `an answer of ${answer.data.length} bytes`, bytes);
}
