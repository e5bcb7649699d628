import { unreachable } from '../base/assert.ts';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { decodeText, encodeText } from '../base/text.ts';
import { instructionCount } from '../base/units.ts';
import { decodeEntry, decodeOutput, encodeEntry, encodeOutput, hexBytes, hexText } from '../replay/codec.ts';
import { encodeFrame, FRAME_TAG, type Frame } from '../replay/frame.ts';
import { type CopyName, NO_COPY } from './copy-name.ts';
import { epoch, instanceId, vmId } from './identity.ts';
import { type Envelope, type Heartbeat, type Message, PROTOCOL_VERSION } from './message.ts';
import type { Introduction, Program } from './program.ts';

const NOTHING = new Uint8Array(0);

/** Messages of the logging channel to frames and back (docs/LOG_FORMAT.md). */

export function encodeMessage(message: Message): Uint8Array {
  if (message.kind === 'entry') return encodeEntry(message.entry);
  const body = new ByteWriter(
    'bytes' in message && typeof message.bytes !== 'number' ? message.bytes.length : 128,
  );
  writeBody(body, message);
  const tag = FRAME_TAG[message.kind === 'other-version' ? message.greeting : message.kind];
  return encodeFrame(tag, body.finish());
}

function writeBody(body: ByteWriter, message: Exclude<Message, { kind: 'entry' }>): void {
  switch (message.kind) {
    case 'hello':
      writeIntroduction(body, message);
      body
        .bool(message.fresh)
        .u32(message.attempt)
        .bool(message.purpose === 'move');
      return;
    case 'welcome':
      writeIntroduction(body, message);
      body.bool(message.loaded).u64(message.received);
      writeCopy(body, message.copy);
      return;
    case 'other-version':
      writeHead(body, message).raw(message.rest);
      return;
    case 'snapshot-begin':
      body.uint(message.bytes).u64(message.count).u64(message.position.outputs);
      body.u64(message.released).raw(hexBytes(message.digest));
      body.u32(message.stoodUs).bool(message.faultTolerance);
      return;
    case 'held-output':
      body.u64(message.output.number).u64(message.output.at).raw(hexBytes(message.output.hash));
      body.bytes(encodeOutput(message.output.output));
      return;
    case 'pages':
    case 'snapshot-part':
      body.raw(message.bytes);
      return;
    case 'snapshot-end':
    case 'disks-end':
    case 'disks-whole':
      return;
    case 'disks-begin':
      body.bool(message.whole);
      return;
    case 'disk-block': {
      const { disk, offset, length } = message.extent;
      body
        .u8(disk)
        .uint(offset)
        .u32(length)
        .raw(message.data ?? NOTHING);
      return;
    }
    case 'blocks-stored':
      body.uint(message.blocks);
      return;
    case 'disks-secured':
      body.u64(message.position);
      return;
    case 'take-over':
      body.bool(message.faultTolerance);
      return;
    case 'staged':
      body.uint(message.parts);
      return;
    case 'ack':
      body.u64(message.received).u64(message.replayed);
      return;
    case 'over':
      body.uint(message.epoch);
      return;
    case 'diverged':
      body.bytes(encodeText(message.reason));
      return;
    default:
      unreachable(message);
  }
}

export function decodeMessage(frame: Frame): Result<Message> {
  if (frame.tag < 64) {
    const entry = decodeEntry(frame);
    return entry.ok ? ok({ kind: 'entry', entry: entry.value }) : entry;
  }
  const body = new ByteReader(frame.body);
  try {
    const message = readBody(frame.tag, body);
    if (!message) return failed(`a message with the unknown tag ${frame.tag}`);
    if (body.remaining > 0) return failed(`the message ${message.kind} has ${body.remaining} bytes too many`);
    return ok(message);
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof RangeError) {
      return failed(`a message with tag ${frame.tag} is malformed: ${error.message}`);
    }
    throw error;
  }
}

function readBody(tag: number, body: ByteReader): Message | undefined {
  switch (tag) {
    case FRAME_TAG.hello: {
      const head = readHead(body);
      if (head.version !== PROTOCOL_VERSION) return otherVersion('hello', head, body);
      const greeting = { kind: 'hello', ...head, program: readProgram(body) } as const;
      const [fresh, attempt] = [readBool(body), body.u32()];
      return { ...greeting, fresh, attempt, purpose: readBool(body) ? 'move' : 'pair' };
    }
    case FRAME_TAG.welcome: {
      const head = readHead(body);
      if (head.version !== PROTOCOL_VERSION) return otherVersion('welcome', head, body);
      const program = readProgram(body);
      const [loaded, received] = [readBool(body), body.u64()];
      const copy = readCopy(body);
      return { kind: 'welcome', ...head, program, loaded, received, ...(copy && { copy }) };
    }
    case FRAME_TAG['snapshot-begin']: {
      const bytes = body.uint();
      const count = instructionCount(body.u64());
      const outputs = body.u64();
      const position = { outputs };
      return {
        kind: 'snapshot-begin',
        bytes,
        count,
        position,
        released: body.u64(),
        digest: hexText(body.raw(16)),
        stoodUs: body.u32(),
        faultTolerance: readBool(body),
      };
    }
    case FRAME_TAG['held-output']: {
      const number = body.u64();
      const at = instructionCount(body.u64());
      const hash = hexText(body.raw(16));
      return { kind: 'held-output', output: { number, at, hash, output: decodeOutput(body.bytes()) } };
    }
    case FRAME_TAG.pages:
      return { kind: 'pages', bytes: body.raw(body.remaining) };
    case FRAME_TAG.staged:
      return { kind: 'staged', parts: body.uint() };
    case FRAME_TAG['snapshot-part']:
      return { kind: 'snapshot-part', bytes: body.raw(body.remaining) };
    case FRAME_TAG['snapshot-end']:
      return { kind: 'snapshot-end' };
    case FRAME_TAG['disks-begin']:
      return { kind: 'disks-begin', whole: readBool(body) };
    case FRAME_TAG['disk-block']: {
      const extent = { disk: body.u8(), offset: body.uint(), length: body.u32() };
      const data = body.remaining === 0 ? undefined : body.raw(body.remaining);
      if (extent.length === 0 || (data && data.length !== extent.length))
        throw new TruncatedError('a block is not as long as it says');
      return { kind: 'disk-block', extent, data };
    }
    case FRAME_TAG['disks-end']:
      return { kind: 'disks-end' };
    case FRAME_TAG['blocks-stored']:
      return { kind: 'blocks-stored', blocks: body.uint() };
    case FRAME_TAG['disks-whole']:
      return { kind: 'disks-whole' };
    case FRAME_TAG['disks-secured']:
      return { kind: 'disks-secured', position: body.u64() };
    case FRAME_TAG['take-over']:
      return { kind: 'take-over', faultTolerance: readBool(body) };
    case FRAME_TAG.ack:
      return { kind: 'ack', received: body.u64(), replayed: body.u64() };
    case FRAME_TAG.over:
      return { kind: 'over', epoch: epoch(body.uint()) };
    case FRAME_TAG.diverged:
      return { kind: 'diverged', reason: readText(body) };
    default:
      return undefined;
  }
}

/** A heartbeat is one frame, one datagram. */
export function encodeHeartbeat(heartbeat: Heartbeat): Uint8Array {
  const body = writeEnvelope(new ByteWriter(), heartbeat).u64(heartbeat.received).u64(heartbeat.replayed);
  return encodeFrame(FRAME_TAG.heartbeat, body.finish());
}

export function decodeHeartbeat(frame: Frame): Result<Heartbeat> {
  if (frame.tag !== FRAME_TAG.heartbeat) return failed('not a heartbeat');
  const body = new ByteReader(frame.body);
  try {
    const heartbeat = { ...readEnvelope(body), received: body.u64(), replayed: body.u64() };
    return body.remaining === 0 ? ok(heartbeat) : failed('a heartbeat has bytes too many');
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof RangeError)
      return failed('a heartbeat is malformed');
    throw error;
  }
}

function writeEnvelope(body: ByteWriter, envelope: Envelope): ByteWriter {
  return body.bytes(encodeText(envelope.vm)).uint(envelope.generation).bytes(encodeText(envelope.sender));
}

function readEnvelope(body: ByteReader): Envelope {
  return { vm: vmId(readText(body)), generation: epoch(body.uint()), sender: instanceId(readText(body)) };
}

type Head = Envelope & Pick<Introduction, 'version' | 'host'>;

/** A greeting begins like this in every version of the protocol. */
function writeHead(body: ByteWriter, head: Head): ByteWriter {
  return writeEnvelope(body, head).u32(head.version).bytes(encodeText(head.host));
}

function readHead(body: ByteReader): Head {
  return { ...readEnvelope(body), version: body.u32(), host: readText(body) };
}

/** What another version has behind its head is its own affair. */
function otherVersion(greeting: 'hello' | 'welcome', head: Head, body: ByteReader): Message {
  return { kind: 'other-version', greeting, ...head, rest: body.raw(body.remaining) };
}

function writeIntroduction(body: ByteWriter, introduction: Introduction & Envelope): void {
  const { machine, build, logFormat, snapshotFormat } = introduction.program;
  writeHead(body, introduction).bytes(encodeText(machine)).bytes(encodeText(build));
  body.u32(logFormat).u32(snapshotFormat);
}

function readProgram(body: ByteReader): Program {
  const [machine, build] = [readText(body), readText(body)];
  return { machine, build, logFormat: body.u32(), snapshotFormat: body.u32() };
}

function writeCopy(body: ByteWriter, { id, follows }: CopyName = NO_COPY): void {
  body.bytes(encodeText(id)).bool(follows !== undefined);
  if (follows) body.bytes(encodeText(follows.primary)).uint(follows.generation);
}

function readCopy(body: ByteReader): CopyName | undefined {
  const id = readText(body);
  if (!readBool(body)) return id === '' ? undefined : { id, follows: undefined };
  return { id, follows: { primary: instanceId(readText(body)), generation: epoch(body.uint()) } };
}

/** Strict, as everything here: two spellings of one name would be two names somewhere. */
function readText(body: ByteReader): string {
  const bytes = body.bytes();
  const text = decodeText(bytes);
  const spelt = encodeText(text);
  if (spelt.length !== bytes.length || spelt.some((byte, index) => byte !== bytes[index]))
    throw new TruncatedError('a text is not UTF-8');
  return text;
}

function readBool(body: ByteReader): boolean {
  const value = body.u8();
  if (value > 1) throw new TruncatedError(`${value} is neither true nor false`);
  return value === 1;
}
