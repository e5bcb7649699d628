import type { Socket } from 'node:net';
import { instanceId, vmId } from '../ft/identity.ts';
import { parseArbiter, parseOpen, parseReading } from './arbiter-message.ts';
import type { DiskExport } from './disk-export.ts';
import type { DiskAnswer, DiskOperation, DiskSession } from './fenced-disk.ts';
import {
  decodeRequest,
  encodeOptionReply,
  encodeSimpleReply,
  NBD_COMMAND,
  NBD_COMMAND_FLAG,
  NBD_ERROR,
  NBD_EXPORT_FLAG,
  NBD_HANDSHAKE_FLAG,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPTION,
  NBD_OPTION_LENGTH_MAX,
  NBD_OPTION_MAGIC,
  NBD_PAYLOAD_LENGTH_MAX,
  NBD_REPLY,
  NBD_REQUEST_LENGTH,
  type NbdRequest,
} from './nbd-wire.ts';
import { SocketReader } from './socket-reader.ts';

interface Attached {
  readonly target: DiskExport;
  readonly session: DiskSession;
}

const IN_FLIGHT_MAX = 64;
/** Bytes of the operations of one connection that are under way; one operation may always be. */
const IN_FLIGHT_BYTES_MAX = 2 * NBD_PAYLOAD_LENGTH_MAX;
/**
 * Connections are counted, so a stranger's that asks for no disk may not stay. The arbiter's clients never attach:
 * they stay once they have asked about a disk.
 */
export const HANDSHAKE_MS_MAX = 5_000;
const EMPTY = Buffer.alloc(0);

/** The server's side of one NBD connection, from the greeting to its end. */
export async function serveNbdConnection(socket: Socket, exports: readonly DiskExport[]): Promise<void> {
  const reader = new SocketReader(socket);
  const patience = setTimeout(() => socket.destroy(), HANDSHAKE_MS_MAX);
  const stays = () => clearTimeout(patience);
  const attached = await haggle(socket, reader, exports, stays).finally(stays);
  if (attached !== undefined) await transmit(socket, reader, attached);
  socket.end();
}

/**
 * Options until the client attaches to a disk [NBD "Fixed newstyle negotiation"]. `stays` is called once it is known
 * to be one of Lockstep's own.
 */
async function haggle(
  socket: Socket,
  reader: SocketReader,
  exports: readonly DiskExport[],
  stays: () => void,
): Promise<Attached | undefined> {
  const greeting = Buffer.alloc(18);
  greeting.writeBigUInt64BE(NBD_MAGIC, 0);
  greeting.writeBigUInt64BE(NBD_OPTION_MAGIC, 8);
  greeting.writeUInt16BE(NBD_HANDSHAKE_FLAG.fixedNewstyle | NBD_HANDSHAKE_FLAG.noZeroes, 16);
  socket.write(greeting);
  const noZeroes = ((await reader.read(4)).readUInt32BE(0) & NBD_HANDSHAKE_FLAG.noZeroes) !== 0;
  let opened: Attached | undefined;

  for (;;) {
    // Who does not read the replies gets no further options read.
    if (socket.writableNeedDrain) await drained(socket);
    // What it has sent before it left may be much, and nobody is there for the answers.
    if (socket.destroyed) return undefined;
    const head = await reader.read(16);
    const option = head.readUInt32BE(8);
    const length = head.readUInt32BE(12);
    if (head.readBigUInt64BE(0) !== NBD_OPTION_MAGIC || length > NBD_OPTION_LENGTH_MAX) return undefined;
    const data = await reader.read(length);
    const reply = (type: number, content: Uint8Array = EMPTY) =>
      socket.write(encodeOptionReply(option, type, content));
    const attach = (name: string): Attached | 'unknown' | 'fenced' => {
      if (opened !== undefined && (opened.target.name === name || name === '')) return opened;
      const target = name === '' ? exports[0] : exports.find((each) => each.name === name);
      if (target === undefined) return 'unknown';
      const session = target.disk.openWithoutGeneration();
      return session === undefined ? 'fenced' : { target, session };
    };

    switch (option) {
      case NBD_OPTION.exportName: {
        // This old option has no way to say no but to hang up.
        const attached = attach(data.toString('utf8'));
        if (typeof attached === 'string') return undefined;
        const answer = Buffer.alloc(noZeroes ? 10 : 134);
        answer.writeBigUInt64BE(BigInt(attached.target.disk.backend.size), 0);
        answer.writeUInt16BE(exportFlags(attached.target), 8);
        socket.write(answer);
        return attached;
      }
      case NBD_OPTION.info: {
        // What a disk is may be asked whoever has it.
        const name = nameInGo(data);
        const target = exports.find((each) => each.name === name);
        if (name === undefined) reply(NBD_REPLY.errorInvalid);
        else if (target === undefined) reply(NBD_REPLY.errorUnknown, Buffer.from('no disk has this name'));
        else {
          for (const info of describe(target)) reply(NBD_REPLY.info, info);
          reply(NBD_REPLY.ack);
        }
        break;
      }
      case NBD_OPTION.go: {
        const name = nameInGo(data);
        const attached = name === undefined ? undefined : attach(name);
        if (attached === undefined) reply(NBD_REPLY.errorInvalid);
        else if (attached === 'unknown') reply(NBD_REPLY.errorUnknown, Buffer.from('no disk has this name'));
        else if (attached === 'fenced')
          reply(NBD_REPLY.errorPolicy, Buffer.from('a generation has this disk: open it with its epoch'));
        else {
          for (const info of describe(attached.target)) reply(NBD_REPLY.info, info);
          reply(NBD_REPLY.ack);
          return attached;
        }
        break;
      }
      case NBD_OPTION.list:
        for (const { name } of exports) {
          const bytes = Buffer.from(name);
          const item = Buffer.alloc(4 + bytes.length);
          item.writeUInt32BE(bytes.length, 0);
          bytes.copy(item, 4);
          reply(NBD_REPLY.server, item);
        }
        reply(NBD_REPLY.ack);
        break;
      case NBD_OPTION.lockstepOpen: {
        const reading = parseReading(data);
        const message = parseOpen(data);
        const target = exports.find((each) => each.name === (reading ?? message)?.disk);
        if (reading !== undefined && target !== undefined) {
          stays();
          const session = await target.openForReading(reading.ofAnyVm ? undefined : vmId(reading.vm));
          opened = session === undefined ? undefined : { target, session };
          const verdict = { verdict: session === undefined ? 'refused' : 'ok' };
          reply(NBD_REPLY.lockstep, Buffer.from(JSON.stringify(verdict)));
          break;
        }
        if (message === undefined || target === undefined) {
          reply(message === undefined ? NBD_REPLY.errorInvalid : NBD_REPLY.errorUnknown);
          break;
        }
        // An opening may take its time: older operations have to end first.
        stays();
        const session = await target.openGeneration(
          vmId(message.vm),
          message.epoch,
          instanceId(message.instance),
        );
        opened = session === undefined ? undefined : { target, session };
        const verdict = { verdict: session === undefined ? 'refused' : 'ok', fence: target.disk.fence.epoch };
        reply(NBD_REPLY.lockstep, Buffer.from(JSON.stringify(verdict)));
        break;
      }
      case NBD_OPTION.lockstepArbiter: {
        const message = parseArbiter(data);
        const target = exports.find((each) => each.name === message?.disk);
        if (target !== undefined) stays();
        const answer =
          message === undefined ? undefined : await target?.arbitrate(message.request, message.leaseMs);
        if (answer === undefined)
          reply(message === undefined ? NBD_REPLY.errorInvalid : NBD_REPLY.errorUnknown);
        else reply(NBD_REPLY.lockstep, Buffer.from(JSON.stringify(answer)));
        break;
      }
      case NBD_OPTION.abort:
        reply(NBD_REPLY.ack);
        return undefined;
      default:
        reply(NBD_REPLY.errorUnsupported);
    }
  }
}

/** Requests until the client leaves; several execute at once, and are answered as they end. */
async function transmit(socket: Socket, reader: SocketReader, { target, session }: Attached): Promise<void> {
  const inFlight = new Set<Promise<void>>();
  let bytes = 0;
  for (;;) {
    const request = decodeRequest(await reader.read(NBD_REQUEST_LENGTH));
    if (request === undefined || request.command === NBD_COMMAND.disconnect) break;
    const carries = request.command === NBD_COMMAND.read || request.command === NBD_COMMAND.write;
    if (carries && request.length > NBD_PAYLOAD_LENGTH_MAX) break;
    const data = request.command === NBD_COMMAND.write ? await reader.read(request.length) : EMPTY;
    const operation = operationOf(request, data);
    const answered = (
      operation === undefined ? Promise.resolve(NBD_ERROR.invalid) : session.execute(operation)
    ).then((answer) => {
      const error = typeof answer === 'number' ? answer : errorOf(answer);
      socket.cork();
      socket.write(encodeSimpleReply(request.handle, error));
      if (typeof answer !== 'number' && answer.status === 'ok' && answer.data.length > 0)
        socket.write(answer.data);
      socket.uncork();
    });
    const length = carries ? request.length : 0;
    const settled = answered.finally(() => {
      inFlight.delete(settled);
      bytes -= length;
    });
    inFlight.add(settled);
    bytes += length;
    while (
      !socket.destroyed &&
      (inFlight.size >= IN_FLIGHT_MAX ||
        bytes > IN_FLIGHT_BYTES_MAX ||
        socket.writableLength > NBD_PAYLOAD_LENGTH_MAX)
    ) {
      if (inFlight.size > 0) await Promise.race(inFlight);
      if (socket.writableLength > NBD_PAYLOAD_LENGTH_MAX) await drained(socket);
    }
  }
  await Promise.all(inFlight);
  // [NBD NBD_CMD_DISC]: what was answered before is on the disk; a leaving client may never flush.
  if (!session.fenced && !target.disk.backend.readOnly) await session.execute({ kind: 'flush' });
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve();
    const end = () => {
      socket.off('drain', end);
      socket.off('close', end);
      resolve();
    };
    socket.on('drain', end);
    socket.on('close', end);
  });
}

function operationOf(request: NbdRequest, data: Uint8Array): DiskOperation | undefined {
  if (request.offset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  const offset = Number(request.offset);
  const durable = (request.flags & NBD_COMMAND_FLAG.fua) !== 0;
  const { length } = request;
  switch (request.command) {
    case NBD_COMMAND.read:
      return { kind: 'read', offset, length };
    case NBD_COMMAND.write:
      return { kind: 'write', offset, data, durable };
    case NBD_COMMAND.trim:
      return { kind: 'discard', offset, length, durable };
    case NBD_COMMAND.writeZeroes: {
      const kept = (request.flags & NBD_COMMAND_FLAG.noHole) !== 0;
      return { kind: kept ? 'write-zeroes' : 'discard', offset, length, durable };
    }
    case NBD_COMMAND.flush:
      return { kind: 'flush' };
    default:
      return undefined;
  }
}

function errorOf(answer: DiskAnswer): number {
  switch (answer.status) {
    case 'ok':
      return NBD_ERROR.none;
    case 'error':
      return NBD_ERROR.inputOutput;
    case 'read-only':
      return NBD_ERROR.notPermitted;
    case 'out-of-range':
      return NBD_ERROR.invalid;
    case 'no-space':
      return NBD_ERROR.noSpace;
    case 'fenced':
      return NBD_ERROR.shutdown;
  }
}

function exportFlags({ disk }: DiskExport): number {
  const { hasFlags, sendFlush, sendFua, sendTrim, sendWriteZeroes, canMultiConn, readOnly } = NBD_EXPORT_FLAG;
  // Multi-conn is true: all sessions share one file, so a flush on one covers the completed writes of all.
  const always = hasFlags | sendFlush | sendFua | canMultiConn;
  return always | (disk.backend.readOnly ? readOnly : sendTrim | sendWriteZeroes);
}

function describe(target: DiskExport): Buffer[] {
  const size = Buffer.alloc(12);
  size.writeUInt16BE(NBD_INFO.export, 0);
  size.writeBigUInt64BE(BigInt(target.disk.backend.size), 2);
  size.writeUInt16BE(exportFlags(target), 10);
  const blocks = Buffer.alloc(14);
  blocks.writeUInt16BE(NBD_INFO.blockSize, 0);
  blocks.writeUInt32BE(1, 2);
  blocks.writeUInt32BE(4096, 6);
  blocks.writeUInt32BE(NBD_PAYLOAD_LENGTH_MAX, 10);
  return [size, blocks];
}

function nameInGo(data: Buffer): string | undefined {
  if (data.length < 6) return undefined;
  const length = data.readUInt32BE(0);
  return length > data.length - 6 ? undefined : data.toString('utf8', 4, 4 + length);
}
